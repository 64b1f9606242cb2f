"""Verdicts of filter and prioritise: a table for each rule."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.planning import reasons
from scheduler.planning.index import index_of
from scheduler.planning.standing import Bind, Place, PodAsk, Standing
from scheduler.planning.targets import Target
from scheduler.planning.verdicts import prioritise
from tests.planning.standings import (
    GONE,
    NOW,
    STALE,
    ask,
    bind,
    chosen,
    held,
    place,
    standing,
    verdict,
)

# ---- filter under a fresh plan -------------------------------------------------------------------


def test_an_owner_with_reservations_gets_their_nodes_and_no_other() -> None:
    one = standing(place("a", 8), place("b", 8), reservations=(held("chat/decode", ("b", 4)),))
    found = verdict(one, ask(4, "chat/decode"), names="ab")
    assert found.passed == ("b",)
    assert found.refused["a"] == "planned for b; waits until its GPUs are free"


def test_names_keep_their_order() -> None:
    one = standing(place("a", 8), place("b", 8), place("c", 8))
    assert verdict(one, ask(), names="cab").passed == ("c", "a", "b")


@pytest.mark.parametrize("owner", ["", "code/decode"])
def test_others_get_what_is_free_and_not_reserved(owner: str) -> None:
    one = standing(
        place("a", 7), place("b", 8), place("c", 3), reservations=(held("chat/decode", ("a", 4)),)
    )
    found = verdict(one, ask(4, owner))
    assert found.passed == ("b",)
    assert found.refused["a"] == reasons.kept_for("chat/decode")
    assert found.refused["c"] == reasons.FULL


def test_an_expired_reservation_holds_nothing() -> None:
    one = standing(place("a", 4), reservations=(held("chat/decode", ("a", 4), until=60.0),))
    assert verdict(one, ask(), names="a", after=59.0).passed == ()
    assert verdict(one, ask(), names="a", after=60.0).passed == ("a",)


def test_a_bind_fills_its_slot_and_frees_nothing() -> None:
    one = standing(
        place("a", 8),
        place("b", 8),
        reservations=(held("chat/decode", ("a", 4)), held("chat/decode", ("b", 4), number=1)),
    )
    first = bind("p1", "chat/decode", "a")
    assert verdict(one, ask(4, "chat/decode"), first, names="ab").passed == ("b",)
    assert verdict(one, ask(4), first, names="ab").passed == ("a", "b")
    assert verdict(one, ask(8), first, names="ab").passed == ()


def test_an_owner_whose_slots_are_filled_is_a_stranger_among_others() -> None:
    one = standing(place("a", 4), place("b", 8), reservations=(held("chat/decode", ("a", 4)),))
    found = verdict(one, ask(4, "chat/decode"), bind("p1", "chat/decode", "a"), names="ab")
    assert found.passed == ("b",)


def test_a_bind_from_before_the_reservation_does_not_fill_it() -> None:
    old = Bind("p1", "chat/decode", "", "a", 4, NOW - 60)
    one = standing(place("a", 4), place("b", 8), reservations=(held("chat/decode", ("a", 4)),))
    one = msgspec.structs.replace(one, bound=(old,))
    assert verdict(one, ask(4, "chat/decode"), names="ab").passed == ("a",)


def test_a_pod_larger_than_a_part_does_not_fill_it() -> None:
    one = standing(place("a", 8), place("b", 8), reservations=(held("j", ("a", 4), ("b", 8)),))
    large = bind("p1", "j", "a", 8, group="j")
    assert verdict(one, ask(8, "j", group="j"), large, names="ab").passed == ("b",)
    assert verdict(one, ask(4, "j", group="j"), large, names="ab").refused == {
        "a": reasons.planned_here(())
    }


def test_siblings_stay_with_their_reservation() -> None:
    two = (
        held("chat/decode", ("a", 8), ("b", 8)),
        held("chat/decode", ("c", 8), ("d", 8), number=1),
    )
    one = standing(*(place(name, 8) for name in "abcd"), reservations=two)
    sibling = bind("p1", "chat/decode", "c", 8, group="r1")
    same = ask(8, "chat/decode", group="r1")
    other = ask(8, "chat/decode", group="r2")
    assert verdict(one, same, sibling, names="abcd").passed == ("d",)
    assert verdict(one, other, sibling, names="abcd").passed == ("a", "b")
    alone = bind("p2", "chat/decode", "a", 8, group="r2")
    assert verdict(one, other, sibling, alone, names="abcd").passed == ("b",)


def test_two_pods_on_one_node_fill_two_parts() -> None:
    one = standing(place("a", 8), reservations=(held("j", ("a", 4), ("a", 4)),))
    first = bind("p1", "j", "a", group="j")
    second = bind("p2", "j", "a", group="j")
    assert verdict(one, ask(4, "j", group="j"), first, names="a").passed == ("a",)
    assert verdict(one, ask(4, "j", group="j"), first, second, names="a").passed == ()


def test_a_pod_larger_than_its_slots_is_treated_as_without_them() -> None:
    one = standing(place("a", 8), place("b", 8), reservations=(held("chat/decode", ("a", 4)),))
    assert verdict(one, ask(8, "chat/decode"), names="ab").passed == ("b",)


def test_a_slot_counts_on_gpus_being_released_and_others_do_not() -> None:
    one = standing(place("a", 0, releasing=4), reservations=(held("chat/decode", ("a", 4)),))
    assert verdict(one, ask(4, "chat/decode"), names="a").passed == ("a",)
    assert verdict(one, ask(4), names="a").refused == {"a": reasons.FULL}
    empty = standing(place("a", 0), reservations=(held("chat/decode", ("a", 4)),))
    assert verdict(empty, ask(4, "chat/decode"), names="a").refused == {
        "a": reasons.planned_here(())
    }


def test_a_group_without_slots_stays_under_its_leaf() -> None:
    one = standing(place("a", 8), place("b", 8, leaf=("s1", "H")), place("c", 8, leaf=("s1", "H")))
    found = verdict(one, ask(8, "j", group="j"), bind("p1", "j", "b", 8, group="j"))
    assert found.passed == ("c",)
    assert found.refused["a"] == reasons.OTHER_LEAF


@pytest.mark.parametrize(
    ("spot", "reason"),
    [
        (place("a", 8, cordoned="by a person"), reasons.CLOSED),
        (place("a", 8, resource="amd.com/gpu"), "offers amd.com/gpu, the pod asks for nvidia"),
        (place("b", 8), reasons.UNKNOWN),
    ],
)
def test_nodes_that_cannot_be_taken_say_why(spot: Place, reason: str) -> None:
    assert verdict(standing(spot), ask(), names="a").refused["a"].startswith(reason)


def test_a_pod_without_gpus_passes_everywhere() -> None:
    assert verdict(standing(place("a", 0)), ask(0), names="ab").passed == ("a", "b")


def test_a_bind_that_the_snapshot_shows_is_not_counted_twice() -> None:
    one = standing(place("a", 4), seen=("p1",))
    assert verdict(one, ask(4), bind("p1", "", "a"), names="a").passed == ("a",)


def test_asking_again_after_a_late_bind_gives_the_same_node() -> None:
    one = standing(place("a", 4), reservations=(held("chat/decode", ("a", 4)),))
    again = ask(4, "chat/decode", uid="p1")
    assert verdict(one, again, bind("p1", "chat/decode", "a"), names="a").passed == ("a",)


# ---- gangs, jobs that stop, and what is said ---------------------------------------------------


def test_no_pod_of_a_gang_starts_before_all_its_nodes_can_be_had() -> None:
    gang = (held("j", ("a", 8), ("b", 8)),)
    waits = standing(place("a", 8), place("b", 0, releasing=8), place("c", 8), reservations=gang)
    pod = ask(8, "j", "j")
    assert verdict(waits, pod, names="ac").passed == ()
    assert verdict(waits, pod, names="abc").passed == ("a", "b")  # offered: its GPUs are free
    begun = bind("p0", "j", "b", 8, group="j")
    assert verdict(waits, pod, begun, names="ac").passed == ("a",)
    free = standing(place("a", 8), place("b", 8), reservations=gang)
    assert verdict(free, pod, names="a").passed == ("a",)


def test_a_pod_of_a_job_that_the_plan_stops_gets_nothing_under_that_plan() -> None:
    one = msgspec.structs.replace(standing(place("a", 8)), stopping=("j",))
    assert verdict(one, ask(4, "j"), names="a").refused == {"a": reasons.stopping("j")}
    assert chosen(one, ask(4, "j"), a="v1") == {}
    assert verdict(one, ask(4, "j"), names="a", after=STALE + 1).passed == ("a",)


def test_pods_of_tidal_without_slots_get_what_is_free_and_say_what_they_wait_for() -> None:
    """The same sentence on every node, so that kube-scheduler adds them up."""
    one = msgspec.structs.replace(
        standing(place("a", 4), place("b", 2), reservations=(held("x/y", ("a", 2)),)),
        jobs=("default/job",),
        targets=(("chat/decode", Target("Deployment", "default", "chat")),),
    )
    assert verdict(one, ask(2, "default/job"), names="ab").passed == ("a", "b")
    assert set(verdict(one, ask(4, "default/job"), names="ab").refused.values()) == {
        "Tidal has lent no GPU to default/job yet; it waits for a plan"
    }
    assert set(verdict(one, ask(4, "chat/decode"), names="ab").refused.values()) == {
        "Tidal has reserved no GPU for chat/decode yet; it waits for a plan"
    }


def test_a_pod_that_waits_for_its_node_names_it_and_who_leaves_it() -> None:
    busy = msgspec.structs.replace(place("a", 0, releasing=2), leaving=("default/j", "chat/x"))
    one = standing(busy, place("b", 8), place("c", 8), reservations=(held("r", ("a", 4)),))
    released = "waits until its GPUs are released by chat/x, default/j"
    assert verdict(one, ask(4, "r")).refused == {
        "a": f"planned for this node; {released}",
        "b": f"planned for a; {released}",
        "c": f"planned for a; {released}",
    }


@given(st.lists(st.text("abc", min_size=1), max_size=6))
def test_a_sentence_names_three_at_most_and_counts_nothing(names: list[str]) -> None:
    said = reasons.planned_elsewhere(("n",), names)
    assert said == reasons.planned_elsewhere(("n",), reversed(names))
    assert said.count(", ") < 3
    assert not any(letter.isdigit() for letter in said)


# ---- an old plan ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "passed"),
    [(STALE, "a"), (STALE + 1, "ab"), (GONE, "ab"), (GONE + 1, "abc")],
)
def test_an_old_plan_gives_way_step_by_step(after: float, passed: str) -> None:
    one = standing(
        place("a", 4),
        place("b", 4),
        place("c", 4),
        reservations=(
            held("chat/decode", ("a", 4), until=1e6),
            held("code/decode", ("c", 4), until=1e6),
        ),
    )
    found = verdict(one, ask(4, "chat/decode"), names="abc", after=after)
    assert found.passed == tuple(passed)


def test_an_unknown_node_passes_once_the_plan_is_old() -> None:
    assert verdict(standing(place("a", 8)), ask(), names="x", after=STALE + 1).passed == ("x",)


# ---- prioritise ----------------------------------------------------------------------------------


def scores(one: Standing, wanted: PodAsk, names: str) -> dict[str, int]:
    return dict(prioritise(index_of(one), (), wanted, tuple(names), NOW))


def test_best_fit_wins_and_ties_go_by_name() -> None:
    one = standing(place("a", 8), place("b", 4), place("c", 4), place("d", 6), place("e", 2))
    assert scores(one, ask(4), "edcbax") == {"e": 0, "d": 8, "c": 9, "b": 10, "a": 7, "x": 0}


def test_best_fit_counts_what_is_kept_for_others() -> None:
    one = standing(place("a", 8), place("b", 6), reservations=(held("chat/decode", ("a", 4)),))
    assert scores(one, ask(4), "ab") == {"a": 10, "b": 8}


def test_a_pod_without_gpu_had_better_go_where_there_are_none() -> None:
    one = standing(place("a", 8), place("b", 4))
    assert scores(one, ask(0), "axby") == {"a": 8, "x": 10, "b": 9, "y": 10}
    assert scores(one, ask(0), "ab") == {"a": 8, "b": 10}
