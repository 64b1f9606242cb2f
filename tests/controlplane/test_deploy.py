"""Everything in deploy/ is accepted by a real API server, a real kube-scheduler and promtool.

Kinds of other projects (cert-manager, the Prometheus operator) are known to that server through
stand-in definitions that accept any spec: of those objects only the envelope is checked here, and
of the alert rules what promtool checks.
"""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scheduler.adapters.policyfile import read_policy
from tests.controlplane.definitions import OPERATORS, define, undefine
from tests.controlplane.kinds.world import World, eventually, pod
from tests.controlplane.plane import ControlPlane, KubectlError
from tests.controlplane.rights import DEPLOY, Object

pytestmark = [pytest.mark.controlplane, pytest.mark.xdist_group("deploy")]

BUILDS = (
    "base",
    "overlays/scheduler",
    "overlays/certmanager",
    "overlays/bind",
    "overlays/monitoring",
)
RESTRICTED = "tidal-system"
ACCOUNTS = ("tidal", "tidal-scheduler")


@pytest.fixture(scope="module")
def ready(plane: ControlPlane) -> Iterator[ControlPlane]:
    """The plane with the foreign kinds, the namespace and the accounts that dry runs need."""
    define(plane, OPERATORS)
    plane.kubectl("apply", "-f", str(DEPLOY / "base" / "namespace.yaml"))
    for name in ACCOUNTS:
        plane.kubectl("-n", RESTRICTED, "create", "serviceaccount", name, check=False)
    yield plane
    undefine(plane, OPERATORS)


def built(plane: ControlPlane, build: str) -> list[Object]:
    text = plane.kubectl("kustomize", str(DEPLOY / build)).stdout
    return [one for one in yaml.safe_load_all(text) if one]


@pytest.mark.parametrize("build", BUILDS)
def test_the_server_accepts_every_object(ready: ControlPlane, build: str) -> None:
    done = ready.kubectl(
        "apply", "-k", str(DEPLOY / build), "--dry-run=server", "--validate=strict"
    )
    assert len(done.stdout.splitlines()) == len(built(ready, build))


@pytest.mark.parametrize("build", [one for one in BUILDS if one != "base"])
def test_builds_on_the_scheduler_leave_its_binding_in_kube_system(
    plane: ControlPlane, build: str
) -> None:
    name = "tidal-scheduler-authentication"
    (found,) = [one for one in built(plane, build) if one["metadata"]["name"] == name]
    assert found["metadata"]["namespace"] == "kube-system"


def test_the_example_job_is_accepted(ready: ControlPlane) -> None:
    ready.kubectl(
        *("apply", "-f", str(DEPLOY / "examples" / "job.yaml")),
        *("--dry-run=server", "--validate=strict"),
    )


def test_the_first_policy_is_valid() -> None:
    assert read_policy(DEPLOY / "base" / "policy.yaml").mode == "recommend"


# ---- pods ------------------------------------------------------------------------------------


def pods(plane: ControlPlane, build: str) -> list[Object]:
    """A pod of every Deployment, as its controller makes it."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**one["spec"]["template"]["metadata"], "name": one["metadata"]["name"]},
            "spec": one["spec"]["template"]["spec"],
        }
        for one in built(plane, build)
        if one["kind"] == "Deployment"
    ]


def tried(plane: ControlPlane, one: Object) -> str:
    done = plane.kubectl(
        *("-n", RESTRICTED, "create", "-f", "-", "--dry-run=server", "--validate=strict"),
        stdin=yaml.safe_dump(one),
    )
    return done.stdout


@pytest.mark.parametrize(("build", "count"), [("base", 1), ("overlays/certmanager", 2)])
def test_pod_security_restricted_accepts_the_pods(
    ready: ControlPlane, build: str, count: int
) -> None:
    every = pods(ready, build)
    assert len(every) == count
    for one in every:
        assert "created" in tried(ready, one)
        del one["spec"]["securityContext"]["runAsNonRoot"]
        with pytest.raises(KubectlError, match="violates PodSecurity"):
            tried(ready, one)


# ---- kube-scheduler --------------------------------------------------------------------------


def test_kube_scheduler_leads_and_binds_with_the_rights_of_its_account(
    ready: ControlPlane, world: World
) -> None:
    build = built(ready, "overlays/scheduler")
    rules = [
        one
        for one in build
        if one["apiVersion"].startswith("rbac.") and "scheduler" in one["metadata"]["name"]
    ]
    assert len(rules) == 5
    ready.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(rules))
    kubeconfig = ready.kubeconfig_for_service_account(RESTRICTED, "tidal-scheduler")
    file = yaml.safe_load((DEPLOY / "overlays/scheduler/configuration.yaml").read_text())
    connection = file["clientConnection"] | {"kubeconfig": str(kubeconfig)}
    overrides = {"clientConnection": connection, "leaderElection": file["leaderElection"]}
    ready.start_scheduler("tidal-scheduler", overrides=overrides)
    ready.call("POST", "/api/v1/nodes", {"metadata": {"name": "deploy-node"}})
    room = {"status": {"allocatable": {"pods": "1"}, "capacity": {"pods": "1"}}}
    world.api.patch("/api/v1/nodes/deploy-node/status", room, "merge")
    world.make("pods", pod("p", gpus=0, spec={"schedulerName": "tidal-scheduler"}))
    eventually(lambda: world.read("pods", "p")["spec"].get("nodeName"), "the pod bound")
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{RESTRICTED}/leases/tidal-scheduler"
    assert b'"holderIdentity":"' in ready.call("GET", lease).replace(b" ", b"")


@pytest.mark.parametrize(
    "file", ["overlays/scheduler/configuration.yaml", "kube-scheduler/extender.yaml"]
)
def test_kube_scheduler_reads_its_configuration(
    ready: ControlPlane, program: Callable[[str], Path], file: str, tmp_path: Path
) -> None:
    document = yaml.safe_load((DEPLOY / file).read_text())
    document["clientConnection"] = {"kubeconfig": str(ready.kubeconfig)}
    document["leaderElection"] = {"leaderElect": False}
    for extender in document["extenders"]:
        extender["tlsConfig"] = {"insecure": True}
    configuration = tmp_path / "configuration.yaml"
    configuration.write_text(yaml.safe_dump(document))
    read = tmp_path / "read.yaml"
    command = [
        str(program("kube-scheduler")),
        f"--config={configuration}",
        f"--write-config-to={read}",
        "--secure-port=0",  # else its default port, which another worker may hold
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert read.exists(), done.stderr
    extender = yaml.safe_load(read.read_text())["extenders"][0]
    assert extender["ignorable"] is True
    assert extender["nodeCacheCapable"] is True
    assert extender["httpTimeout"] == "1s"


# ---- alerts ----------------------------------------------------------------------------------


def promtool(program: Callable[[str], Path], *arguments: str) -> None:
    command = [str(program("promtool")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """The alert rules as Prometheus itself reads them."""
    rule = yaml.safe_load((DEPLOY / "overlays/monitoring/alerts.yaml").read_text())
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rule["spec"]))
    return file


def test_promtool_accepts_the_alerts(program: Callable[[str], Path], rules: Path) -> None:
    promtool(program, "check", "rules", "--lint=all", "--lint-fatal", str(rules))


def case(series: dict[str, str], alert: str, minutes: int, *fires: dict[str, str]) -> Object:
    """One `promtool test rules` case: series by their values of each minute."""
    expected: list[dict[str, Any]] = [{"exp_labels": labels} for labels in fires]
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": text} for name, text in series.items()],
        "alert_rule_test": [
            {"alertname": alert, "eval_time": f"{minutes}m", "exp_alerts": expected}
        ],
    }


def test_the_alerts_fire_when_they_should_and_not_before(
    program: Callable[[str], Path], rules: Path
) -> None:
    critical, warning = {"severity": "critical"}, {"severity": "warning"}
    one, two = 'tidal_leader{pod="a"}', 'tidal_leader{pod="b"}'
    age, role = "tidal_plan_age_seconds", 'tidal_role_lacking_replicas{role="chat/decode"}'
    cases = [
        case({one: "1x9", two: "0x9"}, "TidalHasNoLeader", 9),
        case({one: "1 0x8", two: "0x9"}, "TidalHasNoLeader", 1),
        case({one: "1 0x8", two: "0x9"}, "TidalHasNoLeader", 3, critical),
        case({}, "TidalHasNoLeader", 3, critical),
        case({age: "0 60 120 180 240 300 360"}, "TidalPlanIsOld", 5),
        case({age: "0 60 120 180 240 300 360"}, "TidalPlanIsOld", 6, warning),
        case({f'{age}{{pod="a"}}': "900x9", f'{age}{{pod="b"}}': "9x9"}, "TidalPlanIsOld", 9),
        case({role: "0 2x9"}, "TidalRoleLacksGpus", 5),
        case({role: "0 2x9"}, "TidalRoleLacksGpus", 7, {**warning, "role": "chat/decode"}),
        case({"tidal_policy_errors": "0 1x9"}, "TidalPolicyRefused", 3, warning),
        case({"tidal_invariant_violations": "0 1"}, "TidalInvariantBroken", 1, critical),
    ]
    document = yaml.safe_load(rules.read_text())
    for group in document["groups"]:
        for rule in group["rules"]:
            del rule["annotations"]  # words, and cases would have to repeat them
    rules.write_text(yaml.safe_dump(document))
    tests = rules.with_name("tests.yaml")
    tests.write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": cases}))
    promtool(program, "test", "rules", str(tests))
