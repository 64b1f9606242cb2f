"""Everything in deploy/ is accepted by a real API server, a real kube-scheduler and promtool.

Kinds of other projects (cert-manager, the Prometheus operator) are known to that server through
stand-in definitions that accept any spec: of those objects only the envelope is checked here, and
of the alert rules what promtool checks.
"""

import subprocess
from pathlib import Path

import pytest
import yaml

from scheduler.adapters.policyfile import read_policy
from scheduler.daemon.documents.metrics import metrics
from scheduler.daemon.documents.shapes import Facts
from scheduler.daemon.documents.status import status
from tests.controlplane.build import find
from tests.controlplane.plane import ControlPlane
from tests.fixtures.ticks import busy_world, tick_of
from tests.fixtures.worlds import policy

pytestmark = pytest.mark.controlplane

DEPLOY = Path(__file__).parents[2] / "deploy"
BUILDS = (
    "base",
    "overlays/scheduler",
    "overlays/certmanager",
    "overlays/bind",
    "overlays/monitoring",
)
FOREIGN = {
    "certificates.cert-manager.io": ("Certificate", "v1"),
    "issuers.cert-manager.io": ("Issuer", "v1"),
    "servicemonitors.monitoring.coreos.com": ("ServiceMonitor", "v1"),
    "prometheusrules.monitoring.coreos.com": ("PrometheusRule", "v1"),
}


def definition(name: str, kind: str, version: str) -> dict[str, object]:
    plural, group = name.split(".", 1)
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": anything},
                }
            ],
        },
    }


@pytest.fixture(scope="module")
def ready(plane: ControlPlane) -> ControlPlane:
    """The plane with the foreign kinds and the namespace that dry runs need."""
    for name, (kind, version) in FOREIGN.items():
        plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(definition(name, kind, version)))
    plane.kubectl("apply", "-f", str(DEPLOY / "base" / "namespace.yaml"))
    plane.kubectl("wait", "--for=condition=Established", "crd", *FOREIGN, "--timeout=30s")
    return plane


def built(plane: ControlPlane, build: str) -> list[dict[str, object]]:
    text = plane.kubectl("kustomize", str(DEPLOY / build)).stdout
    return [one for one in yaml.safe_load_all(text) if one]


@pytest.mark.parametrize("build", BUILDS)
def test_the_server_accepts_every_object(ready: ControlPlane, build: str) -> None:
    done = ready.kubectl(
        "apply", "-k", str(DEPLOY / build), "--dry-run=server", "--validate=strict"
    )
    assert len(done.stdout.splitlines()) == len(built(ready, build))


def test_every_manifest_belongs_to_a_build(ready: ControlPlane) -> None:
    used = {file.name for build in BUILDS for file in (DEPLOY / build).glob("*.yaml")}
    lying = {
        file.name
        for file in DEPLOY.rglob("*.yaml")
        if file.parent.name not in {"deploy", "examples", "kube-scheduler"}
    }
    assert lying == used


def test_the_example_job_is_accepted(ready: ControlPlane) -> None:
    ready.kubectl(
        *("apply", "-f", str(DEPLOY / "examples" / "job.yaml")),
        *("--dry-run=server", "--validate=strict"),
    )


def test_the_first_policy_is_valid(ready: ControlPlane, tmp_path: Path) -> None:
    assert read_policy(DEPLOY / "base" / "policy.yaml").mode == "recommend"


@pytest.mark.parametrize(
    "file", ["overlays/scheduler/configuration.yaml", "kube-scheduler/extender.yaml"]
)
def test_kube_scheduler_reads_its_configuration(
    ready: ControlPlane, file: str, tmp_path: Path
) -> None:
    document = yaml.safe_load((DEPLOY / file).read_text())
    document["clientConnection"] = {"kubeconfig": str(ready.kubeconfig)}
    document["leaderElection"] = {"leaderElect": False}
    for extender in document["extenders"]:
        extender["tlsConfig"] = {"insecure": True}
    configuration = tmp_path / "configuration.yaml"
    configuration.write_text(yaml.safe_dump(document))
    scheduler = find("kube-scheduler")
    assert scheduler is not None
    read = tmp_path / "read.yaml"
    command = [str(scheduler), f"--config={configuration}", f"--write-config-to={read}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert read.exists(), done.stderr
    extender = yaml.safe_load(read.read_text())["extenders"][0]
    assert extender["ignorable"] is True
    assert extender["nodeCacheCapable"] is True
    assert extender["httpTimeout"] == "1s"


def test_promtool_accepts_the_alerts(tmp_path: Path) -> None:
    rule = yaml.safe_load((DEPLOY / "overlays/monitoring/alerts.yaml").read_text())
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(rule["spec"]))
    promtool = find("promtool")
    assert promtool is not None, "no promtool: run `make controlplane`"
    command = [str(promtool), "check", "rules", "--lint=all", "--lint-fatal", str(rules)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_name_metrics_that_there_are() -> None:
    rule = yaml.safe_load((DEPLOY / "overlays/monitoring/alerts.yaml").read_text())
    text = " ".join(one["expr"] for group in rule["spec"]["groups"] for one in group["rules"])
    named = {word for word in text.replace("(", " ").replace(")", " ").split() if "tidal_" in word}
    text = metrics(status(tick_of(busy_world(), policy()), Facts()))
    assert named <= {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
