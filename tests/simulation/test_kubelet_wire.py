"""What the fake kubelet reads of a pod, and the wire form of what it tells."""

import msgspec
import pytest

from scheduler.simulation.clusterfile import parse_cluster
from scheduler.simulation.kubelet import bodies
from scheduler.simulation.kubelet.facts import Facts, Pod, facts
from scheduler.simulation.kubelet.ledger import Ledger
from scheduler.simulation.kubelet.manners import Manners
from scheduler.simulation.kubelet.node import (
    BAD_ANNOTATION,
    NodeState,
    Seen,
    step,
)
from scheduler.simulation.kubelet.writes import Report

NODE = NodeState("n", Ledger(4))


# ---- what a pod says of itself ---------------------------------------------------------------


def wire(**more: object) -> Facts:
    document: dict[str, object] = {"metadata": {"name": "p", "uid": "u"}, **more}
    return facts(msgspec.convert(document, Pod))


def test_facts_of_a_whole_pod() -> None:
    found = wire(
        metadata={
            "name": "p",
            "namespace": "ns",
            "uid": "u",
            "annotations": {
                "tidal.dev/sim-run-seconds": "90",
                "tidal.dev/sim-exit-seconds": "2.5",
                "tidal.dev/sim-devices": "0,3",
            },
            "deletionTimestamp": "2026-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": 7,
        },
        spec={
            "nodeName": "n",
            "restartPolicy": "Never",
            "readinessGates": [{"conditionType": "One"}, {"conditionType": "Two"}],
            "containers": [
                {
                    "name": "main",
                    "image": "engine:1",
                    "resources": {"limits": {"nvidia.com/gpu": "2"}},
                    "lifecycle": {"preStop": {"sleep": {"seconds": 4}}},
                }
            ],
        },
        status={"phase": "Running", "conditions": [{"type": "One", "status": "True"}]},
    )
    assert found == Facts(
        uid="u",
        namespace="ns",
        name="p",
        containers=(("main", "engine:1"),),
        gpus=2,
        phase="Running",
        run_seconds=90.0,
        exit_seconds=2.5,
        pre_stop_seconds=4.0,
        grace_seconds=7.0,
        deleting=True,
        gates_open=False,
        published=(0, 3),
    )


def test_devices_of_init_containers_and_sidecars_count_as_kubernetes_counts_them() -> None:
    def asks(gpus: int, **more: str) -> dict[str, object]:
        return {"resources": {"requests": {"nvidia.com/gpu": str(gpus)}}, **more}

    sidecar = asks(1, restartPolicy="Always")
    assert wire(spec={"containers": [asks(2)], "initContainers": [sidecar]}).gpus == 3
    assert wire(spec={"containers": [asks(2)], "initContainers": [sidecar, asks(4)]}).gpus == 5


def test_a_pod_that_restarts_for_ever_never_completes() -> None:
    note = {"name": "p", "uid": "u", "annotations": {"tidal.dev/sim-run-seconds": "90"}}
    assert wire(metadata=note, spec={"restartPolicy": "Always"}).run_seconds is None


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf", ""])
def test_an_annotation_that_is_no_number_rejects_the_pod_and_names_itself(value: str) -> None:
    note = {"name": "p", "uid": "u", "annotations": {"tidal.dev/sim-exit-seconds": value}}
    found = wire(metadata=note)
    _, (write,) = step(NODE, Seen(found), 0.0, Manners())
    assert isinstance(write, Report)
    assert (write.phase, write.reason) == ("Failed", BAD_ANNOTATION)
    assert "metadata.annotations[tidal.dev/sim-exit-seconds]" in write.message


# ---- wire form -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "labels"),
    [
        (["core", "spine", "leaf"], {"zone": "core", "tier-1": "spine", "tier-0": "leaf"}),
        (["z", "leaf"], {"zone": "z", "tier-0": "leaf"}),
        (["leaf"], {"tier-0": "leaf"}),
    ],
)
def test_labels_say_the_switches(path: list[str], labels: dict[str, str]) -> None:
    node = {"name": "n", "gpu_model": "H100-SXM-80GB", "switch_path": path}
    (spec,) = parse_cluster({"nodes": [node]}).nodes
    found = bodies.labels(spec)
    assert found["nvidia.com/gpu.product"] == "H100-SXM-80GB"
    shown = {key.partition("/")[2]: value for key, value in found.items()}
    assert {key: shown[key] for key in shown if key == "zone" or "tier" in key} == labels


def test_a_status_carries_the_uid_so_that_a_successor_is_not_written() -> None:
    of = Facts(uid="a", namespace="ns", name="p", gpus=2)
    _, (write,) = step(NODE, Seen(of), 0.0, Manners())
    assert isinstance(write, Report)
    body = bodies.pod_status(write, 0.0)
    assert body["metadata"]["uid"] == "a"
    assert len(body["metadata"]["annotations"]["tidal.dev/sim-devices"].split(",")) == 2
    assert body["status"]["startTime"] == "1970-01-01T00:00:00Z"
