"""Steering: what was just offered counts, binds nobody, and never lets a reserved GPU go."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from scheduler.planning.snapshot import Reservation
from scheduler.planning.standing import Place, PodAsk, Standing
from scheduler.planning.steering import OFFER_SECONDS
from scheduler.planning.verdicts import filter_nodes, index_of
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
    one = view(place("a"), place("b", 0), reservations=reservations)
    assert passed(one, ask("p1", owner="r")) == "a"
    assert passed(one, ask("p2", owner="r")) == ""
    assert passed(one, ask("p2", owner="r"), after=1.0 + OFFER_SECONDS) == "a"


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


def test_away_from_slots_kube_scheduler_chooses() -> None:
    one = view(place("a"), place("b"), place("c"), reservations=(kept("r", ("c", 8)),))
    for number in range(5):
        assert passed(one, ask(f"s{number}"), "abc") == "ab"


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
ASKS = st.lists(
    st.tuples(st.sampled_from(OWNERS), st.sampled_from((1, 2, 4, 8)), st.booleans()), max_size=12
)


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
    one: Standing, pods: list[tuple[str, int, bool]], data: st.DataObject
) -> None:
    """kube-scheduler binds some pods and drops others; the extender hears of neither."""
    steered = View()
    steered.publish(one)
    room = {spot.name: spot.free for spot in one.nodes}
    left = [(r.owner, node, gpus) for r in one.reservations for node, gpus in r.parts]
    for number, (owner, gpus, real) in enumerate(pods):
        pod = ask(f"p{number}", gpus, owner)
        names = tuple(name for name in NAMES if room[name] >= gpus)
        verdict = steered.steer(pod, names, NOW + 1)
        assert steered.steer(pod, names, NOW + 1) == verdict
        assert set(verdict.passed) | set(verdict.refused) == set(names)
        if not verdict.passed or not real:
            continue
        node = data.draw(st.sampled_from(verdict.passed))
        room[node] -= gpus
        filled = [slot for slot in left if slot[:2] == (owner, node) and slot[2] >= gpus]
        if filled:
            left.remove(filled[0])
        assert room[node] >= sum(slot[2] for slot in left if slot[1] == node and slot[0] != owner)


@given(standings(), st.sampled_from(OWNERS), st.sampled_from((1, 2, 4, 8)))
def test_the_first_pod_gets_a_part_of_what_filter_passes(
    one: Standing, owner: str, gpus: int
) -> None:
    steered = View()
    steered.publish(one)
    pod = ask("p", gpus, owner)
    pure = filter_nodes(index_of(one), (), pod, tuple(NAMES), NOW)
    found = steered.steer(pod, tuple(NAMES), NOW).passed
    assert set(found) <= set(pure.passed)
    assert bool(found) == bool(pure.passed)
