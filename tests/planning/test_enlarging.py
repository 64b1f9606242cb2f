"""Elastic jobs that were shrunk get pods back: when, where, how many, and never in turn."""

import msgspec
import pytest

from preemption.values import Stop
from scheduler.planning.actions import ResizeJob, StartJob, StopJob
from scheduler.planning.invariants import broken_by
from scheduler.planning.memory import Memory
from scheduler.planning.planner import plan
from scheduler.planning.snapshot import Job, Pod, Reservation, Snapshot
from tests.fixtures.worlds import forecasts, job, node, policy, role, world

HELD = dict.fromkeys(range(4), "e")


def elastic(**changes: object) -> Job:
    """A job of 4 GPUs a pod that runs with one pod on n0, and may have three."""
    return job("e", {"n0": 4}, **{"pods": 1, "max_pods": 3, "restart_seconds": 60.0, **changes})


def snapshot(one: Job, **parts: object) -> Snapshot:
    """It and an empty node beside it, and one under another switch."""
    nodes = (node("n0", HELD), node("n1"), node("n2", leaf="leaf-1"))
    return world(*nodes, **{"jobs": (one,), "forecasts": forecasts(0.0), **parts})


def grown(seen: Snapshot, memory: Memory | None = None) -> list[tuple[str, int]]:
    """(job, pods) of those that grow; the plan breaks no rule."""
    made, _ = plan(seen, memory or Memory(), policy(), "full")
    assert broken_by(seen, made) == ()
    return [(one.job, one.pods) for one in made.actions if isinstance(one, ResizeJob)]


def test_it_gets_all_its_pods_back_in_its_own_leaf() -> None:
    seen = snapshot(elastic())
    made, memory = plan(seen, Memory(), policy(), "full")
    (action,) = made.actions
    assert isinstance(action, ResizeJob)
    assert (action.pods, action.release, action.code) == (3, (), "grow")
    assert action.sentence.startswith("8 GPUs lent again to e: it runs on with 3 pods instead of 1")
    (place,) = made.reservations
    assert (place.owner, place.parts) == ("e", (("n0", 4), ("n1", 4)))
    assert memory.stops == ()  # to grow is no disturbance that a budget counts
    after = msgspec.structs.replace(
        seen,
        now_seconds=10_015.0,
        jobs=(msgspec.structs.replace(seen.jobs[0], pods=3),),
        reservations=made.reservations,
    )
    again, _ = plan(after, memory, policy(), "full")
    assert again.actions == ()
    assert [one.id for one in again.reservations] == [place.id]


@pytest.mark.parametrize(
    "changes",
    [
        {"max_pods": 1},
        {"state": "notified", "notice_deadline_seconds": 10_060.0},
        {"started_seconds": 9_500.0},
        {"checkpoint_started_seconds": 9_990.0},
        {"preemptible": False},
        {"held_by": "a disruption budget"},
        {"expected_remaining_seconds": 90.0},
    ],
)
def test_it_stays_as_it_is_where_growing_would_disturb_or_not_pay(
    changes: dict[str, object],
) -> None:
    assert grown(snapshot(elastic(**changes))) == []


@pytest.mark.parametrize(("age", "pods"), [(899.0, []), (901.0, [("e", 3)])])
def test_it_is_not_grown_and_shrunk_in_turn(age: float, pods: list[tuple[str, int]]) -> None:
    memory = Memory(stops=(Stop(10_000.0 - age, "e", "research", attempt=1, pods=1),))
    assert grown(snapshot(elastic()), memory) == pods


def test_what_it_was_shrunk_for_still_counts_once_it_has_grown() -> None:
    stop = Stop(8_900.0, "e", "research", attempt=1, pods=1)
    pods = tuple(
        Pod(name=f"e-{n}", uid=f"e-{n}", gpus=4, node=on, bound_seconds=0.0)
        for n, on in enumerate(("n0", "n0"))
    )
    seen = snapshot(elastic(pods=2, placed=pods))
    _, memory = plan(seen, Memory(stops=(stop,)), policy(), "full")
    assert memory.stops == (stop,)


def test_who_waits_comes_first() -> None:
    waits = tuple(job(f"w{n}", gpus_per_pod=8) for n in range(2))  # whole nodes, and both start
    made, _ = plan(snapshot(elastic(), jobs=(elastic(), *waits)), Memory(), policy(), "full")
    assert {one.job for one in made.actions if isinstance(one, StartJob)} == {"w0", "w1"}
    assert [(a.job, a.pods) for a in made.actions if isinstance(a, ResizeJob)] == [("e", 2)]


def test_holes_are_left_to_consolidation_while_whole_nodes_are_wanted() -> None:
    waits = tuple(job(f"w{n}", gpus_per_pod=8) for n in range(3))
    assert grown(snapshot(elastic(), jobs=(elastic(), *waits))) == []


def test_gpus_that_the_tide_wants_back_soon_are_left_alone() -> None:
    """All 24 GPUs are wanted within five minutes."""
    coming = forecasts(*[12_000.0] * 3)
    assert grown(snapshot(elastic(), roles=(role(0),), forecasts=coming)) == []


def test_without_a_forecast_nothing_is_lent_again() -> None:
    assert grown(snapshot(elastic(), forecasts=None)) == []


def test_pods_that_find_no_place_are_given_up_and_the_job_runs_on() -> None:
    there = Pod(name="e-0", uid="e-0", gpus=4, node="n0", bound_seconds=0.0)
    late = Pod(name="e-1", uid="e-1", gpus=4)
    one = elastic(state="starting", pods=2, placed=(there, late))
    made, memory = plan(snapshot(one), Memory(), policy(), "full")
    (action,) = made.actions
    assert isinstance(action, ResizeJob)
    assert (action.pods, action.release, action.code) == (1, ("e-1",), "stalled")
    assert (
        action.sentence == "e has 1 of 2 pods and no place for the others; it goes on without them"
    )
    assert memory.stops == ()
    rigid = msgspec.structs.replace(one, min_pods=2)
    assert isinstance(plan(snapshot(rigid), Memory(), policy(), "full")[0].actions[0], StopJob)


def test_pods_that_have_a_place_are_waited_for() -> None:
    there = Pod(name="e-0", uid="e-0", gpus=4, node="n0", bound_seconds=0.0)
    one = elastic(state="starting", pods=2, placed=(there, Pod(name="e-1", uid="e-1", gpus=4)))
    place = Reservation(
        id="r", owner="e", parts=(("n1", 4),), created_seconds=9_990.0, expires_seconds=10_290.0
    )
    assert grown(snapshot(one, reservations=(place,))) == []
