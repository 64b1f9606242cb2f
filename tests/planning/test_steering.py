"""Steering: what was just offered counts, binds nobody, and never lets a reserved GPU go."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.planning import reasons
from scheduler.planning.index import index_of
from scheduler.planning.snapshot import Reservation
from scheduler.planning.standing import Bind, Place, PodAsk, Standing
from scheduler.planning.steering import OFFER_SECONDS, _Choice, steer
from scheduler.planning.verdicts import filter_nodes, prioritise
from scheduler.view import View

NOW = 1000.0
NAMES = "abcd"


def place(name: str, free: int = 8) -> Place:
    return Place(name, ("s0", "H"), "nvidia.com/gpu", free, 0, 8, schedulable=True)


def kept(owner: str, *parts: tuple[str, int], number: int = 0) -> Reservation:
    return Reservation(
        id=f"{owner}-{number}",
        owner=owner,
        parts=parts,
        created_seconds=NOW,
        expires_seconds=NOW + 1e6,
    )


def view(*places: Place, reservations: tuple[Reservation, ...] = ()) -> View:
    made = View()
    made.publish(
        Standing(
            now_seconds=NOW,
            planned_at_seconds=NOW,
            plan_stale_seconds=300.0,
            heuristic_stale_seconds=900.0,
            nodes=places,
            reservations=reservations,
        )
    )
    return made


def ask(uid: str, gpus: int = 4, owner: str = "", group: str = "") -> PodAsk:
    return PodAsk(uid=uid, name=uid, owner=owner, group=group, gpus=gpus)


def passed(one: View, wanted: PodAsk, names: str = "ab", after: float = 1.0) -> str:
    return "".join(one.steer(wanted, tuple(names), NOW + after).passed)


def test_pods_of_one_owner_are_told_different_slots_and_each_the_same_again() -> None:
    one = view(
        place("a"), place("b"), reservations=(kept("r", ("a", 4)), kept("r", ("b", 4), number=1))
    )
    assert [passed(one, ask(uid, owner="r")) for uid in ("p1", "p2", "p1", "p2")] == list("abab")


def test_an_offer_that_came_to_nothing_keeps_nobody_from_the_only_slot() -> None:
    one = view(place("a", 4), place("b"), reservations=(kept("r", ("a", 4)),))
    assert passed(one, ask("hypothetical", owner="r")) == "a"
    assert passed(one, ask("real", owner="r")) == "a"


def test_a_pod_too_many_takes_no_gpu_that_is_kept_for_a_third() -> None:
    reservations = (kept("r", ("a", 4)), kept("other", ("a", 4)))
    one = view(place("a"), reservations=reservations)
    assert passed(one, ask("p1", owner="r"), "a") == "a"
    assert passed(one, ask("p2", owner="r"), "a") == ""
    assert passed(one, ask("p2", owner="r"), "a", after=1.0 + OFFER_SECONDS) == "a"


def test_siblings_of_a_gang_keep_to_one_reservation_before_any_bind_is_seen() -> None:
    two = (kept("r", ("a", 8), ("b", 8)), kept("r", ("c", 8), ("d", 8), number=1))
    one = view(*(place(name) for name in NAMES), reservations=two)
    order = (("p1", "g1"), ("q1", "g2"), ("q2", "g2"), ("p2", "g1"))
    found = {uid: passed(one, ask(uid, 8, "r", group), NAMES) for uid, group in order}
    assert {found["p1"], found["p2"]} in ({"a", "b"}, {"c", "d"})
    assert {found["q1"], found["q2"]} in ({"a", "b"}, {"c", "d"})
    assert len(set(found.values())) == 4


def test_strangers_beside_slots_are_told_one_node_at_a_time() -> None:
    one = view(
        place("a"), place("b"), reservations=(kept("r", ("a", 4)), kept("r", ("b", 4), number=1))
    )
    found = [passed(one, ask(f"s{number}")) for number in range(3)]
    assert found == ["a", "b", ""]


def test_a_pod_is_told_the_fullest_node_away_from_slots_too() -> None:
    one = view(place("a"), place("b", 6), place("c", 7), reservations=(kept("r", ("c", 7)),))
    for number in range(5):
        assert passed(one, ask(f"s{number}"), "abc") == "b"
    assert passed(one, ask("s5"), "ac") == "a"


@pytest.mark.parametrize("more", [{"choosy": True}, {"nominated": "a"}])
def test_where_kube_scheduler_is_to_choose_it_may_away_from_slots(more: dict[str, Any]) -> None:
    """A pod that failed on its one node before must not be held there for ever."""
    one = view(place("a"), place("b"), place("c"), reservations=(kept("r", ("c", 4)),))
    pod = msgspec.structs.replace(ask("p"), **more)
    assert passed(one, pod, "abc") == "ab"
    assert passed(one, pod, "c") == "c"
    assert passed(one, ask("q", 2), "c") == ""  # that pod may be there by now


def test_kube_scheduler_knows_first_that_gpus_are_free_where_nobodys_are_kept() -> None:
    """It offers nodes with room by its own accounting, which is newer than any observation."""
    one = view(place("a", 0), place("b", 0), reservations=(kept("r", ("b", 4)),))
    assert passed(one, ask("p"), "a") == "a"
    assert passed(one, ask("p"), "b") == ""
    assert passed(one, ask("p", 9), "a") == ""
    assert one.filter(ask("p"), ("a",), NOW).passed == ()
    assert one.claim(ask("p"), "a", NOW) == ""
    assert one.claim(ask("q"), "a", NOW) == reasons.FULL
    assert one.claim(ask("q"), "b", NOW) == reasons.FULL
    assert passed(one, ask("p"), "a", after=400.0) == "a"


def test_a_node_with_room_by_both_accounts_goes_first() -> None:
    one = view(place("a", 0), place("b", 8))
    assert passed(one, ask("p"), "ab") == "b"


def test_no_reason_is_given_where_a_node_passes_and_one_for_each_where_none_does() -> None:
    one = view(place("a"), place("b"), reservations=(kept("r", ("a", 8)), kept("r", ("b", 8))))
    assert one.steer(ask("p", owner="r"), ("a", "b"), NOW).refused == {}
    verdict = one.steer(ask("q"), ("a", "b"), NOW)
    assert verdict.refused == dict.fromkeys("ab", reasons.kept_for("r"))


def test_an_offer_that_would_fill_a_larger_slot_may_yet_come_to_nothing() -> None:
    """If only the stranger is bound, the slot of four stays open and four more would break it."""
    one = view(place("a"), reservations=(kept("r", ("a", 4)),))
    assert passed(one, ask("stranger", 2), "a") == "a"
    assert passed(one, ask("mine", 2, "r"), "a") == "a"
    assert passed(one, ask("third", 4), "a") == ""
    assert passed(one, ask("third", 2), "a") == "a"


def test_a_new_observation_tells_what_became_of_offers() -> None:
    slots = (kept("r", ("a", 4)), kept("other", ("a", 4)))
    one = view(place("a"), reservations=slots)
    assert passed(one, ask("p1", owner="r"), "a") == "a"
    standing = one.standing
    assert standing is not None
    later = NOW + OFFER_SECONDS + 1
    one.publish(msgspec.structs.replace(standing, now_seconds=later))
    assert passed(one, ask("p2", owner="r"), "a", OFFER_SECONDS + 1) == "a"


OWNERS = ("", "r1", "r2")
GPUS = st.sampled_from((1, 2, 4, 8))
ASKS = st.lists(st.tuples(st.sampled_from(OWNERS), GPUS, st.booleans(), st.booleans()), max_size=12)


@st.composite
def standings(draw: st.DrawFn) -> Standing:
    places = tuple(place(name, draw(st.integers(0, 8))) for name in NAMES)
    reservations = []
    for number, spot in enumerate(places):
        gpus = draw(st.sampled_from((1, 2, 4, 8)))
        if gpus <= spot.free and draw(st.booleans()):
            owner = draw(st.sampled_from(OWNERS[1:]))
            reservations.append(kept(owner, (spot.name, gpus), number=number))
    made = view(*places, reservations=tuple(reservations)).standing
    assert made is not None
    return made


@given(standings(), ASKS, st.data())
def test_without_binds_nobody_takes_what_is_kept_for_another(
    one: Standing, pods: list[tuple[str, int, bool, bool]], data: st.DataObject
) -> None:
    """kube-scheduler binds some pods and drops others; the extender hears of neither."""
    steered = View()
    steered.publish(one)
    room = {spot.name: spot.free for spot in one.nodes}
    left = [(r.owner, node, gpus) for r in one.reservations for node, gpus in r.parts]
    for number, (owner, gpus, choosy, real) in enumerate(pods):
        pod = msgspec.structs.replace(ask(f"p{number}", gpus, owner), choosy=choosy)
        names = tuple(name for name in NAMES if room[name] >= gpus)
        verdict = steered.steer(pod, names, NOW + 1)
        assert steered.steer(pod, names, NOW + 1) == verdict
        assert set(verdict.passed) <= set(names)
        assert set(verdict.refused) == (set() if verdict.passed else set(names))
        if not verdict.passed or not real:
            continue
        node = data.draw(st.sampled_from(verdict.passed))
        room[node] -= gpus
        filled = [slot for slot in left if slot[:2] == (owner, node) and slot[2] >= gpus]
        if filled:
            left.remove(min(filled, key=lambda slot: slot[2]))
        assert room[node] >= sum(slot[2] for slot in left if slot[1] == node and slot[0] != owner)


@given(standings(), st.sampled_from(OWNERS), GPUS)
def test_the_first_pod_gets_the_node_that_prioritise_ranks_first(
    one: Standing, owner: str, gpus: int
) -> None:
    """Where kube-scheduler's accounting agrees with the observation, steering only chooses."""
    steered = View()
    steered.publish(one)
    pod = ask("p", gpus, owner)
    names = tuple(spot.name for spot in one.nodes if spot.free >= gpus)
    pure = filter_nodes(index_of(one), (), pod, names, NOW).passed
    scores = prioritise(index_of(one), (), pod, pure, NOW)
    best = [min(scores, key=lambda each: (-each[1], each[0]))[0]] if pure else []
    assert list(steered.steer(pod, names, NOW).passed) == best


@given(standings(), ASKS, st.sampled_from(OWNERS), GPUS)
def test_the_quick_way_finds_what_the_long_way_ranks_first(
    one: Standing, pods: list[tuple[str, int, bool, bool]], owner: str, gpus: int
) -> None:
    index = index_of(one)
    offers: list[Bind] = []
    for number, (other, size, _, _) in enumerate(pods):
        told = steer(index, (), offers, ask(f"o{number}", size, other), NAMES, NOW).passed
        offers += [Bind(f"o{number}", other, "", node, size, NOW) for node in told]
    pod = ask("p", gpus, owner)
    quick = steer(index, (), offers, pod, NAMES, NOW).passed
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_Choice, "_quick", lambda _: ())
        assert steer(index, (), offers, pod, NAMES, NOW).passed == quick
