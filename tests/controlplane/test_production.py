"""What a new user does: apply deploy/, edit the policy, run what the manifests say, look at it."""

import http.client
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path

import pytest

from tests.controlplane.build import find
from tests.controlplane.kinds.world import WAIT_SECONDS, Object, World, eventually
from tests.controlplane.plane import ControlPlane
from tests.controlplane.ports import LOOPBACK
from tests.controlplane.production import REQUEST_SECONDS, Certificates, Find, Production
from tests.controlplane.rights import DEPLOY, documents

pytestmark = pytest.mark.controlplane


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
