"""Serving workloads of every kind: what their owners see when Tidal runs a cluster.

RoleBasedGroup and LeaderWorkerSet have the stand-in controllers of `tests.controlplane.kinds`.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from scheduler.apiserver.times import seconds
from tests.controlplane.diary import Diary, diary_of
from tests.controlplane.kinds.store import ADAPTER, LWS, RBG
from tests.controlplane.kinds.world import Object, eventually, pod
from tests.controlplane.plane import ControlPlane
from tests.controlplane.rig import Rig, rig_of

pytestmark = pytest.mark.controlplane

CHAT = {"chat/decode": {"target": {"kind": "Deployment", "name": "chat"}}}
SET = {"kind": "LeaderWorkerSet", "name": "chat"}
PAIR = {"chat/decode": {"target": SET, "pods_per_replica": 2}}
HOLD_SECONDS = 1800
"""Long enough for any machine; a test ends a hold by putting its end into the past."""
HOLD: Object = {"override_hold_seconds": HOLD_SECONDS}
HELD_UNTIL = "tidal.dev/override-until"
DEPLOYMENTS = "apps/v1/deployments"
BOTH = ("adapter", "no adapter")
SCALED_TOO = re.compile("HorizontalPodAutoscaler.*delete one")


@pytest.fixture
def rig(kinds_served: None, plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Rig]:
    with rig_of(plane, namespace, tmp_path) as one:
        yield one


@pytest.fixture
def diary(rig: Rig) -> Iterator[Diary]:
    with diary_of(rig) as one:
        yield one


def group_role(name: str = "decode", **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"target": {"kind": "RoleBasedGroup", "name": "pd", "role": name}, **more}


def scale(rig: Rig, resource: str, name: str, replicas: int) -> None:
    """What `kubectl scale` does."""
    body = {"spec": {"replicas": replicas}}
    rig.api.patch(rig.world.path(resource, name) + "/scale", body, "merge")


def count(rig: Rig, resource: str, name: str) -> int:
    return int(rig.world.read(resource, name)["spec"]["replicas"])


def names(rig: Rig, app: str) -> list[str]:
    return rig.world.names("pods", f"app={app}")


def gated(rig: Rig, app: str) -> list[bool]:
    return [bool(one["spec"].get("schedulingGates")) for one in rig.world.all("pods", f"app={app}")]


# ---- places ------------------------------------------------------------------------------------


def test_a_gang_of_two_nodes_is_bound_whole_or_not_at_all(rig: Rig, diary: Diary) -> None:
    """One free node under each of two leaves is room for two pods, and for no gang."""
    rig.nodes(4, leaf=2)
    rig.scheduler()
    rig.kinds()
    for number in (1, 3):
        rig.world.make("pods", pod(f"lone-{number}", 8, f"n-{number:04}", meta=labels("lone")))
    rig.has_ready("lone", 2)
    rig.lws("chat", 1, gpus=8, gate=True)
    rig.start(
        rig.policy({"chat/decode": {**PAIR["chat/decode"], "gpus_per_pod": 8}}), chat__decode=900
    )
    eventually(lambda: len(names(rig, "chat")) == 2, "both pods made")
    rig.stays(lambda: gated(rig, "chat") == [True, True] and not any(rig.nodes_of("chat")), "gated")
    rig.world.delete("pods", "lone-1")
    rig.has_ready("chat", 2)
    assert sorted(rig.nodes_of("chat")) == ["n-0001", "n-0002"]


def labels(app: str) -> Object:
    return {"labels": {"app": app}}


def test_victims_of_a_deployment_free_a_whole_node(rig: Rig, diary: Diary) -> None:
    rig.nodes(2, gpus=4)
    rig.scheduler()
    rig.deployment("chat", 0)
    rig.start(rig.policy(CHAT), chat__decode=5900)
    rig.has_ready("chat", 6)
    before = rig.nodes_of("chat")
    emptier = min(set(before), key=before.count)
    assert before.count(emptier) == 2
    rig.job("night", gpus=4)
    rig.bounds("chat/decode", 0, 4)
    rig.has_ready("chat", 4)
    assert emptier not in rig.nodes_of("chat")
    rig.has_ready("night", 1)


def test_replicas_of_a_drained_node_come_elsewhere(rig: Rig, diary: Diary) -> None:
    rig.nodes(2)
    rig.scheduler()
    rig.deployment("chat", 2)
    rig.start(rig.policy(CHAT), chat__decode=1900)
    rig.has_ready("chat", 2)
    (node, _) = rig.nodes_of("chat")
    rig.api.patch(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": True}}, "merge")
    for name in names(rig, "chat"):
        if rig.world.read("pods", name)["spec"]["nodeName"] == node:
            body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
            rig.api.post(rig.world.path("pods", name) + "/eviction", body)
    rig.has_ready("chat", 2)
    assert node not in rig.nodes_of("chat")


# ---- counts ------------------------------------------------------------------------------------


def test_a_leader_worker_set_goes_to_zero_and_back_and_down(rig: Rig, diary: Diary) -> None:
    """The highest group goes; its GPUs are lent once the last pod of it is gone, a second
    termination after the first.
    """
    rig.nodes(1, gpus=4)
    rig.scheduler()
    rig.kinds()
    rig.lws("chat", 2, sim={"exit-seconds": "1.5"})
    script = rig.start(rig.policy(PAIR), chat__decode=0)
    eventually(lambda: count(rig, LWS, "chat") == 0 and not names(rig, "chat"), "to zero")
    script.say("chat/decode", 1900)
    rig.has_ready("chat", 4)
    rig.job("night", gpus=2)
    rig.bounds("chat/decode", 0, 1)
    rig.has_ready("night", 1)
    assert names(rig, "chat") == ["chat-0", "chat-0-1"]
    handed_over(diary, ["chat-1", "chat-1-1"], "night")


@pytest.mark.parametrize("adapter", [True, False], ids=BOTH)
def test_a_role_goes_to_zero_and_back_and_down(rig: Rig, diary: Diary, adapter: bool) -> None:
    """The group says Ready while pods of it terminate; their GPUs are lent when they are gone."""
    rig.nodes(1, gpus=4)
    rig.scheduler()
    rig.kinds()
    slow = {"exit-seconds": "3"}
    rig.group("pd", rig.role("decode", 2, size=2, adapter=adapter, sim=slow))
    script = rig.start(rig.policy({"chat/decode": group_role(pods_per_replica=2)}), chat__decode=0)
    eventually(lambda: not names(rig, "decode"), "to zero")
    script.say("chat/decode", 1900)
    rig.has_ready("decode", 4)
    rig.job("night", gpus=2)
    rig.bounds("chat/decode", 0, 1)
    rig.has_ready("night", 1)
    assert names(rig, "decode") == ["pd-decode-0-0", "pd-decode-0-1"]
    handed_over(diary, ["pd-decode-1-0", "pd-decode-1-1"], "night")
    assert (rig.world.found(ADAPTER, "pd-decode") is not None) == adapter


def handed_over(diary: Diary, before: list[str], app: str) -> None:
    """Each of the pods was gone before one of `app` was bound."""

    def gone(name: str) -> int:
        found = [
            n
            for n, (kind, one) in enumerate(diary.events)
            if (kind, one["metadata"]["name"]) == ("DELETED", name)
        ]
        return found[-1]

    bound = diary.when(
        lambda _, one: one["metadata"]["labels"].get("app") == app and "nodeName" in one["spec"]
    )
    assert max(map(gone, before)) < bound


# ---- other hands -------------------------------------------------------------------------------


def test_a_humans_count_is_left_alone_and_gets_its_gpus(rig: Rig, diary: Diary) -> None:
    rig.nodes(1)
    rig.scheduler()
    rig.deployment("chat", 1)
    rig.job("night", gpus=6)
    rig.start(rig.policy(CHAT, kubernetes=HOLD), chat__decode=1900)
    rig.has_ready("chat", 2)
    rig.has_ready("night", 1)
    scale(rig, DEPLOYMENTS, "chat", 4)
    rig.has_ready("chat", 4)
    assert rig.suspended("night")
    rig.has_event("chat", "OverriddenByUser")
    end_hold(rig, DEPLOYMENTS, "chat")
    rig.has_ready("chat", 2)
    rig.has_ready("night", 1)
    scale(rig, DEPLOYMENTS, "chat", 1)
    eventually(lambda: len(rig.ready("chat")) == 1, "down by hand")
    rig.stays(lambda: count(rig, DEPLOYMENTS, "chat") == 1, "the hold")
    end_hold(rig, DEPLOYMENTS, "chat")
    rig.has_ready("chat", 2)


def end_hold(rig: Rig, resource: str, name: str) -> None:
    """What the passing of time does to an edit that is left alone."""

    def noted() -> str:
        return str(rig.world.read(resource, name)["metadata"]["annotations"].get(HELD_UNTIL, ""))

    left = seconds(eventually(noted, "the end of the hold")) - time.time()
    assert 0 < left <= HOLD_SECONDS + 1
    past = {"metadata": {"annotations": {HELD_UNTIL: "2020-01-01T00:00:00Z"}}}
    rig.api.patch(rig.world.path(resource, name), past, "merge")


@pytest.mark.parametrize("version", ["0.7", "0.8"])
def test_a_humans_count_in_an_adapter_is_left_alone(
    rig: Rig, diary: Diary, version: Literal["0.7", "0.8"]
) -> None:
    """An edit of the group is its controller's to undo, at once or never, and Tidal's to ignore."""
    rig.nodes(1)
    rig.scheduler()
    rig.kinds(version)
    rig.group("pd", rig.role("decode", 1, adapter=True))
    rig.start(rig.policy({"chat/decode": group_role()}, kubernetes=HOLD), chat__decode=1900)
    rig.has_ready("decode", 2)
    scale(rig, ADAPTER, "pd-decode", 3)
    rig.has_ready("decode", 3)
    rig.stays(lambda: count(rig, ADAPTER, "pd-decode") == 3, "the hold")
    rig.has_event("pd-decode", "OverriddenByUser")
    end_hold(rig, ADAPTER, "pd-decode")
    rig.has_ready("decode", 2)
    change = {"op": "replace", "path": "/spec/roles/0/replicas", "value": 3}
    rig.api.patch(rig.world.path(RBG, "pd"), [change], "json")
    rig.stays(lambda: count(rig, ADAPTER, "pd-decode") == 2, "the adapter is the count")
    rig.has_ready("decode", 2)
    assert count(rig, ADAPTER, "pd-decode") == 2


def test_an_autoscaler_on_the_same_target_is_refused(rig: Rig, diary: Diary) -> None:
    rig.nodes(1)
    rig.scheduler()
    rig.deployment("chat", 1)
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"}
    scaler = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 5}
    scalers = "autoscaling/v2/horizontalpodautoscalers"
    rig.world.make(scalers, {"metadata": {"name": "theirs"}, "spec": scaler})
    rig.start(rig.policy(CHAT), chat__decode=2900)
    rig.has_ready("chat", 1)
    rig.has_event("chat", "RefusedByAutoscaler")
    rig.stays(lambda: count(rig, DEPLOYMENTS, "chat") == 1, "refused")
    eventually(lambda: any(SCALED_TOO.search(line) for line in rig.problems()), "the status too")
    rig.world.delete(scalers, "theirs")
    rig.has_ready("chat", 3)


# ---- prefill and decode ------------------------------------------------------------------------


def test_a_prefill_decode_set_stands_under_one_leaf(rig: Rig, diary: Diary) -> None:
    """The first leaf has the tighter fit for each of the roles, and room for one of them only."""
    rig.nodes(6, leaf=3)
    rig.scheduler()
    rig.kinds()
    for number in (1, 2):
        spec = pod(f"lone-{number}", 8, f"n-{number:04}", meta=labels("lone"))
        rig.world.make("pods", spec)
    rig.has_ready("lone", 2)
    prefill = rig.role("prefill", 0, gpus=8, adapter=True)
    decode = rig.role("decode", 0, size=2, gpus=8, adapter=True)
    rig.group("pd", prefill, decode)
    eventually(lambda: len(rig.world.all(ADAPTER)) == 2, "adapters")
    roles = {
        "chat/prefill": group_role("prefill", gpus_per_pod=8),
        "chat/decode": group_role(gpus_per_pod=8, pods_per_replica=2),
    }
    rig.start(rig.policy(roles, near=("chat",)), chat__prefill=900, chat__decode=900)
    rig.has_ready("prefill", 1)
    rig.has_ready("decode", 2)
    nodes = {*rig.nodes_of("prefill"), *rig.nodes_of("decode")}
    assert nodes == {"n-0004", "n-0005", "n-0006"}
