"""Counts of roles: one guarded patch, of the right object, with the right victims."""

from typing import Literal

import pytest

from scheduler.planning.actions import Unplaced
from tests.adapters.actuating import (
    ROLE,
    World,
    controlled,
    deployment,
    meta,
    path_of,
    pod,
    scale,
)
from tests.adapters.fakeapi import GUARD, UNREACHABLE, Object, refusal

COST = "controller.kubernetes.io/pod-deletion-cost"
RETIRED = "-1000000"


def pods(*names: str) -> list[Object]:
    return [pod(name) for name in names]


@pytest.fixture
def world() -> World:
    return World().add("deployments", deployment()).add("pods", *pods("d-a", "d-b", "d-c"))


def test_count_and_annotations_change_in_one_patch(world: World) -> None:
    assert world.apply(scale(3, 5), epoch=7) == (True, "")
    assert world.api.wrote() == [path_of("deployments", "d")]
    assert world.now_at("deployments", "d")["spec"]["replicas"] == 5
    assert world.notes("deployments", "d") == {"tidal.dev/replicas": "5", "tidal.dev/epoch": "7"}
    assert world.told == [("Deployment ns/d", "ScaledUp", "because")]


def test_a_second_time_it_does_nothing(world: World) -> None:
    world.apply(scale(3, 5))
    assert world.apply(scale(3, 5)) == (False, "expected 3, spec has 5")
    assert len(world.api.wrote()) == 1


def test_annotations_of_others_stay(world: World) -> None:
    world.add("deployments", deployment(annotations={"a/b~c": "1", "tidal.dev/replicas": "3"}))
    assert world.apply(scale(3, 4))[0]
    assert world.notes("deployments", "d")["a/b~c"] == "1"
    assert world.notes("deployments", "d")["tidal.dev/replicas"] == "4"


REFUSED = [
    (
        deployment(annotations={"tidal.dev/epoch": "4"}),
        scale(3, 4),
        "epoch 1 is fenced off by 4",
        "FencedOff",
    ),
    (deployment(4), scale(3, 5), "expected 3, spec has 4", ""),
    (deployment(3), scale(3, 3), "nothing to do: spec has that count", ""),
    (deployment(3), scale(3, -1), "replicas must not be negative, not -1", ""),
    (
        deployment(annotations={"tidal.dev/replicas": "9"}),
        scale(3, 4),
        "Deployment ns/d was set to 3 by somebody else: left alone until 2027-01-15T09:00:00Z",
        "OverriddenByUser",
    ),
    (
        deployment(annotations={"tidal.dev/override-until": "2027-01-15T08:10:00Z"}),
        scale(3, 4),
        "Deployment ns/d was set to 3 by somebody else: left alone until 2027-01-15T08:10:00Z",
        "OverriddenByUser",
    ),
    (
        deployment(ownerReferences=controlled("RoleBasedGroup", "g")),
        scale(3, 4),
        (
            "Deployment ns/d belongs to RoleBasedGroup g, which would undo the change: "
            "name that as the target"
        ),
        "",
    ),
    (deployment(), scale(3, 4, role="m/none"), "the policy names no target for m/none", ""),
    (deployment(), scale(3, 4, "ns/d-a"), "names 1 replicas to retire, -1 would go", ""),
    (deployment(), scale(3, 2, "ns/d-x"), "cannot retire ns/d-x: not there", ""),
    (
        deployment(),
        scale(3, 1, "ns/d-a"),
        "2 replicas would be left for 1: others than those named would go",
        "",
    ),
]


@pytest.mark.parametrize(("body", "action", "detail", "reason"), REFUSED)
def test_what_speaks_against_it_is_said_and_nothing_is_written(
    body: Object, action: object, detail: str, reason: str
) -> None:
    world = World().add("deployments", body).add("pods", *pods("d-a", "d-b", "d-c"))
    assert world.apply(action) == (False, detail)
    assert world.api.wrote() == []
    assert world.reasons() == ([reason] if reason else [])


def test_a_missing_workload_is_said() -> None:
    assert World().apply(scale(3, 4)) == (False, "there is no Deployment ns/d")


def test_an_autoscaler_of_the_same_target_is_refused(world: World) -> None:
    target = {"scaleTargetRef": {"kind": "Deployment", "name": "d"}}
    world.add("horizontalpodautoscalers", {"metadata": meta("h"), "spec": target})
    detail = "HorizontalPodAutoscaler ns/h scales it too: delete one"
    assert world.apply(scale(3, 4)) == (False, detail)
    assert world.reasons() == ["RefusedByAutoscaler"]


def test_a_shortage_is_said_once_on_the_workload_and_again_when_it_comes_back(world: World) -> None:
    short = (Unplaced(ROLE, 1500, "m/r lacks 1.5 replicas: no GPU can be freed"),)
    for unplaced in (short, short, (), short):
        world.actuator.tell_shortages(unplaced)
    assert world.reasons() == ["NoGPUsForReplicas", "NoGPUsForReplicas"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [("spread", "SpreadBarsReplicas"), ("proximity", "ProximityBarsReplicas")],
)
def test_a_shortage_by_rule_has_a_reason_of_its_own(
    code: Literal["spread", "proximity"], reason: str
) -> None:
    world = World().add("deployments", deployment())
    world.actuator.tell_shortages((Unplaced(ROLE, 1000, "m/r lacks 1.0 replicas", code),))
    assert world.reasons() == [reason]


def test_a_shortage_of_a_role_that_is_gone_is_not_said() -> None:
    world = World()
    world.actuator.tell_shortages((Unplaced(ROLE, 1000, "m/r lacks 1.0 replicas"),))
    assert world.reasons() == []


def test_an_edit_whose_hold_is_over_is_overwritten(world: World) -> None:
    held = {
        "tidal.dev/replicas": "9",
        "tidal.dev/override-replicas": "3",
        "tidal.dev/override-until": "2027-01-15T07:59:59Z",
    }
    world.add("deployments", deployment(annotations=held))
    assert world.apply(scale(3, 4)) == (True, "")
    assert world.notes("deployments", "d") == {"tidal.dev/replicas": "4", "tidal.dev/epoch": "1"}


# ---- races -----------------------------------------------------------------------------------


def test_an_edit_that_the_watches_do_not_show_yet_stops_the_write(world: World) -> None:
    world.freeze()
    world.add("deployments", deployment(7))
    assert world.apply(scale(3, 4)) == (False, "expected 3, spec has 7")
    assert world.now_at("deployments", "d")["spec"]["replicas"] == 7


def test_an_edit_of_something_else_does_not(world: World) -> None:
    world.freeze()
    world.add("deployments", deployment(annotations={"kubectl/x": "new"}))
    assert world.apply(scale(3, 4)) == (True, "")
    assert world.notes("deployments", "d")["kubectl/x"] == "new"


def test_a_later_planner_that_the_watches_do_not_show_yet_stops_the_write(world: World) -> None:
    world.freeze()
    world.add("deployments", deployment(annotations={"tidal.dev/epoch": "3"}))
    assert world.apply(scale(3, 4)) == (False, "epoch 1 is fenced off by 3")


@pytest.mark.parametrize("status", [409, 429, 500, 503])
def test_what_passes_is_tried_again(world: World, status: int) -> None:
    world.api.answers[f"PATCH {path_of('deployments', 'd')}"] = [refusal(status), refusal(status)]
    assert world.apply(scale(3, 4)) == (True, "")


def test_but_not_for_ever(world: World) -> None:
    world.api.answers[f"PATCH {path_of('deployments', 'd')}"] = [GUARD] * 9
    applied, detail = world.apply(scale(3, 4))
    assert (applied, len(world.api.wrote())) == (False, 3)
    assert detail.startswith("the API server refused deployments/d: 422 Invalid")


def test_no_right_is_said(world: World) -> None:
    forbidden = refusal(403, "Forbidden", "cannot patch")
    world.api.answers[f"PATCH {path_of('deployments', 'd')}"] = [forbidden]
    detail = "the API server refused deployments/d: 403 Forbidden: cannot patch"
    assert world.apply(scale(3, 4)) == (False, detail)


# ---- victims of a Deployment -------------------------------------------------------------------


def test_those_to_retire_get_the_lowest_cost_first(world: World) -> None:
    assert world.apply(scale(3, 2, "ns/d-b")) == (True, "")
    assert world.api.wrote() == [path_of("pods", "d-b"), path_of("deployments", "d")]
    assert world.notes("pods", "d-b") == {COST: RETIRED}
    assert world.reasons() == ["ScaledDown"]


def test_a_cost_left_over_is_taken_away(world: World) -> None:
    world.add("pods", pod("d-c", meta={"annotations": {COST: RETIRED, "x": "y"}}))
    assert world.apply(scale(3, 2, "ns/d-b"))[0]
    assert world.notes("pods", "d-c") == {"x": "y"}


def test_costs_are_put_back_where_the_count_is_refused(world: World) -> None:
    world.add("pods", pod("d-b", meta={"annotations": {COST: "5"}}))
    world.freeze()
    world.add("deployments", deployment(7))
    assert not world.apply(scale(3, 2, "ns/d-b"))[0]
    assert world.notes("pods", "d-b") == {COST: "5"}


def test_a_replica_that_is_gone_meanwhile_stops_it(world: World) -> None:
    world.freeze()
    del world.api.objects[path_of("pods", "d-b")]
    assert world.apply(scale(3, 2, "ns/d-b")) == (False, "pods/d-b is gone")
    assert world.now_at("deployments", "d")["spec"]["replicas"] == 3


def test_a_rollout_lets_nobody_be_chosen(world: World) -> None:
    new = {"pod-template-hash": "6e"}
    world.add("pods", pod("d-c", ("ReplicaSet", "d-6e"), meta={"labels": new}))
    detail = "a rollout is under way: nobody can say whose pods go"
    assert world.apply(scale(3, 2, "ns/d-b")) == (False, detail)


def test_one_that_is_not_ready_may_go_first_and_that_is_said(world: World) -> None:
    world.add("pods", pod("d-c", status={"phase": "Pending"}))
    assert world.apply(scale(3, 2, "ns/d-b")) == (True, "ns/d-c may go first: not ready")


def test_terminating_replicas_are_no_replicas(world: World) -> None:
    gone = {"deletionTimestamp": "2027-01-15T08:00:00Z"}
    world.add("pods", pod("d-x", meta=gone))
    assert world.apply(scale(3, 2, "ns/d-b")) == (True, "")


# ---- the highest ordinals ----------------------------------------------------------------------


def stateful(start: int = 0) -> World:
    body = {"metadata": meta("s"), "spec": {"replicas": 3, "ordinals": {"start": start}}}
    names = [f"s-{start + one}" for one in range(3)]
    every = [pod(name, ("StatefulSet", "s")) for name in names]
    return World("StatefulSet", "s").add("statefulsets", body).add("pods", *every)


@pytest.mark.parametrize("first", [0, 5])
def test_the_highest_ordinals_may_go(first: int) -> None:
    world = stateful(first)
    assert world.apply(scale(3, 1, f"ns/s-{first + 1}", f"ns/s-{first + 2}")) == (True, "")
    assert world.api.wrote() == [path_of("statefulsets", "s")]


@pytest.mark.parametrize("retire", [["ns/s-0"], ["ns/s-0", "ns/s-2"], []])
def test_others_may_not(retire: list[str]) -> None:
    world = stateful()
    applied, detail = world.apply(scale(3, 3 - max(1, len(retire)), *retire))
    assert not applied
    assert detail.startswith("StatefulSet ns/s removes its highest ordinals, ns/s-")
    assert world.api.wrote() == []


def test_a_leader_worker_set_by_whole_groups() -> None:
    body = {"metadata": meta("w"), "spec": {"replicas": 2, "leaderWorkerTemplate": {"size": 2}}}
    world = World("LeaderWorkerSet", "w").add("leaderworkersets", body)
    for group in ("0", "1"):
        labels = {
            "leaderworkerset.sigs.k8s.io/name": "w",
            "leaderworkerset.sigs.k8s.io/group-index": group,
        }
        for name in (f"w-{group}", f"w-{group}-1"):
            world.add("pods", pod(name, ("StatefulSet", "w"), meta={"labels": labels}))
    assert world.apply(scale(2, 1, "ns/w-1")) == (True, "")
    assert world.now_at("leaderworkersets", "w")["spec"]["replicas"] == 1


def test_unreachable_is_an_outcome_and_ends_the_call_early() -> None:
    world = World().add("deployments", deployment())
    world.api.answers[f"PATCH {path_of('deployments', 'd')}"] = [UNREACHABLE] * 3
    outcomes = world.actuator.apply((scale(3, 4),) * 4, 1)
    assert [one.applied for one in outcomes] == [False] * 4
    assert outcomes[0].detail.startswith("API server unreachable: PATCH")
    assert outcomes[3].detail == "API server unreachable: not tried"
    assert len(world.api.wrote()) == 2
