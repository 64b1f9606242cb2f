"""The view: binds are remembered until snapshot and plan have seen them."""

import msgspec
import pytest

from scheduler.planning import reasons
from scheduler.view import NoStandingError, View
from tests.planning.standings import NOW, ask, held, place, standing


def test_a_view_without_a_standing_says_so() -> None:
    view = View()
    for call in (
        lambda: view.filter(ask(), ("a",), NOW),
        lambda: view.prioritise(ask(), ("a",), NOW),
        lambda: view.preempt(ask(), {}, NOW),
        lambda: view.claim(ask(), "a", NOW),
    ):
        with pytest.raises(NoStandingError, match="has not read the cluster"):
            call()


def test_a_view_remembers_a_bind_until_snapshot_and_plan_have_seen_it() -> None:
    view = View()
    one = standing(place("a", 4))
    view.publish(one)
    view.bound(ask(4, uid="p1"), "a", NOW + 1)
    assert view.filter(ask(4), ("a",), NOW + 2).passed == ()
    view.publish(msgspec.structs.replace(one, now_seconds=NOW + 15))
    assert view.filter(ask(4), ("a",), NOW + 15).passed == ()
    freed = msgspec.structs.replace(one, now_seconds=NOW + 15, seen=("p1",))
    view.publish(freed)
    assert view.filter(ask(4), ("a",), NOW + 15).passed == ("a",)
    for older in (freed, one):
        later = msgspec.structs.replace(older, now_seconds=NOW + 30, planned_at_seconds=NOW + 30)
        view.publish(later)
    assert view.filter(ask(4), ("a",), NOW + 30).passed == ("a",)


def test_a_bind_without_gpu_counts_until_the_next_observation() -> None:
    view = View()
    one = standing(*(msgspec.structs.replace(place(name, 8), cpu_milli=8000) for name in "ab"))
    view.publish(one)
    wanted = msgspec.structs.replace(ask(0), cpu_milli=6000)

    def best() -> str:
        scored = view.prioritise(wanted, ("a", "b"), NOW + 2)
        return max(scored, key=lambda each: each[1])[0]

    assert best() == "a"
    view.bound(msgspec.structs.replace(wanted, uid="p1"), "a", NOW + 1)
    assert best() == "b"
    view.publish(msgspec.structs.replace(one, now_seconds=NOW + 15))
    assert best() == "a"


def test_a_bind_fills_its_slot_until_a_plan_has_seen_it() -> None:
    view = View()
    one = standing(place("a", 8), reservations=(held("chat/decode", ("a", 4)),))
    view.publish(one)
    view.bound(ask(4, "chat/decode", uid="p1"), "a", NOW + 1)
    observed = msgspec.structs.replace(
        one, nodes=(place("a", 4),), now_seconds=NOW + 15, seen=("p1",)
    )
    view.publish(observed)
    assert view.filter(ask(4), ("a",), NOW + 15).passed == ("a",)
    view.publish(msgspec.structs.replace(observed, planned_at_seconds=NOW + 15))
    assert view.filter(ask(4), ("a",), NOW + 15).passed == ()


def test_a_view_forgets_a_bind_that_never_shows() -> None:
    view = View()
    one = standing(place("a", 4))
    view.publish(one)
    view.bound(ask(4, uid="p1"), "a", NOW)
    view.publish(msgspec.structs.replace(one, now_seconds=NOW + 119))
    assert view.filter(ask(4), ("a",), NOW + 119).passed == ()
    view.publish(msgspec.structs.replace(one, now_seconds=NOW + 120))
    assert view.filter(ask(4), ("a",), NOW + 120).passed == ("a",)


def test_of_two_pods_that_passed_filter_one_may_claim() -> None:
    view = View()
    view.publish(standing(place("a", 4)))
    assert view.claim(ask(4, uid="p1"), "a", NOW) == ""
    assert view.claim(ask(4, uid="p1"), "a", NOW) == ""
    assert view.claim(ask(4, uid="p2"), "a", NOW) == reasons.FULL
    view.release("p1")
    assert view.claim(ask(4, uid="p3"), "a", NOW) == ""
