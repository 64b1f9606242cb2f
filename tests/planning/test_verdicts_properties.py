"""Verdicts over generated clusters: what holds for every standing and every pod."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from scheduler.planning.index import index_of
from scheduler.planning.standing import PodAsk, Standing, Victim
from scheduler.planning.verdicts import preempt, prioritise
from scheduler.view import View
from tests.planning.standings import GONE, NOW, ask, held, place, standing, verdict

NAMES = "abcd"
OWNERS = ("", "j1", "r/x", "r/y")
GPUS = st.sampled_from((1, 2, 4, 8))


@st.composite
def standings(draw: st.DrawFn) -> Standing:
    """A cluster whose reservations fit what is free or being released, as plans guarantee."""
    places, victims, room = [], [], {}
    for name in NAMES:
        free = draw(st.integers(0, 8))
        gone = draw(st.integers(0, 8 - free))
        leaf = (draw(st.sampled_from(("s0", "s1"))), "H")
        places.append(place(name, free, releasing=gone, leaf=leaf))
        victims += [Victim(f"v-{name}", name, gone)] * bool(gone)
        room[name] = free + gone
    reservations = []
    for number in range(draw(st.integers(0, 5))):
        parts = []
        for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=2)):
            gpus = draw(GPUS)
            if room[name] >= gpus:
                room[name] -= gpus
                parts.append((name, gpus))
        owner = draw(st.sampled_from(OWNERS[1:]))
        until = draw(st.sampled_from((1.0, 300.0)))
        if parts:
            reservations.append(held(owner, *sorted(parts), number=number, until=until))
    return standing(*places, reservations=tuple(reservations), victims=tuple(victims))


@st.composite
def asks(draw: st.DrawFn, uid: str = "u") -> PodAsk:
    owner = draw(st.sampled_from(OWNERS))
    return ask(draw(GPUS), owner, draw(st.sampled_from(("", "g1", "g2"))) if owner else "", uid)


@given(standings(), asks(), st.floats(0, 2 * GONE))
def test_filter_is_idempotent_and_splits_the_names(
    one: Standing, wanted: PodAsk, after: float
) -> None:
    before = msgspec.msgpack.encode(one)
    first = verdict(one, wanted, names=NAMES + "x", after=after)
    assert verdict(one, wanted, names=NAMES + "x", after=after) == first
    assert sorted((*first.passed, *first.refused)) == sorted(NAMES + "x")
    assert verdict(one, wanted, names="".join(first.passed), after=after).passed == first.passed
    assert all(first.refused.values())
    assert msgspec.msgpack.encode(one) == before


@given(standings(), asks(), st.lists(st.sampled_from(NAMES), unique=True))
def test_preempt_and_filter_agree(one: Standing, wanted: PodAsk, nodes: list[str]) -> None:
    """Filter accepts the nominated node while the victims go, and once they are gone."""
    offers = {node: (f"v-{node}", f"other-{node}") for node in nodes}
    for node, uids in preempt(index_of(one), (), wanted, offers, NOW + 2).items():
        assert set(uids) <= set(offers[node])
        assert uids
        nominated = msgspec.structs.replace(wanted, nominated=node)
        assert verdict(one, nominated, names=node).passed == (node,)
        view = View()
        view.publish(one)
        assert view.steer(nominated, (node,), NOW + 2).passed == (node,)
        gone = tuple(
            msgspec.structs.replace(spot, free=spot.free + spot.releasing, releasing=0)
            if spot.name == node
            else spot
            for spot in one.nodes
        )
        after = msgspec.structs.replace(one, nodes=gone, victims=())
        assert verdict(after, nominated, names=node).passed == (node,)


@given(standings(), st.lists(st.tuples(asks(), st.integers(0, 3)), max_size=12))
def test_no_gpu_has_two_owners(one: Standing, pods: list[tuple[PodAsk, int]]) -> None:
    """Whatever is bound in whatever order, nobody takes a slot that is kept for another.

    The offered names are those where GPUs are free, as in kube-scheduler; victims are gone.
    """
    view = View()
    view.publish(one)
    room = {spot.name: spot.free + spot.releasing for spot in one.nodes}
    kept: dict[str, dict[str, int]] = {name: {} for name in NAMES}
    for reservation in one.reservations:
        if reservation.expires_seconds > NOW + 2:
            for node, gpus in reservation.parts:
                kept[node][reservation.owner] = kept[node].get(reservation.owner, 0) + gpus
    for number, (wanted, pick) in enumerate(pods):
        pod = msgspec.structs.replace(wanted, uid=f"p{number}")
        names = tuple(name for name, free in room.items() if free >= pod.gpus)
        passed = view.filter(pod, names, NOW + 2).passed
        if not passed:
            continue
        node = passed[pick % len(passed)]
        assert view.claim(pod, node, NOW + 2) == ""
        room[node] -= pod.gpus
        own = kept[node].get(pod.owner, 0)
        kept[node][pod.owner] = max(0, own - pod.gpus)
        others = sum(gpus for owner, gpus in kept[node].items() if owner != pod.owner)
        assert room[node] >= others


@given(standings(), asks())
def test_scores_are_integers_with_one_winner(one: Standing, wanted: PodAsk) -> None:
    given_scores = prioritise(index_of(one), (), wanted, tuple(NAMES), NOW)
    assert [name for name, _ in given_scores] == list(NAMES)
    assert all(type(score) is int for _, score in given_scores)
    assert all(0 <= score <= 10 for _, score in given_scores)
    assert sum(score == 10 for _, score in given_scores) <= 1
