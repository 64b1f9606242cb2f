"""What a new user does: apply deploy/, edit the policy, run what the manifests say, look at it.

The manifests are applied as they are. There is no kubelet that could run the Deployments, so their
commands run here as processes, with their arguments, rights and certificates; replaced are paths,
ports, addresses, the kubeconfig in the place of a mounted token, and the port-forward in the place
of Services. Everything between them is TLS, as in a cluster.
"""

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from tests.controlplane.build import find
from tests.controlplane.certificates import Pair
from tests.controlplane.fleet import Engines, Forwarder
from tests.controlplane.kinds.world import WAIT_SECONDS, Object, World, eventually, kubelets
from tests.controlplane.plane import ControlPlane, Scheduler
from tests.controlplane.ports import LOOPBACK, free_ports
from tests.controlplane.programs import Guard, Program
from tests.controlplane.prometheus_server import PrometheusServer
from tests.controlplane.rig import LIVELY
from tests.controlplane.rights import DEPLOY, documents

pytestmark = pytest.mark.controlplane

HOME = "tidal-system"
BUILD = DEPLOY / "overlays" / "scheduler"
EXTENDER, API = f"tidal-extender.{HOME}.svc", f"tidal-api.{HOME}.svc"
KEEP = ("Namespace",)
"""Kinds that stay for other tests of the session."""
START_SECONDS = 120.0
END_SECONDS = 120.0
REQUEST_SECONDS = 120.0
Find = Callable[[str], Path]


class Certificates:
    """A Secret as a kubelet mounts it; `renew` replaces all files of it."""

    def __init__(self, folder: Path, make: Callable[[], Pair], authority: bytes) -> None:
        folder.mkdir()
        self.folder, self._make, self._authority = folder, make, authority
        self.renew()

    def renew(self) -> None:
        pair = self._make()
        files = {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": self._authority}
        for name, body in files.items():
            fresh = self.folder / f".{name}"
            fresh.write_bytes(body)
            fresh.replace(self.folder / name)


class Replica:
    """The container of deploy/base/deployment.yaml as a process."""

    def __init__(self, name: str, program: Program, ports: tuple[int, int, int]) -> None:
        self.name, self.program = name, program
        self.api, self.extender, self.health = ports

    def probe(self, path: str) -> tuple[int, str]:
        """As the kubelet asks, without TLS; 0 where nobody answers."""
        asked = http.client.HTTPConnection(LOOPBACK, self.health, timeout=REQUEST_SECONDS)
        with closing(asked) as link:
            try:
                link.request("GET", path)
                answer = link.getresponse()
                return answer.status, answer.read().decode()
            except (OSError, http.client.HTTPException):
                return 0, ""

    @property
    def answered(self) -> Object:
        """`GET /v1/extender`."""
        return dict(json.loads(self.probe("/v1/extender")[1]))

    def terminate(self) -> int | None:
        """As the kubelet does it; the status it ends with."""
        os.kill(self.program.pid, signal.SIGTERM)
        eventually(lambda: not self.program.running, f"the end of {self.name}", END_SECONDS)
        self.program.stop()
        return self.program.status


class Production:
    """deploy/ on the plane, and what runs of it."""

    def __init__(
        self, plane: ControlPlane, world: World, folder: Path, find: Find, stack: ExitStack
    ) -> None:
        self.plane, self.world, self.folder, self._stack = plane, world, folder, stack
        guarded = folder / "guarded"
        guarded.mkdir()
        self._guard = Guard(guarded)
        stack.callback(self._guard.close)
        self.replicas: list[Replica] = []
        self.engines = Engines(world, "assistant", "assistant")
        stack.callback(self.engines.close)
        (folder / "prometheus").mkdir()
        scraped: dict[str, dict[str, str]] = {self.engines.address: {}}
        self.prometheus = stack.enter_context(
            PrometheusServer(folder / "prometheus", find, scraped)
        )
        (self.extender_port,) = free_ports(1)
        forwarder = Forwarder(self.extender_port, self._ready)
        stack.callback(forwarder.close)
        authority = plane.authority
        self.server = Certificates(
            folder / "tidal-tls",
            lambda: authority.server(EXTENDER, API, LOOPBACK),
            authority.certificate,
        )
        self.client = Certificates(
            folder / "tidal-scheduler-tls",
            lambda: authority.client("tidal-scheduler"),
            authority.certificate,
        )

    def _ready(self) -> tuple[int, ...]:
        return tuple(one.extender for one in self.replicas if one.probe("/readyz")[0] == 200)

    # ---- deploy/ ---------------------------------------------------------------------------

    def apply(self) -> None:
        """`kubectl apply -k`; undone at the end."""
        text = self.plane.kubectl("kustomize", str(BUILD)).stdout
        built = [one for one in yaml.safe_load_all(text) if one]
        self._stack.callback(self._remove, built)
        self.built = built
        self.plane.kubectl("apply", "-k", str(BUILD))
        # nobody runs their pods, which would stay on the fake nodes
        self.plane.kubectl("-n", HOME, "scale", "deployment", "--all", "--replicas=0")

    def _remove(self, built: list[Object]) -> None:
        gone = [one for one in built if one["kind"] not in KEEP]
        text = yaml.safe_dump_all(gone)
        self.plane.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=text)
        for kind in ("configmap", "lease"):
            self.plane.kubectl("-n", HOME, "delete", kind, "--all")

    def container(self) -> Object:
        (found,) = [
            one["spec"]["template"]["spec"]["containers"][0]
            for one in self.built
            if one["kind"] == "Deployment" and one["metadata"]["name"] == "tidal"
        ]
        return dict(found)

    def start(self, name: str) -> Replica:
        """A pod of the Deployment."""
        api, extender, health = free_ports(3)
        ports = (api, extender, health)
        account = self.plane.kubeconfig_for_service_account(HOME, "tidal")
        here = {
            "--prometheus": self.prometheus.url,
            "--listen": LOOPBACK,
            "--ledger": str(self.folder / f"{name}.sqlite"),
            **dict(
                zip(("--port", "--extender-port", "--health-port"), map(str, ports), strict=True)
            ),
        }
        words = [self._here(one, name, here) for one in self.container()["args"]]
        command = [sys.executable, "-m", "scheduler.cli.main", *words, f"--kubeconfig={account}"]
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder)}
        log = self.folder / f"{name}.log"
        program = Program(name, command, log, environment, self._guard)
        self._stack.callback(program.stop)
        made = Replica(name, program, ports)
        self.replicas.append(made)
        return made

    def _here(self, word: str, name: str, here: dict[str, str]) -> str:
        option, given, value = word.partition("=")
        value = value.replace("$(POD_NAMESPACE)", HOME).replace("$(POD_NAME)", name)
        value = value.replace("/etc/tidal/tls", str(self.server.folder))
        return f"{option}{given}{here.get(option, value)}"

    def scheduler(self) -> Scheduler:
        """The kube-scheduler of overlays/scheduler."""
        text = (BUILD / "configuration.yaml").read_text()
        text = text.replace("/etc/tidal/tls", str(self.client.folder))
        document = yaml.safe_load(text)
        account = self.plane.kubeconfig_for_service_account(HOME, "tidal-scheduler")
        document["clientConnection"]["kubeconfig"] = str(account)
        (extender,) = document["extenders"]
        extender["urlPrefix"] = f"https://{LOOPBACK}:{self.extender_port}"
        extender["tlsConfig"]["serverName"] = EXTENDER
        return self.plane.start_scheduler("tidal-scheduler", overrides=document)

    def policy(self, edit: Callable[[Object], None]) -> None:
        """`kubectl edit configmap tidal-policy`."""
        got = self.plane.kubectl("-n", HOME, "get", "configmap", "tidal-policy", "-o", "json")
        there = json.loads(got.stdout)
        document = yaml.safe_load(there["data"]["policy.yaml"])
        edit(document)
        there["data"]["policy.yaml"] = yaml.safe_dump(document, sort_keys=False)
        self.plane.kubectl("replace", "-f", "-", stdin=json.dumps(there))

    def leads(self, one: Replica) -> bool:
        """Whether this replica holds the lease."""
        got = self.plane.kubectl(
            *("-n", HOME, "get", "lease", "tidal-planner", "--ignore-not-found"),
            *("-o", "jsonpath={.spec.holderIdentity}"),
        )
        return got.stdout.startswith(f"{one.name}_")

    def run(self) -> tuple[Replica, Replica]:
        """Both replicas, ready, kube-scheduler, which asks the follower, and two nodes of 8 GPUs.

        Returns leader and follower.
        """
        self.apply()
        self.prometheus.start()
        one, other = self.start("tidal-0"), self.start("tidal-1")
        self.scheduler()
        self._stack.enter_context(kubelets(self.world.api, 2, 8, LIVELY))
        for each in (one, other):
            each.program.wait_until(
                lambda each=each: each.probe("/readyz")[0] == 200,  # type: ignore[misc]
                START_SECONDS,
                "readiness",
            )
        eventually(lambda: self.leads(one) or self.leads(other), "a leader")
        leader, follower = (one, other) if self.leads(one) else (other, one)
        self.replicas = [follower, leader]
        return leader, follower

    def user(self, name: str, *, reads: bool) -> Path:
        """A kubeconfig of somebody who may find the daemon, and may read its API or not."""
        space = self.world.namespace
        self.plane.kubectl("-n", space, "create", "serviceaccount", name)
        who = f"--serviceaccount={space}:{name}"
        made = f"{space}-{name}"
        self.plane.kubectl(*("-n", HOME, "create", "rolebinding", made, "--role=tidal-reader", who))
        self._stack.callback(self.plane.kubectl, "-n", HOME, "delete", "rolebinding", made)
        if reads:
            self.plane.kubectl(
                "create", "clusterrolebinding", made, "--clusterrole=tidal-reader", who
            )
        return self.plane.kubeconfig_for_service_account(space, name)

    def process(self, name: str, words: list[str], environment: dict[str, str]) -> Program:
        """A further `scalerctl`."""
        command = [sys.executable, "-m", "scheduler.cli.main", *words]
        log = self.folder / f"{name}.log"
        program = Program(name, command, log, environment, self._guard)
        self._stack.callback(program.stop)
        return program


@pytest.fixture
def production(
    plane: ControlPlane, world: World, tmp_path: Path, program: Find
) -> Iterator[Production]:
    """deploy/ on the plane; nothing runs yet."""
    with ExitStack() as stack:
        stack.callback(world.api.delete, world.path("batch/v1/jobs"))
        yield Production(plane, world, tmp_path, program, stack)


def scalerctl(*words: str, name: str = "scalerctl") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / name), *words],
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )


# ---- serving and a loan ----------------------------------------------------------------------

SERVING: Object = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "assistant"},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "assistant"}},
        "template": {
            "metadata": {"labels": {"app": "assistant"}},
            "spec": {
                "schedulerName": "tidal-scheduler",
                "priorityClassName": "tidal-online",
                "containers": [
                    {
                        "name": "main",
                        "image": "engine:1",
                        "resources": {"limits": {"nvidia.com/gpu": "4"}},
                    }
                ],
            },
        },
    },
}


def aimed(namespace: str, least: int) -> Callable[[Object], None]:
    """The edit that a user makes: their workload, their GPU model, and `mode: act`."""

    def edit(policy: Object) -> None:
        policy["mode"] = "act"
        policy["preemption"] = {"minimum_runtime_seconds": 0, "notice_seconds": 1800}
        role = policy["models"]["assistant"]["roles"]["decode"]
        role |= {"gpus_per_pod": 4, "min_replicas": least}
        role["capacity_tokens_per_second"] = {"H100-SXM-80GB": 1000}
        role["target"]["namespace"] = namespace

    return edit


def node_of(one: Object) -> str:
    return str(one["spec"].get("nodeName", ""))


def note(one: Object, name: str) -> str:
    return str(one["metadata"].get("annotations", {}).get(f"tidal.dev/{name}", ""))


def events(world: World, name: str) -> list[tuple[str, str]]:
    """Reason and sentence of each Event of Tidal's on an object."""
    return [
        (one["reason"], one["note"])
        for one in world.all("events.k8s.io/v1/events")
        if one["regarding"]["name"] == name
        if one.get("reportingController", "").startswith("tidal.dev")
    ]


def test_a_deployment_is_placed_and_the_example_job_is_lent_gpus_and_gives_them_back(
    production: Production, plane: ControlPlane, tmp_path: Path
) -> None:
    world = production.world
    space = world.namespace
    production.engines.rate = 500
    _, follower = production.run()
    world.make("apps/v1/deployments", SERVING)
    production.policy(aimed(space, 1))

    def placed() -> list[Object]:
        pods = world.all("pods", "app=assistant")
        return [one for one in pods if one["status"]["phase"] == "Running"]

    eventually(placed, "the serving pod runs")
    asked = follower.answered["verbs"]["filter"]
    assert asked["calls"] >= 1, "kube-scheduler asks the follower"
    assert asked["errors"] == 0

    # the example, with its own account; it is asked of the follower, which learns of the plan
    text = (DEPLOY / "examples/job.yaml").read_text()
    text = text.replace("namespace: default", f"namespace: {space}")
    plane.kubectl("apply", "-f", "-", stdin=text)

    def running() -> list[Object]:
        pods = world.all("pods", "app=train")
        return pods if [one["status"]["phase"] for one in pods] == ["Running"] * 2 else []

    pods = eventually(running, "the job runs")
    loan = json.loads(note(world.read("batch/v1/jobs", "train"), "loan"))
    assert loan["gpus"] == 8
    assert len({node_of(one) for one in pods}) == 1, "where it was planned: under one leaf"
    eventually(lambda: dict(events(world, "train")).get("Loaned"), "the Event of the loan")

    agent_in(production, pods[0]["metadata"]["name"])
    name = pods[0]["metadata"]["name"]
    (tmp_path / "job" / "checkpoint").touch()
    told = eventually(lambda: note(world.read("pods", name), "last-checkpoint"), "a checkpoint")
    datetime.fromisoformat(told)

    # more replicas are wanted, no request waits: there is time for a notice
    production.policy(aimed(space, 3))
    notice = tmp_path / "job" / "notice"
    eventually(notice.exists, "the notice as a file")
    job = world.read("batch/v1/jobs", "train")
    assert notice.read_text().strip() == note(job, "notice-deadline")
    assert note(job, "notice-for") == "assistant/decode"
    assert not job["spec"]["suspend"]
    (tmp_path / "job" / "acknowledged").touch()
    eventually(lambda: world.read("batch/v1/jobs", "train")["spec"]["suspend"], "the job stopped")
    eventually(lambda: len(placed()) == 3, "three serving pods run")
    every = {"Loaned", "Notice", "Preempted"}
    eventually(lambda: dict(events(world, "train")).keys() >= every, "an Event of each step")


def agent_in(production: Production, pod: str) -> None:
    """Run the example's sidecar for a pod, as the Job's ServiceAccount."""
    space = production.world.namespace
    folder = production.folder / "job"
    folder.mkdir()
    account = production.plane.kubeconfig_for_service_account(space, "tidal-job")
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(production.folder),
        "KUBECONFIG": str(account),
        "POD_NAME": pod,
        "POD_NAMESPACE": space,
    }
    job = next(one for one in documents("examples/job.yaml") if one["kind"] == "Job")
    (sidecar,) = job["spec"]["template"]["spec"]["initContainers"]
    words = [one.replace("/tidal", str(folder)) for one in sidecar["args"]]
    production.process("agent", words, environment)


# ---- people, probes, certificates, the end ---------------------------------------------------


def test_people_read_it_over_tls_and_it_renews_and_ends_as_kubernetes_expects(
    production: Production, plane: ControlPlane
) -> None:
    leader, follower = production.run()
    world = production.world
    world.make("apps/v1/deployments", SERVING)
    production.policy(aimed(world.namespace, 1))
    for one in (leader, follower):
        assert [one.probe(path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
        assert one.probe("/filter")[0] == 404, "verbs need a certificate"

    server = f"https://{LOOPBACK}:{follower.api}"
    reads, lacks = production.user("reads", reads=True), production.user("lacks", reads=False)

    def asked(*words: str, user: Path = reads) -> subprocess.CompletedProcess[str]:
        return scalerctl(*words, "--server", server, "--kubeconfig", str(user))

    eventually(lambda: "assistant/decode" in asked("status").stdout, "the role in the status")
    for words in (
        ("status",),
        ("forecast", "assistant"),
        ("plan",),
        ("explain", "assistant/decode"),
    ):
        done = asked(*words)
        assert done.returncode == 0, done.stderr
        assert "assistant" in done.stdout
    refused = asked("status", user=lacks)
    assert refused.returncode == 2
    assert "may not get /v1/status" in refused.stderr
    assert "tidal-reader" in refused.stderr
    assert status_of(follower.api, production.server) == 401
    told = plugin(production, "status", "--server", server, "--kubeconfig", str(reads))
    assert "assistant/decode" in told
    assert "usage" in plugin(production, "--help")

    ports = [port for one in (leader, follower) for port in (one.api, one.extender)]
    before = [shown(port, production.client) for port in ports]
    production.server.renew()

    def renewed() -> bool:
        now = [shown(port, production.client) for port in ports]
        return all(old != new for old, new in zip(before, now, strict=True))

    eventually(renewed, "the new certificate on every port")
    assert [one.program.running for one in (leader, follower)] == [True, True]
    assert [one.terminate() for one in (leader, follower)] == [0, 0]


def plugin(production: Production, *words: str) -> str:
    """What `kubectl tidal` prints."""
    bins = Path(sys.executable).parent
    binary = find("kubectl")
    done = subprocess.run(
        [str(binary), "tidal", *words],
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
        env={"PATH": f"{bins}:{os.environ.get('PATH', '')}", "HOME": str(production.folder)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def status_of(port: int, own: Certificates) -> int:
    """What the API answers to somebody without a token."""
    context = ssl.create_default_context(cafile=str(own.folder / "ca.crt"))
    link = http.client.HTTPSConnection(LOOPBACK, port, context=context, timeout=REQUEST_SECONDS)
    with closing(link):
        link.request("GET", "/v1/status")
        return link.getresponse().status


def shown(port: int, own: Certificates) -> str:
    """Serial number of the certificate that a port shows; `own` is shown in turn."""
    context = ssl.create_default_context(cafile=str(own.folder / "ca.crt"))
    context.load_cert_chain(own.folder / "tls.crt", own.folder / "tls.key")
    link = http.client.HTTPSConnection(LOOPBACK, port, context=context, timeout=REQUEST_SECONDS)
    with closing(link):
        link.connect()
        assert isinstance(link.sock, ssl.SSLSocket)
        return str((link.sock.getpeercert() or {})["serialNumber"])
