"""Reservations: when they are filled, void or open, and what they leave free."""

import msgspec
import pytest

from scheduler.planning.snapshot import Reservation
from scheduler.planning.supply import batch_supplies, online_supplies, open_reservations
from tests.fixtures.worlds import job, node, replica, role, world


def slot(name: str, on: str = "n0", *, created: float = 9_900.0) -> Reservation:
    return Reservation(
        id=name,
        owner="chat/decode",
        parts=((on, 2),),
        created_seconds=created,
        expires_seconds=created + 300.0,
    )


@pytest.mark.parametrize(
    ("bound", "slots", "still_open"),
    [
        ((), ("a", "b"), ["a", "b"]),
        ((9_950.0,), ("a", "b"), ["b"]),
        ((9_950.0, 9_960.0), ("a", "b"), []),
        ((9_800.0,), ("a",), ["a"]),
    ],
)
def test_a_pod_bound_since_fills_one_slot(
    bound: tuple[float, ...], slots: tuple[str, ...], still_open: list[str]
) -> None:
    replicas = tuple(
        replica(f"r{n}", "n0", state="starting", bound_seconds=at) for n, at in enumerate(bound)
    )
    snapshot = world(
        node("n0"),
        roles=(role(1),),
        replicas=replicas,
        reservations=tuple(slot(name) for name in slots),
    )
    assert [r.id for r in open_reservations(snapshot)] == still_open


def test_a_pod_never_fills_a_second_slot_later() -> None:
    both = (slot("a"), slot("b"))
    first = world(
        node("n0"),
        roles=(role(1),),
        replicas=(replica("r0", "n0", state="starting", bound_seconds=9_950.0),),
        reservations=both,
    )
    (kept,) = open_reservations(first)
    again = msgspec.structs.replace(first, now_seconds=10_015.0, reservations=(kept,))
    assert open_reservations(again)[0].id == "b"


def test_expired_slots_and_slots_on_lost_nodes_are_void() -> None:
    cordoned = msgspec.structs.replace(node("n1"), cordoned=True)
    reservations = (slot("old", created=9_000.0), slot("gone", "n9"), slot("shut", "n1"))
    found = world(node("n0"), cordoned, roles=(role(1),), reservations=reservations)
    assert open_reservations(found) == ()


def test_slots_of_a_deleted_owner_are_void() -> None:
    theirs = msgspec.structs.replace(slot("b"), owner="test/night")
    here = world(node("n0"), roles=(role(1),), reservations=(slot("a"), theirs))
    assert [one.id for one in open_reservations(here)] == ["a"]
    waits = msgspec.structs.replace(here, jobs=(job("test/night", state="queued"),))
    assert [one.id for one in open_reservations(waits)] == ["a", "b"]


def test_online_counts_on_what_is_released_and_batch_does_not() -> None:
    leaving = job("leaving", {"n0": 4}, state="notified", notice_deadline_seconds=10_060.0)
    snapshot = world(node("n0", dict.fromkeys(range(4), "leaving")), jobs=(leaving,))
    held = (slot("a"),)
    assert [s.free for s in online_supplies(snapshot, held)] == [6]
    assert [s.free for s in batch_supplies(snapshot, held, 0)] == [2]
    assert [s.free for s in batch_supplies(snapshot, held, 1)] == [1]


def test_a_job_that_runs_elsewhere_waits_for_nothing() -> None:
    """Its pods were placed where nobody asked Tidal; the GPUs kept for it are free again."""
    kept = Reservation(
        id="j@1", owner="j", parts=(("n0", 2),), created_seconds=1.0, expires_seconds=99_999.0
    )
    seen = world(node("n0"), node("n1", {0: "j", 1: "j"}), jobs=(job("j", {"n1": 2}),))
    assert open_reservations(msgspec.structs.replace(seen, reservations=(kept,))) == ()


def test_cpu_and_memory_that_pods_hold_come_free_and_are_reserved() -> None:
    asking = role(1, cpu_milli_per_pod=8_000, memory_mib_per_pod=64)
    leaving = job("leaving", {"n0": 4}, state="stopping", cpu_milli_per_pod=20_000)
    known = msgspec.structs.replace(
        node("n0", dict.fromkeys(range(4), "leaving")),
        cpu_milli=64_000,
        memory_mib=512,
        cpu_held_milli=30_000,
        memory_held_mib=100,
    )
    snapshot = world(known, node("n1"), roles=(asking,), jobs=(leaving,))
    held = (slot("a"), slot("b", "n1"))
    rooms = [(one.cpu_milli, one.memory_mib) for one in online_supplies(snapshot, held)]
    assert rooms == [(64_000 - 30_000 + 20_000 - 8_000, 512 - 100 - 64), (None, None)]
    rooms = [(one.cpu_milli, one.memory_mib) for one in batch_supplies(snapshot, held, 0)]
    assert rooms == [(64_000 - 30_000 - 8_000, 512 - 100 - 64), (None, None)]


def test_where_nobody_asks_for_any_they_are_not_counted() -> None:
    known = msgspec.structs.replace(node("n0"), cpu_milli=64_000, cpu_held_milli=30_000)
    (one,) = online_supplies(world(known, roles=(role(1),)), ())
    assert (one.cpu_milli, one.memory_mib) == (None, None)
