"""Between two plans a pod goes where it costs the pods to come least, at the plan's prices."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binpacking.cards import PodShape, Population
from binpacking.inventory import Device, Holder, Node
from binpacking.shares import Share
from scheduler.planning.actions import Plan
from scheduler.planning.index import Index, index_of
from scheduler.planning.policy import parse
from scheduler.planning.preference import Taken, kept
from scheduler.planning.pricing import priced
from scheduler.planning.snapshot import Snapshot
from scheduler.planning.standing import Bind, PodAsk, standing_of
from scheduler.planning.steering import steer
from scheduler.planning.verdicts import prioritise

DECODE = {"tokens": "generated", "capacity_tokens_per_second": {"H": 1}}
POLICY = parse({"version": 1, "models": {"m": {"roles": {"decode": DECODE}}}})
ASK = PodAsk(uid="u", name="p", gpus=1)
GPUS = 8


def whole(gpus: int, *models: str, cpu: int = 0) -> PodShape:
    return PodShape(cpu, 0, gpus, 1000, models)


def node(name: str, free: tuple[int, ...], model: str = "H", cpu: int = 0, held: int = 0) -> Node:
    """A node of eight cards, of which those listed have so many milli free."""
    left = (*free, *(0,) * (GPUS - len(free)))
    devices = tuple(
        Device(i, f"{name}/{i}", 0, holders=(Holder("x", 1000 - milli),) if milli < 1000 else ())
        for i, milli in enumerate(left)
    )
    return Node(
        name=name,
        gpu_model=model,
        switch_path=("core",),
        devices=devices,
        cpu_milli=cpu,
        cpu_held_milli=held,
        sharing="parts",
    )


def index(to_come: Population, *nodes: Node) -> Index:
    plan = Plan(at_seconds=0.0, source="full", to_come=to_come, prices=priced(nodes, to_come))
    return index_of(standing_of(Snapshot(now_seconds=0.0, nodes=nodes), plan, POLICY))


def chosen(known: Index, ask: PodAsk = ASK, binds: tuple[Bind, ...] = ()) -> str:
    names = tuple(place.name for place in known.standing.nodes)
    (one,) = steer(known, binds, (), ask, names, 0.0).passed
    best = max(prioritise(known, binds, ask, names, 0.0), key=lambda each: each[1])
    assert best == (one, 10), "filter and prioritise agree"
    return one


@pytest.mark.parametrize(
    ("to_come", "free", "models", "name"),
    [
        ((), (4, 7), "HH", "n0"),  # nothing is known to come: best fit
        (((whole(4), 1),), (4, 7), "HH", "n1"),  # 4 -> 3 loses a place for four, 7 -> 6 does not
        (((whole(4), 1),), (8, 5), "HH", "n1"),  # neither loses one: fewest left
        (((whole(4), 1),), (3, 7), "HH", "n0"),  # what four cannot use is used up first
        (((whole(2, "H"), 1),), (2, 2), "HA", "n1"),  # the model that nobody demands
        (((whole(1), 9), (whole(1, "H"), 1)), (8, 8), "HA", "n1"),  # demanded by few: its price
        (((whole(1), 99), (whole(8), 1)), (8, 8), "HH", "n0"),  # a tie goes to the smallest name
    ],
)
def test_the_node_that_is_chosen(
    to_come: Population, free: tuple[int, ...], models: str, name: str
) -> None:
    nodes = (
        node(f"n{place}", (1000,) * gpus, model)
        for place, (gpus, model) in enumerate(zip(free, models, strict=True))
    )
    assert chosen(index(to_come, *nodes)) == name


def test_a_share_goes_beside_shares_and_much_cpu_where_cpu_is_to_spare() -> None:
    to_come = ((whole(1, cpu=4000), 9), (whole(1, cpu=6000), 1))
    full, half = node("a", (1000,) * 8, cpu=64000), node("b", (600, 1000), cpu=64000, held=56000)
    known = index(to_come, full, half)
    assert chosen(known, PodAsk(uid="u", name="p", gpus=0, share=Share(500))) == "b"
    assert chosen(known, PodAsk(uid="u", name="p", gpus=1, cpu_milli=6000)) == "a"
    assert [card.milli for card in known.places["b"].deck.cards] == [600]


def test_a_pod_without_gpu_is_scored_away_from_cpu_that_gpus_need() -> None:
    to_come = ((whole(1, cpu=8000), 1),)
    idle = node("a", (1000,) * 8, cpu=64000)
    taken = node("b", (), cpu=64000)
    ask = PodAsk(uid="u", name="p", gpus=0, cpu_milli=8000)
    scores = dict(prioritise(index(to_come, idle, taken), (), ask, ("a", "b"), 0.0))
    assert scores["b"] == 10
    assert scores["a"] < 10


def test_prices_travel_with_the_plan_and_name_what_is_scarce() -> None:
    scarce, common = node("a", (1000,) * 8, "A"), node("b", (1000,) * 8, "B")
    to_come = ((whole(1), 8), (whole(1, "A"), 24), (whole(8), 2))
    prices = priced((scarce, common), to_come)
    models = [kind.gpu_model for kind in prices.kinds]
    by_model = dict(zip(models, prices.cards, strict=True))
    assert by_model["B"] == 0, "no pod is bound to it"
    assert by_model["A"] > 500, "half of what comes asks for it, and more comes than there is room"
    (slot,) = prices.slots
    assert slot.cards == 8
    assert 0 < slot.milli_gpus < 4000, "two are there, one is expected"
    assert priced((scarce, common), ()).cards == ()


def test_a_node_that_the_plan_did_not_know_has_no_price() -> None:
    to_come = ((whole(1, "A"), 1), (whole(1), 1))
    old, new = node("a", (1000,) * 8, "A"), node("b", (1000,) * 8, "N")
    plan = Plan(at_seconds=0.0, source="full", to_come=to_come, prices=priced((old,), to_come))
    known = index_of(standing_of(Snapshot(now_seconds=0.0, nodes=(old, new)), plan, POLICY))
    assert [place.kind for place in known.standing.nodes] == [0, -1]
    assert chosen(known) == "b"


cards = st.lists(st.sampled_from((0, 300, 1000, 1000, 1000)), min_size=GPUS, max_size=GPUS)
pods = st.sampled_from((whole(1), whole(2), whole(4), PodShape(500, 0, 1, 300)))


@given(cards, cards, st.lists(pods, max_size=3), st.integers(0, 2), pods)
@settings(max_examples=40)
def test_a_rank_after_binds_is_that_of_a_standing_that_shows_them(
    one: list[int], other: list[int], bound: list[PodShape], held: int, shape: PodShape
) -> None:
    to_come: Population = ((whole(1), 5), (whole(4), 1), (PodShape(500, 0, 1, 300), 4))
    nodes = (node("a", tuple(one), cpu=8000), node("b", tuple(other), cpu=8000))
    preference = index(to_come, *nodes).preference
    taken: Taken = (*bound, kept(held)) if held else tuple(bound)
    told = preference.ranks(shape, {"a": taken})["a"]
    shown = after(nodes[0], taken)
    if shown is None:
        assert told is None
    else:
        plan = Plan(at_seconds=0.0, source="full", to_come=to_come, prices=priced(nodes, to_come))
        seen = Snapshot(now_seconds=0.0, nodes=(shown, nodes[1]))
        fresh = index_of(standing_of(seen, plan, POLICY)).preference
        assert told == fresh.ranked(shape).ranks.get("a")


def after(before: Node, taken: Taken) -> Node | None:
    """The node once each sits on the tightest cards; None where one finds no room."""
    free, held = list(before.free_cards), 0
    for pod in taken:
        able = [card for card, milli in enumerate(free) if milli >= pod.card_milli]
        held += pod.cpu_milli
        if len(able) < pod.cards or held > before.cpu_milli:
            return None
        for card in sorted(able, key=lambda card: free[card])[: pod.cards]:
            free[card] -= pod.card_milli
    return node(before.name, tuple(free), cpu=before.cpu_milli, held=held)
