"""The stand-in of LeaderWorkerSet on a real API server does what the real one was seen to do
(`kinds.md` section 4), above all the traps: what looks released and is not.
"""

import time

import msgspec

from tests.controlplane.kinds.cases import (
    HELD,
    LAZY,
    L,
    controllers,
    dying,
    let_go,
    lws,
    lws_ready,
    patch,
    scale,
    settled,
    uids,
)
from tests.controlplane.kinds.store import LWS
from tests.controlplane.kinds.world import Log, World, condition, eventually


def test_lws_children_and_status(kinds_world: World) -> None:
    with controllers(kinds_world):
        kinds_world.make(LWS, lws(2))
        status = lws_ready(kinds_world, 2)["status"]
        settled(kinds_world, ["w-0", "w-0-1", "w-1", "w-1-1"])
        worker = kinds_world.read("pods", "w-1-1")["metadata"]
        scale_now = msgspec.json.decode(kinds_world.api.get(kinds_world.path(LWS, "w") + "/scale"))
    assert status["hpaPodSelector"] == f"{L}/name=w,{L}/worker-index=0"
    assert {key: worker["labels"][f"{L}/{key}"] for key in ("name", "group-index")} == {
        "name": "w",
        "group-index": "1",
    }
    assert worker["labels"][f"{L}/worker-index"] == "1"
    assert worker["annotations"][f"{L}/size"] == "2"
    assert worker["annotations"][f"{L}/leader-name"] == "w-1"
    assert worker["ownerReferences"][0]["name"] == "w-1"
    assert (scale_now["spec"], scale_now["status"]["replicas"]) == ({"replicas": 2}, 2)


def test_lws_gpus_are_held_for_two_terminations_and_the_status_is_down_after_one(
    kinds_world: World,
) -> None:
    with controllers(kinds_world):
        kinds_world.make(LWS, lws(3, exit_seconds=HELD))
        lws_ready(kinds_world, 3)
        notes = {"controller.kubernetes.io/pod-deletion-cost": "-1000"}
        kinds_world.api.patch(
            kinds_world.path("pods", "w-0"), {"metadata": {"annotations": notes}}, "merge"
        )
        log = Log(kinds_world, LWS)
        scale(kinds_world, LWS, "w", 2)
        eventually(lambda: dying(kinds_world) == ["w-2"], "only the highest leader goes")
        assert kinds_world.read(LWS, "w")["status"]["replicas"] == 3
        let_go(kinds_world, "w-2")
        eventually(lambda: kinds_world.read(LWS, "w")["status"]["replicas"] == 2, "status is down")
        assert "w-2-1" in kinds_world.names("pods")
        let_go(kinds_world, "w-2-1")
        settled(kinds_world, ["w-0", "w-0-1", "w-1", "w-1-1"])
        events = log.stop()
    assert {condition(one, "Available") for _, one in events} == {"True"}


def test_lws_null_means_one_and_zero_means_no_fields(kinds_world: World) -> None:
    with controllers(kinds_world):
        kinds_world.make(LWS, lws(2))
        lws_ready(kinds_world, 2)
        patch(kinds_world, LWS, "w", {"spec": {"replicas": None}})
        lws_ready(kinds_world, 1)
        scale(kinds_world, LWS, "w", 0)
        settled(kinds_world, [])
        found = lws_ready(kinds_world, 0)
        assert "replicas" not in found["status"]
        scale_now = msgspec.json.decode(kinds_world.api.get(kinds_world.path(LWS, "w") + "/scale"))
        assert scale_now["status"]["replicas"] == 0
        scale(kinds_world, LWS, "w", 1)
        lws_ready(kinds_world, 1)


def test_lws_losing_a_worker_costs_the_group(kinds_world: World) -> None:
    with controllers(kinds_world):
        kinds_world.make(LWS, lws(2))
        lws_ready(kinds_world, 2)
        before = uids(kinds_world)
        kinds_world.delete("pods", "w-1-1")
        eventually(
            lambda: uids(kinds_world).get("w-1", before["w-1"]) != before["w-1"], "new leader"
        )
        lws_ready(kinds_world, 2)
        settled(kinds_world, sorted(before))
        after = uids(kinds_world)
    assert {name for name in before if before[name] == after[name]} == {"w-0", "w-0-1"}


def test_lws_flap_cancels_nothing_while_the_status_says_ready(kinds_world: World) -> None:
    with controllers(kinds_world, manners=LAZY):
        kinds_world.make(LWS, lws(2, exit_seconds=HELD))
        lws_ready(kinds_world, 2)
        before = uids(kinds_world)
        scale(kinds_world, LWS, "w", 1)
        eventually(lambda: dying(kinds_world) == ["w-1"], "leader 1 goes")
        scale(kinds_world, LWS, "w", 2)
        time.sleep(0.3)
        found = kinds_world.read(LWS, "w")
        assert found["status"]["readyReplicas"] == 2
        assert condition(found, "Available") == "True"
        let_go(kinds_world, "w-1")
        let_go(kinds_world, "w-1-1")
        eventually(
            lambda: uids(kinds_world).get("w-1-1", before["w-1-1"]) != before["w-1-1"], "rebuilt"
        )
        lws_ready(kinds_world, 2)
