"""`scalerctl demo --kubeconfig` on an API server and kube-schedulers that it did not start."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from tests.controlplane.kinds.world import eventually
from tests.controlplane.plane import ControlPlane
from tests.controlplane.ports import free_ports
from tests.controlplane.settings import Extender

SCHEDULER = "demo-scheduler"
NODES = "/api/v1/nodes"
CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
NAMESPACES = "/api/v1/namespaces"
PACES = (("--minutes=0.75", "--rate=80"), ("--minutes=3", "--rate=20"))
"""The same hour of the world, for a machine too slow for the first at a slower pace."""
ENOUGH_TICKS = 30
"""With fewer Tidal sees too little of the tide to take GPUs back."""


def command(plane: ControlPlane, out: Path, port: int, *options: str) -> list[str]:
    program = [sys.executable, "-m", "scheduler.cli.main", "demo"]
    where = [f"--kubeconfig={plane.kubeconfig}", f"--extender-port={port}", f"--out={out}"]
    return [*program, *where, *options]


def left(plane: ControlPlane) -> list[str]:
    """What a demo would leave in the cluster."""
    names = []
    for path in (NODES, CLASSES, NAMESPACES):
        items = msgspec.json.decode(plane.call("GET", path))["items"]
        names += [item["metadata"]["name"] for item in items]
    return [name for name in names if name.startswith("tidal-demo")]


def test_a_morning_passes_on_a_real_api_server_and_scheduler(
    plane: ControlPlane, cluster_clean: None, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    asks = Extender(
        url=f"http://127.0.0.1:{port}",
        prioritize_verb="prioritize",
        ignorable=True,
    )
    plane.start_scheduler(SCHEDULER, extender=asks)
    for pace in PACES:
        options = [*pace, f"--scheduler-name={SCHEDULER}"]
        done = subprocess.run(
            command(plane, tmp_path, port, *options), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        results = json.loads((tmp_path / "report.json").read_text())["results"]
        if results["ticks"] >= ENOUGH_TICKS:
            break
    assert results["complete"]
    assert results["violations"] == 0
    assert results["scaled_up"] >= 1
    assert results["scaled_down"] >= 1
    assert results["jobs_started"] >= 1
    assert results["jobs_preempted"] >= 1
    assert results["filter_passed"] > 0
    assert results["pods_bound"] > 0
    assert 0 < results["slo_attainment"] <= 1
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert "does not ask Tidal" not in done.stderr
    assert "ONLINE BUSY" in done.stdout
    assert left(plane) == []


def test_a_scheduler_that_does_not_ask_is_told_and_ctrl_c_leaves_nothing(
    plane: ControlPlane, cluster_clean: None, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    seen: list[str] = []
    with subprocess.Popen(
        command(plane, tmp_path, port, "--nodes=4", "--minutes=1"),
        stderr=subprocess.PIPE,
        text=True,
    ) as played:
        assert played.stderr is not None
        for line in played.stderr:
            seen.append(line)
            if "urlPrefix" in line:
                break
        assert f"urlPrefix: http://127.0.0.1:{port}" in seen[-1], "".join(seen)
        assert any(name.startswith("tidal-demo") for name in left(plane))
        played.send_signal(signal.SIGINT)
        rest = played.stderr.read()
        assert played.wait(120) == 130, rest
    assert "removing what the demo made" in rest
    eventually(lambda: left(plane) == [], "nothing is left")


def test_what_is_not_a_demos_is_left_alone(
    plane: ControlPlane, cluster_clean: None, tmp_path: Path
) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "own-gpus"}}
    plane.call("POST", NODES, node)
    plane.kubectl(
        "patch",
        "node",
        "own-gpus",
        "--subresource=status",
        "--type=merge",
        '--patch={"status":{"capacity":{"nvidia.com/gpu":"8"}}}',
    )
    (port,) = free_ports(1)
    done = subprocess.run(
        command(plane, tmp_path, port), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "GPU nodes of its own (own-gpus)" in done.stderr
    assert left(plane) == []
