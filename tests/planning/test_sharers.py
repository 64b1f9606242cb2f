"""Pods that share cards: who gives way, what comes free, what is kept, one world a test."""

from collections import Counter
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binpacking.inventory import Holder, Node
from binpacking.shares import Share
from scheduler.planning.actions import NotifyJob, Plan, StopJob
from scheduler.planning.cards import deck_of
from scheduler.planning.invariants import broken, broken_by
from scheduler.planning.memory import Memory
from scheduler.planning.placing import running
from scheduler.planning.planner import plan
from scheduler.planning.policy import parse
from scheduler.planning.snapshot import Job, Pod, Reservation, Snapshot
from scheduler.planning.standing import PodAsk, standing_of
from scheduler.planning.supply import batch_supplies, online_supplies, open_reservations
from scheduler.view import View
from tests.fixtures.kubeobjects import Part
from tests.fixtures.worlds import forecasts, job, node, policy, role, signal, world

CARD = 80 * 1024
SEEN = Memory(since_seconds=0.0)
RULES = policy()


def share(milli: int) -> Share:
    return Share(milli, CARD * milli // 1000)


def cards(name: str, *held: Sequence[tuple[str, int]], **change: Part) -> Node:
    """A node of as many cards, each held by (owner, milli)."""
    plain = node(name)
    devices = tuple(
        msgspec.structs.replace(
            plain.devices[index],
            holders=tuple(Holder(who, *share(milli)) for who, milli in holders),
        )
        for index, holders in enumerate(held)
    )
    return msgspec.structs.replace(plain, devices=devices, sharing="parts", **change)


def sharer(name: str, on: str, device: int, milli: int, **change: Part) -> Job:
    """A running job of one pod that holds so much of a card."""
    pod = Pod(
        name=f"{name}-0",
        uid=f"{name}-0",
        gpus=0,
        share=share(milli),
        node=on,
        devices=(device,),
        bound_seconds=0.0,
    )
    fields: dict[str, Part] = {
        "gpus_per_pod": 0,
        "share_per_pod": share(milli),
        "placed": (pod,),
    }
    return job(name, {on: 0}, **fields, **change)


def waiting(name: str, milli: int, pods: int = 1, **change: Part) -> Job:
    sized: dict[str, Part] = {"pods": pods, "min_pods": pods, "max_pods": pods}
    return job(name, gpus_per_pod=0, share_per_pod=share(milli), **sized, **change)


def kept(owner: str, milli: int, *nodes: str) -> Reservation:
    return Reservation(
        id=f"{owner}-0",
        owner=owner,
        parts=tuple((one, 0) for one in nodes),
        share=share(milli),
        created_seconds=9_900.0,
        expires_seconds=10_200.0,
    )


def planned(snapshot: Snapshot) -> Plan:
    assert broken(snapshot) == ()
    made, _ = plan(snapshot, SEEN, RULES, "full")
    assert broken_by(snapshot, made) == ()
    return made


def told(made: Plan) -> set[str]:
    return {one.job for one in made.actions if isinstance(one, (NotifyJob, StopJob))}


def wanting(*nodes: Node, gpus: int = 1, **parts: Part) -> Snapshot:
    """A world in which `chat/decode` lacks one replica."""
    target = role(0, gpus_per_pod=gpus)
    seen = {"signals": (signal(900.0),), "forecasts": forecasts(900.0)}
    return world(*nodes, roles=(target,), **seen, **parts)


def test_all_sharers_of_the_cheapest_card_give_way_and_nobody_else() -> None:
    held = cards("n", [("a", 500), ("b", 400)], [("c", 300), ("d", 300)])
    jobs = (
        sharer("a", "n", 0, 500, priority=9),
        sharer("b", "n", 0, 400),
        sharer("c", "n", 1, 300),
        sharer("d", "n", 1, 300),
    )
    made = planned(wanting(held, jobs=jobs))
    assert told(made) == {"c", "d"}
    assert [(one.owner, one.parts) for one in made.reservations] == [("chat/decode", (("n", 1),))]


@pytest.mark.parametrize(("guaranteed", "gone"), [(0, {"c", "d"}), (1, set[str]())])
def test_parts_of_cards_count_towards_a_tenants_share(guaranteed: int, gone: set[str]) -> None:
    held = cards("n", [("c", 600), ("d", 400)])
    jobs = (sharer("c", "n", 0, 600), sharer("d", "n", 0, 400))
    document = RULES.model_dump()
    document["preemption"]["guaranteed_gpus"] = {"research": guaranteed}
    made, _ = plan(wanting(held, jobs=jobs), SEEN, parse(document), "full")
    assert told(made) == gone


def test_a_card_whose_other_sharer_must_stay_is_not_freed() -> None:
    held = cards("n", [("a", 500), ("stranger", 100)])
    made = planned(wanting(held, jobs=(sharer("a", "n", 0, 500),)))
    assert told(made) == set()
    assert [one.owner for one in made.unplaced] == ["chat/decode"]


def test_a_role_that_asks_a_part_gets_one() -> None:
    held = cards("n", [("stranger", 500)], [])
    asking = wanting(held, gpus=0)
    asking = msgspec.structs.replace(
        asking, roles=(role(0, gpus_per_pod=0, share_per_pod=share(500)),)
    )
    (one,) = planned(asking).reservations
    assert (one.parts, one.share) == ((("n", 0),), share(500))


def test_a_dearer_sharer_is_worth_its_part_of_a_card() -> None:
    held = cards("n", [("a", 500)], [("b", 250)])
    found = world(held, jobs=(sharer("a", "n", 0, 500), sharer("b", "n", 1, 250)))
    assert [one.milli_gpus for one in running(found)] == [500, 250]
    assert [one.milli_gpus for one in found.jobs] == [500, 250]
    assert found.jobs[0].amount == "0.5 GPUs"


@pytest.mark.parametrize(
    ("leaving", "free", "left"),
    [((), 1, [400]), (("a",), 1, [900]), (("a", "b"), 2, [])],
)
def test_what_leaves_counts_for_online_alone(
    leaving: tuple[str, ...], free: int, left: list[int]
) -> None:
    held = cards("n", [("a", 500), ("b", 100)], [])
    jobs = [sharer("a", "n", 0, 500), sharer("b", "n", 0, 100)]
    jobs = [
        msgspec.structs.replace(one, state="stopping") if one.id in leaving else one for one in jobs
    ]
    found = world(held, jobs=tuple(jobs))
    (online,), (batch,) = online_supplies(found, ()), batch_supplies(found, (), 0)
    assert (online.free, [card.milli for card in online.cards]) == (free, left)
    assert (batch.free, [card.milli for card in batch.cards]) == (1, [400])


@pytest.mark.parametrize(
    ("reserved", "free", "left"),
    [
        ([], 1, [400]),
        ([kept("j", 300, "n")], 1, [100]),
        ([kept("j", 500, "n")], 0, [400, 500]),
        ([kept("j", 300, "n", "n", "n")], 0, [100, 400]),
    ],
)
def test_reserved_parts_are_seated_on_the_fullest_cards(
    reserved: list[Reservation], free: int, left: list[int]
) -> None:
    held = cards("n", [("a", 600)], [])
    (batch,) = batch_supplies(world(held), reserved, 0)
    assert (batch.free, [card.milli for card in batch.cards]) == (free, left)


@pytest.mark.parametrize(
    ("reserved", "still"),
    [
        (kept("j", 400, "n"), True),
        (kept("j", 500, "n"), True),
        (kept("j", 500, "n", "n"), True),
        (kept("j", 500, "n", "n", "n"), False),
        (kept("j", 300, "plain"), False),
        (kept("j", 300, "gone"), False),
    ],
)
def test_a_reserved_part_without_a_card_behind_it_is_void(
    reserved: Reservation, still: bool
) -> None:
    held = cards("n", [("a", 600)], [])
    found = world(held, node("plain"), jobs=(waiting("j", 500),), reservations=(reserved,))
    assert bool(open_reservations(found)) is still


def test_of_a_closed_node_no_part_is_to_be_had() -> None:
    shut = cards("n", [("a", 600)], [], cordoned=True)
    assert deck_of(shut).cards == ()
    (batch,) = batch_supplies(world(shut), (), 0)
    assert (batch.free, batch.cards) == (0, ())


MILLI = st.sampled_from([100, 250, 300, 500, 700])


@st.composite
def worlds(draw: st.DrawFn) -> Snapshot:
    """Nodes of one to three cards with sharers and whole holders, and jobs that ask either."""
    nodes, jobs = list[Node](), list[Job]()
    for number in range(draw(st.integers(1, 2))):
        name, held = f"n{number}", list[list[tuple[str, int]]]()
        for device in range(draw(st.integers(1, 3))):
            holders = list[tuple[str, int]]()
            for milli in draw(st.lists(MILLI, max_size=3)):
                if sum(one for _, one in holders) + milli <= 1000:
                    who = f"{name}.{device}.{len(holders)}"
                    holders.append((who, milli))
                    if draw(st.booleans()):
                        jobs.append(
                            sharer(who, name, device, milli, priority=draw(st.integers(1, 9)))
                        )
            held.append(holders or draw(st.sampled_from([[], [("stranger", 1000)]])))
        nodes.append(cards(name, *held))
    for number, milli in enumerate(draw(st.lists(MILLI | st.just(1000), max_size=4))):
        name = f"w{number}"
        whole = milli == 1000
        jobs.append(
            job(name, gpus_per_pod=1) if whole else waiting(name, milli, draw(st.integers(1, 2)))
        )
    if draw(st.booleans()):
        return wanting(*nodes, jobs=tuple(jobs))
    return world(*nodes, jobs=tuple(jobs))


def free_after(found: Snapshot, gone: set[str]) -> dict[str, list[int]]:
    """By node, what is left of its cards once these owners have gone; whole ones are 1000."""
    return {
        one.name: [
            1000 - sum(h.milli_gpu for h in device.holders if h.owner not in gone)
            for device in one.devices
        ]
        for one in found.nodes
    }


def fits(free: list[int], parts: list[int]) -> bool:
    """Whether parts and whole cards can be seated, by exhaustive search."""
    if not parts:
        return True
    first, *rest = sorted(parts, reverse=True)
    return any(
        fits([*free[:at], room - first, *free[at + 1 :]], rest)
        for at, room in enumerate(free)
        if room >= first
    )


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_no_card_is_promised_twice(found: Snapshot) -> None:
    made = planned(found)
    free = free_after(found, told(made))
    asked: dict[str, list[int]] = {one.name: [] for one in found.nodes}
    for one in made.reservations:
        for where, gpus in one.parts:
            asked[where] += [one.share.milli] if one.share.milli else [1000] * gpus
    assert all(fits(free[where], parts) for where, parts in asked.items())


@settings(max_examples=60, deadline=None)
@given(worlds(), st.lists(MILLI | st.just(1000), min_size=1, max_size=5))
def test_no_card_is_given_to_two_pods_that_come_one_by_one(
    found: Snapshot, pods: list[int]
) -> None:
    made = Plan(at_seconds=10_000.0, source="full")
    view, names = View(), tuple(one.name for one in found.nodes)
    view.publish(standing_of(found, made, RULES))
    free, given_to = free_after(found, set()), Counter[str]()
    asked: dict[str, list[int]] = {name: [] for name in names}
    for number, milli in enumerate(pods):
        part = Share(0) if milli == 1000 else share(milli)
        ask = PodAsk(uid=f"u{number}", name="p", gpus=milli // 1000, share=part)
        passed = view.steer(ask, names, 10_001.0).passed
        assert bool(passed) == any(fits(free[name], [*asked[name], milli]) for name in names)
        if passed:
            given_to[passed[0]] += 1
            asked[passed[0]].append(milli)
    assert all(fits(free[name], parts) for name, parts in asked.items())
