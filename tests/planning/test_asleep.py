"""A role grows onto the engines of it that sleep, and says so."""

import msgspec
import pytest

from binpacking.inventory import Node
from scheduler.planning.actions import NotifyJob, Plan, ScaleRole, StopJob
from scheduler.planning.invariants import broken_by
from scheduler.planning.memory import Memory
from scheduler.planning.planner import plan
from scheduler.planning.snapshot import Job, Reservation, Snapshot, StartSignal, Unit
from tests.fixtures.worlds import forecasts, job, node, policy, role, signal, world

SEEN = Memory(since_seconds=0.0)
UNIT = Unit(
    key="unit-1",
    role="chat/decode",
    node="n1",
    devices=(4, 5),
    state="asleep",
)


def start(tier: str, p50: float, samples: int = 9) -> StartSignal:
    return StartSignal(
        role="chat/decode",
        tier=tier,  # type: ignore[arg-type]
        p50_seconds=p50,
        p99_seconds=2 * p50,
        samples=samples,
    )


STARTS = (start("weights", 60.0), start("asleep", 4.0))


def lacking_one(*nodes: Node, **parts: object) -> Snapshot:
    """A world in which `chat/decode` lacks one replica of 2 GPUs."""
    fields = {"units": (UNIT,), "starts": STARTS, **parts}
    return world(
        *nodes, roles=(role(0),), signals=(signal(900.0),), forecasts=forecasts(900.0), **fields
    )


def planned(snapshot: Snapshot) -> Plan:
    made, _ = plan(snapshot, SEEN, policy(), "full")
    assert broken_by(snapshot, made) == ()
    return made


def held_by(name: str, **owners: int) -> Node:
    """A node whose first GPUs are held by these owners, in order."""
    names = [owner for owner, gpus in owners.items() for _ in range(gpus)]
    return node(name, dict(enumerate(names)))


def running(name: str, gpus: int, **changes: object) -> Job:
    return job(name, {"n1": gpus}, **{"started_seconds": 9_000.0, **changes})


def test_of_two_nodes_the_one_with_a_sleeper_is_reserved_and_the_reason_says_so() -> None:
    made = planned(lacking_one(held_by("n0", j=6), node("n1"), jobs=(running("j", 6),)))
    (slot,) = made.reservations
    assert (slot.parts, slot.wakes) == ((("n1", 2),), ("unit-1",))
    assert slot.reason == "a replica of chat/decode, which wakes unit-1"
    (scaled,) = (action for action in made.actions if isinstance(action, ScaleRole))
    assert "1 more replicas, 1 of them by waking a standby unit" in scaled.sentence


def test_of_two_victims_the_one_above_the_sleeper_goes() -> None:
    """Both lose the same; the other one's key comes first."""
    full = held_by("n1", a=4, b=4)
    made = planned(lacking_one(full, jobs=(running("a", 4), running("b", 4))))
    kinds = (NotifyJob, StopJob)
    assert [action.job for action in made.actions if isinstance(action, kinds)] == ["b"]
    assert made.reservations[0].wakes == ("unit-1",)


@pytest.mark.parametrize(
    "changes",
    [
        {"units": (msgspec.structs.replace(UNIT, state="waking"),)},
        {"units": (msgspec.structs.replace(UNIT, devices=(4,)),)},
        {"units": (msgspec.structs.replace(UNIT, node="n9"),)},
        {"units": (msgspec.structs.replace(UNIT, role="chat/prefill"),)},
        {"starts": (start("weights", 60.0),)},
        {"starts": (start("weights", 60.0), start("asleep", 4.0, samples=0))},
        {"starts": (start("weights", 4.0), start("asleep", 60.0))},
    ],
    ids=[
        "waking",
        "other shape",
        "no such node",
        "other role",
        "not measured",
        "no sample",
        "slow",
    ],
)
def test_what_is_not_known_to_save_time_wakes_nothing(changes: dict[str, object]) -> None:
    made = planned(lacking_one(node("n0"), node("n1"), **changes))
    assert [slot.wakes for slot in made.reservations] == [()]


@pytest.mark.parametrize(
    ("n1", "job"),
    [
        (held_by("n1", a=4, stranger=4), running("a", 4)),
        (held_by("n1", a=6), running("a", 6, preemptible=False)),
    ],
    ids=["held by somebody unknown", "held by a job that may not go"],
)
def test_nobody_is_woken_under_those_who_stay(n1: Node, job: Job) -> None:
    made = planned(lacking_one(node("n0"), n1, jobs=(job,)))
    assert [slot.wakes for slot in made.reservations] == [()]


def test_a_sick_device_wakes_nobody() -> None:
    devices = list(node("n1").devices)
    devices[4] = msgspec.structs.replace(devices[4], healthy=False)
    sick = msgspec.structs.replace(node("n1"), devices=tuple(devices))
    assert [slot.wakes for slot in planned(lacking_one(sick)).reservations] == [()]


def test_a_unit_that_a_reservation_claims_is_not_given_twice() -> None:
    slot = Reservation(
        id="r",
        owner="chat/decode",
        parts=(("n1", 2),),
        created_seconds=9_990.0,
        expires_seconds=10_290.0,
        wakes=("unit-1",),
    )
    snapshot = lacking_one(node("n0"), node("n1"), reservations=(slot,))
    more = msgspec.structs.replace(
        snapshot, signals=(signal(1_800.0),), forecasts=forecasts(1_800.0)
    )
    made = planned(more)
    assert sorted(one.wakes for one in made.reservations) == [(), ("unit-1",)]
