"""The stand-in of RoleBasedGroup on a real API server does what the real one was seen to do
(`kinds.md` section 3), above all the traps: what looks released and is not.
"""

from tests.controlplane.kinds.cases import (
    HELD,
    LAZY,
    STATELESS,
    R,
    controllers,
    dying,
    group_ready,
    label,
    let_go,
    patch,
    rbg,
    role,
    scale,
    set_role,
    settled,
    uids,
)
from tests.controlplane.kinds.store import INSTANCE, RBG, SET
from tests.controlplane.kinds.world import Log, World, condition, eventually


def test_rbg_children_gates_and_the_wrong_index_label(kinds_world: World) -> None:
    with controllers(kinds_world):
        kinds_world.make(RBG, rbg(role("prefill", 2), role("decode", 2, size=2)))
        group_ready(kinds_world, prefill=2, decode=2)
        assert kinds_world.names(SET) == ["pd-decode", "pd-prefill"]
        assert kinds_world.names(INSTANCE) == [
            "pd-decode-0",
            "pd-decode-1",
            "pd-prefill-0",
            "pd-prefill-1",
        ]
        pods = kinds_world.names("pods", f"{R}/role-instance-name=pd-decode-0")
        assert pods == ["pd-decode-0-0", "pd-decode-0-1"]
        worker = kinds_world.read("pods", "pd-decode-0-1")
        # trap R1: instance 0's pod says 1, because both were made in one go
        assert worker["metadata"]["labels"][f"{R}/role-instance-index"] == "1"
        assert worker["metadata"]["labels"][f"{R}/component-index"] == "1"
        assert worker["metadata"]["labels"][f"{R}/component-size"] == "2"
        gates = [one["conditionType"] for one in worker["spec"]["readinessGates"]]
        assert gates == ["InPlaceUpdateReady", "InstancePodReady"]
        instance = kinds_world.read(INSTANCE, "pd-decode-0")
        assert instance["metadata"]["labels"][f"{R}/role-instance-index"] == "0"
        set_role(kinds_world, 1, 3)
        group_ready(kinds_world, decode=3)
        assert label(kinds_world, "pd-decode-2-0", f"{R}/role-instance-index") == "2"


def test_rbg_is_ready_while_the_removed_pods_still_hold_their_gpus(kinds_world: World) -> None:
    with controllers(kinds_world):
        kinds_world.make(RBG, rbg(role("decode", 3, size=2, exit_seconds=HELD)))
        group_ready(kinds_world, decode=3)
        set_role(kinds_world, 0, 1)
        doomed = [f"pd-decode-{i}-{j}" for i in (1, 2) for j in (0, 1)]
        eventually(lambda: dying(kinds_world) == doomed, "two instances go")
        group_ready(kinds_world, decode=1)
        assert kinds_world.names(INSTANCE) == ["pd-decode-0"]
        let_go(kinds_world, *doomed)
        settled(kinds_world, ["pd-decode-0-0", "pd-decode-0-1"])
        set_role(kinds_world, 0, 0)
        group_ready(kinds_world, decode=0)
        let_go(kinds_world, "pd-decode-0-0", "pd-decode-0-1")
        settled(kinds_world, [])
        set_role(kinds_world, 0, 1)
        group_ready(kinds_world, decode=1)


def test_rbg_a_write_to_the_set_is_carried_out_and_then_reverted(kinds_world: World) -> None:
    with controllers(kinds_world):
        kinds_world.make(RBG, rbg(role("decode", 2, size=2)))
        group_ready(kinds_world, decode=2)
        before = uids(kinds_world)
        log = Log(kinds_world, INSTANCE)
        scale(kinds_world, SET, "pd-decode", 1)
        eventually(lambda: kinds_world.read(SET, "pd-decode")["spec"]["replicas"] == 2, "reverted")
        eventually(
            lambda: uids(kinds_world).get("pd-decode-1-0", "") not in {"", before["pd-decode-1-0"]},
            "rebuilt",
        )
        group_ready(kinds_world, decode=2)
        kinds = [(event, one["metadata"]["name"]) for event, one in log.stop()]
    assert ("DELETED", "pd-decode-1") in kinds
    assert ("ADDED", "pd-decode-1") in kinds


def test_rbg_stateless_the_cheapest_instance_goes(kinds_world: World) -> None:
    with controllers(kinds_world):
        kinds_world.make(RBG, rbg(role("decode", 3, **STATELESS)))
        group_ready(kinds_world, decode=3)
        first, chosen, last = kinds_world.names(INSTANCE)
        assert all(len(name) == len("pd-decode-xxxxx") for name in (first, chosen, last))
        selector = kinds_world.read(SET, "pd-decode")["status"]["labelSelector"]
        assert selector.startswith(f"{R}/role-instance-owner=")
        cost = {"controller.kubernetes.io/instance-deletion-cost": "-100"}
        patch(kinds_world, INSTANCE, chosen, {"metadata": {"annotations": cost}})
        wrong = {"controller.kubernetes.io/pod-deletion-cost": "-1000"}
        kinds_world.api.patch(
            kinds_world.path("pods", first), {"metadata": {"annotations": wrong}}, "merge"
        )
        set_role(kinds_world, 0, 2)
        group_ready(kinds_world, decode=2)
        assert kinds_world.names(INSTANCE) == [first, last]
        settled(kinds_world, [first, last])


def test_rbg_one_lost_pod_makes_its_sibling_unready_and_restarts_nothing_else(
    kinds_world: World,
) -> None:
    with controllers(kinds_world):
        kinds_world.make(RBG, rbg(role("decode", 1, size=2, exit_seconds=HELD)))
        group_ready(kinds_world, decode=1)
        before = uids(kinds_world)
        kinds_world.delete("pods", "pd-decode-0-1")
        eventually(
            lambda: condition(kinds_world.read("pods", "pd-decode-0-0"), "Ready") == "False",
            "the leader is not ready",
        )
        let_go(kinds_world, "pd-decode-0-1")
        eventually(
            lambda: uids(kinds_world).get("pd-decode-0-1") != before["pd-decode-0-1"], "gone"
        )
        group_ready(kinds_world, decode=1)
        assert uids(kinds_world)["pd-decode-0-0"] == before["pd-decode-0-0"]


def test_rbg_a_flap_adopts_dying_pods_and_says_ready(kinds_world: World) -> None:
    with controllers(kinds_world, manners=LAZY):
        kinds_world.make(RBG, rbg(role("decode", 2, exit_seconds=HELD)))
        group_ready(kinds_world, decode=2)
        before = uids(kinds_world)
        set_role(kinds_world, 0, 1)
        eventually(lambda: dying(kinds_world) == ["pd-decode-1"], "pod 1 goes")
        set_role(kinds_world, 0, 2)
        group_ready(kinds_world, decode=2)
        let_go(kinds_world, "pd-decode-1")
        eventually(
            lambda: uids(kinds_world).get("pd-decode-1") not in {None, before["pd-decode-1"]}, "new"
        )
        group_ready(kinds_world, decode=2)


def test_rbg_an_unmet_dependency_holds_a_role_both_ways(kinds_world: World) -> None:
    with controllers(kinds_world):
        kinds_world.make(RBG, rbg(role("prefill", 1), role("decode", 2, dependencies=["prefill"])))
        group_ready(kinds_world, prefill=1, decode=2)
        set_role(kinds_world, 0, 99)  # cannot be placed
        eventually(lambda: len(kinds_world.names(INSTANCE)) > 50, "many instances")
        set_role(kinds_world, 1, 1)
        eventually(
            lambda: "DependencyNotMet" in {one["reason"] for one in kinds_world.all("events")},
            "an event says so",
        )
        assert kinds_world.read(SET, "pd-decode")["spec"]["replicas"] == 2
        set_role(kinds_world, 0, 1)
        group_ready(kinds_world, prefill=1, decode=1)
