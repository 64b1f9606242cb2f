"""deploy/ on the control plane, and what runs of it.

The manifests are applied as they are. There is no kubelet that could run the Deployments, so their
commands run here as processes, with their arguments, rights and certificates; replaced are paths,
ports, addresses, the kubeconfig in the place of a mounted token, and the port-forward in the place
of Services. Everything between them is TLS, as in a cluster.
"""

import http.client
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import yaml

from tests.controlplane.certificates import Pair
from tests.controlplane.engines import Engines
from tests.controlplane.fleet import Forwarder
from tests.controlplane.kinds.world import Object, World, eventually, kubelets
from tests.controlplane.plane import ControlPlane, Scheduler
from tests.controlplane.ports import LOOPBACK, free_ports
from tests.controlplane.programs import Guard, Program
from tests.controlplane.prometheus_server import PrometheusServer
from tests.controlplane.rig import LIVELY
from tests.controlplane.rights import DEPLOY

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
        scraped: dict[str, dict[str, str]] = {self.engines.page.address: {}}
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
