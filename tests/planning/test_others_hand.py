"""Counts that are not Tidal's to set, and workloads whose replicas nobody can choose."""

import msgspec
import pytest

from scheduler.planning.actions import Plan, ScaleRole, StopJob
from scheduler.planning.memory import Memory
from scheduler.planning.planner import plan
from scheduler.planning.snapshot import Replica, Snapshot
from tests.fixtures.worlds import forecasts, job, node, policy, replica, role, signal, world

NOW = 10_000.0


def planned(snapshot: Snapshot) -> Plan:
    return plan(snapshot, Memory(since_seconds=0.0), policy(), "full")[0]


def scaled(snapshot: Snapshot) -> list[ScaleRole]:
    return [one for one in planned(snapshot).actions if isinstance(one, ScaleRole)]


def ranked(name: str, on: str, ordinal: int, state: str = "ready") -> Replica:
    return msgspec.structs.replace(replica(name, on, state=state), ordinal=ordinal)


@pytest.mark.parametrize(
    "hand", [{"scaled_by_other": "HorizontalPodAutoscaler default/x"}, {"until": NOW + 60}]
)
@pytest.mark.parametrize("tokens", [0.0, 9000.0])
def test_a_count_in_other_hands_is_neither_raised_nor_lowered(
    hand: dict[str, object], tokens: float
) -> None:
    fields = {"override_until_seconds" if k == "until" else k: v for k, v in hand.items()}
    snapshot = world(
        node("n0"),
        roles=(role(2, **fields),),
        replicas=(replica("r0", "n0"), replica("r1", "n0")),
        signals=(signal(tokens),),
        forecasts=forecasts(tokens),
    )
    made = planned(snapshot)
    assert (made.actions, made.reservations) == ((), ())


def test_once_the_hold_is_over_the_count_is_tidals_again() -> None:
    snapshot = world(
        node("n0"),
        roles=(role(2, override_until_seconds=NOW - 1),),
        replicas=(replica("r0", "n0"), replica("r1", "n0")),
        signals=(signal(1000.0),),
        forecasts=forecasts(1000.0),
    )
    assert [one.replicas for one in scaled(snapshot)] == [1]


def test_replicas_that_a_person_asked_for_get_gpus_that_batch_holds() -> None:
    full = {0: "j", 1: "j", 2: "j", 3: "j", 4: "j", 5: "j", 6: "j", 7: "j"}
    snapshot = world(
        node("n0", full),
        roles=(role(1, override_until_seconds=NOW + 60),),
        replicas=(replica("r0", "", state="pending"),),
        jobs=(job("j", {"n0": 8}),),
        signals=(signal(0.0),),
        forecasts=forecasts(0.0),
    )
    made = planned(snapshot)
    assert [one.job for one in made.actions if not isinstance(one, ScaleRole)] == ["j"]
    assert scaled(snapshot) == []
    assert [one.owner for one in made.reservations] == ["chat/decode"]


def test_a_replica_that_waits_is_placed_also_without_metrics() -> None:
    snapshot = world(node("n0"), roles=(role(1),), replicas=(replica("r0", "", state="pending"),))
    made = planned(snapshot)
    assert [one.owner for one in made.reservations] == ["chat/decode"]
    assert not any(isinstance(one, ScaleRole | StopJob) for one in made.actions)


@pytest.mark.parametrize(("removable", "gone"), [("any", ("r0", "r2")), ("last", ("r3", "r2"))])
def test_only_the_highest_ordinals_go_where_nobody_can_choose(
    removable: str, gone: tuple[str, ...]
) -> None:
    """r0 and r2 stand on the emptier node, and would be the better choice."""
    places = {"r0": "n1", "r1": "n0", "r2": "n1", "r3": "n0"}
    held = {0: "x", 1: "x", 2: "r1", 3: "r1", 4: "r3", 5: "r3"}
    snapshot = world(
        node("n0", held),
        node("n1", {0: "r0", 1: "r0", 2: "r2", 3: "r2"}),
        roles=(role(4, removable=removable),),
        replicas=tuple(ranked(name, on, int(name[1])) for name, on in places.items()),
        signals=(signal(2000.0),),
        forecasts=forecasts(2000.0),
    )
    (action,) = scaled(snapshot)
    assert (action.replicas, set(action.retire)) == (2, set(gone))


def test_a_waiting_replica_of_the_highest_ordinal_goes_first() -> None:
    snapshot = world(
        node("n0", {0: "r0", 1: "r0"}),
        roles=(role(2, removable="last"),),
        replicas=(ranked("r0", "n0", 0), ranked("r1", "", 1, "pending")),
        signals=(signal(0.0),),
        forecasts=forecasts(0.0),
    )
    assert [one.retire for one in scaled(snapshot)] == [("r1",)]
