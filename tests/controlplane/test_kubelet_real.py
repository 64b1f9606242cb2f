"""The fake kubelet on a real API server: phases, terminations, devices, images.

Pods that name their node at creation are bound by their creator, as a scheduler does that does not
wait; a life runs ten times as fast as the clock.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from scheduler.simulation.kubelet.manners import Manners
from scheduler.simulation.kubelet.shell import FakeKubelet
from tests.controlplane.kinds.world import (
    Log,
    Object,
    World,
    condition,
    devices,
    eventually,
    kubelets,
    phase,
    pod,
)
from tests.controlplane.plane import ControlPlane

RATE = 10.0
ENDLESS = 1_000_000
"""Seconds of life that no test waits for."""
MANNERS = Manners(
    start_seconds=1.0, exit_seconds=1.0, image_mib=100, pull_mib_per_second=1000, unready_seconds=1
)


@pytest.fixture
def kubelet(world: World) -> Iterator[FakeKubelet]:
    """Two nodes of 4 GPUs."""
    with kubelets(world.api, 2, 4, MANNERS, RATE) as one:
        yield one


def running(world: World, name: str) -> Object:
    def look() -> Object | None:
        found = world.read("pods", name)
        return found if condition(found, "Ready") == "True" else None

    found = eventually(look, f"pod {name} ready")
    assert found is not None
    return found


def ended(world: World, name: str) -> Object:
    def look() -> Object | None:
        found = world.read("pods", name)
        return found if phase(found) in {"Failed", "Succeeded"} else None

    found = eventually(look, f"pod {name} terminal")
    assert found is not None
    return found


def gone(world: World, name: str) -> None:
    eventually(lambda: world.found("pods", name) is None, f"pod {name} gone")


def seen_of(log: list[tuple[str, Object]], name: str) -> list[tuple[str, str, str]]:
    """Event, phase and Ready of a pod, without repetitions."""
    rows: list[tuple[str, str, str]] = []
    for event, item in log:
        row = (event, phase(item), condition(item, "Ready"))
        if item["metadata"]["name"] == name and row not in rows[-1:]:
            rows.append(row)
    return rows


def test_nodes_are_there_with_gpus_and_switches(world: World, kubelet: FakeKubelet) -> None:
    node = World(world.api, "").api.get("/api/v1/nodes/n-0002")
    for text in (
        b'"fabric.topograph.run/tier-0":"n-leaf-001"',
        b'"fabric.topograph.run/tier-1":"n-spine-00"',
        b'"topology.kubernetes.io/zone":"core"',
        b'"nvidia.com/gpu.product":"H100-SXM-80GB"',
        b'"kubernetes.io/hostname":"n-0002"',
        b'"nvidia.com/gpu":"4"',
    ):
        assert text in node
    assert kubelet.summary().gpus == 8


def test_a_scheduled_pod_comes_to_life_and_to_its_end(world: World, kubelet: FakeKubelet) -> None:
    log = Log(world, "pods")
    world.make("pods", pod("p", gpus=3, spec={"nodeSelector": {"nvidia.com/gpu.count": "4"}}))
    found = running(world, "p")
    assert len(devices(found)) == 3
    assert devices(found) <= {0, 1, 2, 3}
    world.delete("pods", "p")
    gone(world, "p")
    assert seen_of(log.stop(), "p") == [
        ("ADDED", "Pending", ""),
        ("MODIFIED", "Pending", ""),
        ("MODIFIED", "Pending", "False"),
        ("MODIFIED", "Running", "True"),
        ("MODIFIED", "Failed", "False"),
        ("DELETED", "Failed", "False"),
    ]


def test_a_pod_that_ignores_sigterm_holds_its_gpus_to_the_end_of_the_grace(
    world: World, kubelet: FakeKubelet
) -> None:
    for name, node in (("old", "n-0001"), ("older", "n-0002")):
        world.make("pods", pod(name, gpus=4, node=node, sim={"exit-seconds": ENDLESS}))
        running(world, name)
    log = Log(world, "pods")
    world.delete("pods", "older", grace=ENDLESS)
    eventually(lambda: condition(world.read("pods", "older"), "Ready") == "False", "not ready")
    assert phase(world.read("pods", "older")) == "Running"
    world.make("pods", pod("early", gpus=1, node="n-0002"))
    early = ended(world, "early")
    assert early["status"]["reason"] == "UnexpectedAdmissionError"
    assert "requested number of devices unavailable" in early["status"]["message"]
    began = time.monotonic()
    world.delete("pods", "old", grace=20)
    gone(world, "old")
    assert time.monotonic() - began >= 20 / RATE
    world.make("pods", pod("late", gpus=4, node="n-0001"))
    assert devices(running(world, "late")) == {0, 1, 2, 3}
    assert phase(world.read("pods", "early")) == "Failed"
    assert seen_of(log.stop(), "old") == [
        ("MODIFIED", "Running", "True"),
        ("MODIFIED", "Running", "False"),
        ("MODIFIED", "Failed", "False"),
        ("DELETED", "Failed", "False"),
    ]


def test_pre_stop_is_waited_for(world: World, kubelet: FakeKubelet) -> None:
    body = pod("p", node="n-0001")
    body["spec"]["containers"][0]["lifecycle"] = {"preStop": {"sleep": {"seconds": 15}}}
    world.make("pods", body)
    running(world, "p")
    began = time.monotonic()
    world.delete("pods", "p")
    gone(world, "p")
    assert time.monotonic() - began >= 16 / RATE


def test_a_completed_pod_gives_its_gpus_back_and_its_object_stays(
    world: World, kubelet: FakeKubelet
) -> None:
    once = {"restartPolicy": "Never"}
    world.make("pods", pod("p", 4, "n-0001", sim={"run-seconds": 5}, spec=once))
    done = ended(world, "p")
    assert phase(done) == "Succeeded"
    assert done["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    world.make("pods", pod("next", 4, "n-0001"))
    running(world, "next")


def test_a_finalizer_is_no_lock_on_gpus(world: World, kubelet: FakeKubelet) -> None:
    world.make("pods", pod("p", 4, "n-0001", meta={"finalizers": ["tidal.dev/test"]}))
    running(world, "p")
    world.delete("pods", "p")
    ended(world, "p")
    eventually(lambda: kubelet.summary().gpus_held == 0, "no GPU held")
    world.make("pods", pod("next", 4, "n-0001"))
    running(world, "next")
    path = world.path("pods", "p")
    world.api.patch(path, {"metadata": {"finalizers": None}}, "merge")
    gone(world, "p")


def test_a_pod_deleted_by_force_is_gone_at_once_but_its_gpus_are_not(
    world: World, kubelet: FakeKubelet
) -> None:
    grace = {"terminationGracePeriodSeconds": ENDLESS}
    for name, node, exits in (("p", "n-0001", ENDLESS), ("brief", "n-0002", 10)):
        world.make("pods", pod(name, 4, node, sim={"exit-seconds": exits}, spec=grace))
        running(world, name)
        world.delete("pods", name, grace=0)
        assert world.found("pods", name) is None
    world.make("pods", pod("p", 4, "n-0001"))
    assert ended(world, "p")["status"]["reason"] == "UnexpectedAdmissionError"
    eventually(lambda: kubelet.summary().gpus_held == 4, "only the GPUs of p held")
    world.make("pods", pod("late", 4, "n-0002"))
    running(world, "late")


def test_readiness_waits_for_the_gates(world: World, kubelet: FakeKubelet) -> None:
    gates = {"readinessGates": [{"conditionType": "example.com/Warm"}]}
    world.make("pods", pod("p", node="n-0001", spec=gates))
    eventually(lambda: condition(world.read("pods", "p"), "ContainersReady") == "True", "started")
    assert condition(world.read("pods", "p"), "Ready") == "False"
    warm = {"type": "example.com/Warm", "status": "True"}
    path = world.path("pods", "p") + "/status"
    world.api.patch(path, {"status": {"conditions": [warm]}}, "strategic")
    running(world, "p")


def test_the_node_tells_its_images(world: World, kubelet: FakeKubelet) -> None:
    world.make("pods", pod("a", node="n-0001", image="small:1", sim={"image-mib": 10}))
    world.make("pods", pod("b", node="n-0001", image="large:1", sim={"image-mib": 500}))
    running(world, "b")

    def listed() -> bool:
        status = World(world.api, "").api.get("/api/v1/nodes/n-0001")
        return b'"names":["large:1"],"sizeBytes":524288000' in status.replace(b" ", b"")

    eventually(listed, "large:1 listed")


def test_a_job_completes_and_a_suspended_one_loses_its_pods(
    world: World, kubelet: FakeKubelet
) -> None:
    for name, seconds in (("short", 5), ("long", 100_000)):
        template = pod("x", sim={"run-seconds": seconds}, spec={"restartPolicy": "Never"})
        meta = {"annotations": template["metadata"]["annotations"]}
        spec = {
            "parallelism": 2,
            "completions": 2,
            "template": {"metadata": meta, "spec": template["spec"]},
        }
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
        world.make("batch/v1/jobs", job)
    path = "batch/v1/jobs"
    eventually(lambda: condition(world.read(path, "short"), "Complete") == "True", "short done")
    eventually(lambda: world.read(path, "long")["status"].get("ready") == 2, "long runs")
    world.api.patch(world.path(path, "long"), {"spec": {"suspend": True}}, "merge")
    eventually(lambda: world.names("pods", "job-name=long") == [], "long has no pods")
    eventually(lambda: kubelet.summary().gpus_held == 0, "no GPU held")


def test_a_new_process_takes_over_running_pods(world: World) -> None:
    with kubelets(world.api, 2, 4, MANNERS, RATE):
        world.make("pods", pod("p", 2, "n-0001"))
        before = devices(running(world, "p"))
    with kubelets(world.api, 2, 4, MANNERS, RATE) as second:
        eventually(lambda: second.summary().gpus_held == 2, "pod taken over")
        world.make("pods", pod("q", 2, "n-0001"))
        assert devices(running(world, "q")) == {0, 1, 2, 3} - before
        assert devices(world.read("pods", "p")) == before
        world.delete("pods", "p")
        gone(world, "p")


def test_a_pod_ends_though_the_server_was_away_when_its_process_did(
    plane: ControlPlane, world: World, kubelet: FakeKubelet
) -> None:
    world.make("pods", pod("p", 4, "n-0001", sim={"exit-seconds": 10}))
    running(world, "p")
    world.delete("pods", "p")
    eventually(lambda: condition(world.read("pods", "p"), "Ready") == "False", "it stops")
    plane.restart_apiserver()
    assert kubelet.alive
    gone(world, "p")
    eventually(lambda: kubelet.summary().gpus_held == 0, "no GPU held")


def test_the_command_plays_until_it_is_told_to_stop(plane: ControlPlane, world: World) -> None:
    command = [sys.executable, "-m", "scheduler.cli.main", "fake-kubelet"]
    options = [f"--kubeconfig={plane.kubeconfig}", "--nodes=3", "--gpus=2", "--gpu-model=L40S-48GB"]
    speed = ["--rate=20", "--start=1s", "--heartbeats"]
    with subprocess.Popen(
        [*command, *options, *speed], stderr=subprocess.PIPE, text=True
    ) as played:
        assert played.stderr is not None
        try:
            assert "3 nodes, 0/6 GPUs held" in played.stderr.readline()
            world.make("pods", pod("p", 2, "node-0003"))
            running(world, "p")
            beats = World(world.api, "kube-node-lease")
            lease = "coordination.k8s.io/v1/leases"
            eventually(lambda: beats.found(lease, "node-0003"), "its heartbeat")
        finally:
            played.send_signal(signal.SIGTERM)
        assert played.wait(120) == 130
