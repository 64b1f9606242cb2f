"""Jobs that ask parts of cards, under a real kube-scheduler that leaves these to its extenders.

HAMi is not there: the test writes what its device plugin says of a node, and what its scheduler
says of a pod. The nodes have no kubelet, so that pods are bound and do not run.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.apiserver.sharing import ALLOCATED, MEMORY, REGISTERED
from tests.controlplane.kinds.world import eventually
from tests.controlplane.plane import ControlPlane
from tests.controlplane.rig import GPU_MODEL, Rig, rig_of

pytestmark = pytest.mark.controlplane

CHAT = {"chat/decode": {"target": {"kind": "Deployment", "name": "chat"}}}
GPU = "nvidia.com/gpu"
TASKS, CARD_MIB = 10, 80_000


@pytest.fixture
def rig(plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Rig]:
    with rig_of(plane, namespace, tmp_path) as one:
        yield one


def node(rig: Rig, name: str) -> None:
    """A node of one card, of which HAMi's device plugin offers tasks."""
    full = f"{rig.world.namespace}-{name}"
    room = {"cpu": "64", "memory": "512Gi", "pods": "110", GPU: str(TASKS)}
    card = f"{full}-card,{TASKS},{CARD_MIB},100,NVIDIA-H100,0,true,0,hami-core:"
    labels = {"nvidia.com/gpu.product": GPU_MODEL, "kubernetes.io/hostname": full}
    body = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": full, "labels": labels, "annotations": {REGISTERED: card}},
        "status": {
            "allocatable": room,
            "capacity": room,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    }
    rig.api.post("/api/v1/nodes", body)


def job(rig: Rig, name: str, mib: int = 0) -> None:
    """A Job of one pod that asks so much of a card, or a whole one."""
    part = {MEMORY: str(mib)} if mib else {}
    container = {
        "name": "main",
        "image": "engine:1",
        "resources": {"limits": {GPU: "1", **part}},
    }
    rig.job(name, spec={"containers": [container], "terminationGracePeriodSeconds": 0})


def bound(rig: Rig, name: str) -> str:
    """Wait until the Job's pod is bound, and return its node."""
    nodes = eventually(lambda: [one for one in rig.nodes_of(name) if one], f"{name} is bound")
    (where,) = nodes
    return where


def told(rig: Rig, name: str, mib: int) -> None:
    """Say, as HAMi's scheduler does, on which card the Job's pod is."""
    (pod,) = rig.world.all("pods", f"app={name}")
    card = f"{pod['spec']['nodeName']}-card,NVIDIA,{mib},0:;"
    path = rig.world.path("pods", pod["metadata"]["name"])
    rig.api.patch(path, {"metadata": {"annotations": {ALLOCATED: card}}}, "merge")


def test_parts_share_a_card_and_the_other_stays_whole(rig: Rig) -> None:
    for name in ("a", "b"):
        node(rig, name)
    rig.scheduler(ignored_resources=(MEMORY,))
    rig.deployment("chat", 0)
    job(rig, "first", 30_000)
    rig.start(rig.policy(CHAT), chat__decode=0)
    where = bound(rig, "first")
    told(rig, "first", 30_000)
    job(rig, "second", 50_000)
    assert bound(rig, "second") == where
    told(rig, "second", 50_000)
    job(rig, "whole")
    assert bound(rig, "whole") != where
    told(rig, "whole", CARD_MIB)
    job(rig, "late", 30_000)
    rig.stays(lambda: rig.suspended("late"), "no card has room for it")
