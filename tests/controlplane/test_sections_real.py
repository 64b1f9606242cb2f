"""Taints, labels and anti-affinity, under a real kube-scheduler: who is planned where.

kube-scheduler filters such nodes itself. A plan that did not know them would lend a job GPUs on
which its pods cannot run, and lend them again when the place has expired.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.controlplane.kinds.world import Object
from tests.controlplane.plane import ControlPlane
from tests.controlplane.rig import Rig, rig_of

pytestmark = pytest.mark.controlplane

CHAT = {"chat/decode": {"target": {"kind": "Deployment", "name": "chat"}}}
TEAM = {"key": "team", "value": "a", "effect": "NoSchedule"}
TOLERANT = {"tolerations": [{"key": "team", "operator": "Exists"}]}


@pytest.fixture
def rig(plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Rig]:
    with rig_of(plane, namespace, tmp_path) as one:
        yield one


def edited(rig: Rig, name: str, **parts: Object) -> None:
    rig.api.patch(f"/api/v1/nodes/{name}", parts, "merge")


def test_jobs_and_replicas_go_where_their_pods_may_run(rig: Rig) -> None:
    """The first node is the one that best fit would fill: it comes first by name."""
    rig.nodes(2)
    fenced, plain = sorted(one["metadata"]["name"] for one in nodes(rig))
    edited(rig, fenced, spec={"taints": [TEAM]})
    rig.scheduler()
    rig.deployment("chat", 0)
    rig.job("stranger", gpus=4)
    script = rig.start(rig.policy(CHAT), chat__decode=0)
    rig.has_ready("stranger", 1)
    assert rig.nodes_of("stranger") == [plain]
    rig.job("member", gpus=8, spec=TOLERANT)
    rig.has_ready("member", 1)
    assert rig.nodes_of("member") == [fenced]
    script.say("chat/decode", 3500)
    rig.has_ready("chat", 4)
    assert set(rig.nodes_of("chat")) == {plain}
    rig.job("picky", gpus=1, spec={"nodeSelector": {"disk": "ssd"}})
    rig.stays(lambda: rig.suspended("picky"), "no node has such a label")
    edited(rig, fenced, metadata={"labels": {"disk": "ssd"}})
    rig.stays(lambda: rig.suspended("picky"), "it does not tolerate the node's taint")
    edited(rig, plain, metadata={"labels": {"disk": "ssd"}})
    rig.stays(lambda: rig.suspended("picky"), "what is left of the node serves the role")
    script.say("chat/decode", 0)
    rig.has_ready("picky", 1)
    assert rig.nodes_of("picky") == [plain]


def nodes(rig: Rig) -> list[Object]:
    """The nodes of this namespace's rig."""
    found: list[Object] = msgspec.json.decode(rig.api.get("/api/v1/nodes"))["items"]
    return [one for one in found if one["metadata"]["name"].startswith("n-")]


def test_replicas_that_keep_off_each_others_nodes_are_planned_so(rig: Rig) -> None:
    """As many as there are nodes; the next one is not asked for, and the reason is told."""
    rig.nodes(2)
    rig.scheduler()
    own = {"labelSelector": {"matchLabels": {"app": "chat"}}}
    required = [{"topologyKey": "kubernetes.io/hostname", **own}]
    against = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    rig.deployment("chat", 0, spec={"affinity": against})
    rig.start(rig.policy(CHAT), chat__decode=3500)
    rig.has_ready("chat", 2)
    assert len(set(rig.nodes_of("chat"))) == 2
    rig.stays(lambda: len(rig.nodes_of("chat")) == 2, "a third one has no node")
    rig.has_event("chat", "SpreadBarsReplicas")
