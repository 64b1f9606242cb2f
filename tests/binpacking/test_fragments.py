"""F of the FGD paper: by hand, against a naive reading of its definition, and as hosts change."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binpacking.cards import Fleet, Host, PodShape
from binpacking.fragmentation import Fragments, Mixture
from tests.benchmarks.packing_fgd import typical
from tests.binpacking.fleets import fleet, fleets, host, mixtures, pod, shapes


def naive(one: Host, shape: PodShape) -> int:
    """Section 3 of the paper, word by word."""
    enough = [free for free in one.cards if free >= shape.card_milli]
    runs = (
        shape.cards > 0
        and len(enough) >= shape.cards
        and one.cpu_milli >= shape.cpu_milli
        and (not shape.models or one.gpu_model in shape.models)
    )
    if not runs:
        return sum(one.cards)
    return sum(free for free in one.cards if free < shape.card_milli)


def now(world: Fleet, row: int) -> Host:
    cards = tuple(free for free in world.cards[row].tolist() if free >= 0)
    return Host(world.names[row], world.models[row], int(world.cpu[row]), 0, cards)


@pytest.mark.parametrize(
    ("shape", "fragment"),
    [
        (pod(1, 1000), 190),  # one card is whole, the other's rest is too small
        (pod(1, 150), 0),
        (pod(1, 810), 190),
        (pod(2, 1000), 1190),  # two whole cards there are not: everything is fragment
        (pod(2, 150), 0),
        (pod(1, 1000, cpu=9000), 1190),  # CPU for it there is not
        (pod(1, 1000, models=("B",)), 1190),
        (pod(1, 1000, models=("A", "B")), 190),
        (pod(0), 1190),  # to a pod without GPU every idle GPU is fragment
    ],
)
def test_one_shape_by_hand(shape: PodShape, fragment: int) -> None:
    world = fleet(host("n", 1000, 190))
    assert Fragments(world, Mixture(((shape, 1),))).now.tolist() == [fragment]


def test_a_mixture_is_summed_by_weight() -> None:
    world = fleet(host("n", 1000, 190))
    mixture = Mixture(((pod(1, 1000), 3), (pod(0), 2)))
    fragments = Fragments(world, mixture)
    assert fragments.now.tolist() == [3 * 190 + 2 * 1190]
    assert fragments.weight == 5


@given(fleets(), mixtures(), shapes())
@settings(max_examples=150)
def test_after_says_what_seating_brings(
    hosts: tuple[Host, ...], mixture: Mixture, shape: PodShape
) -> None:
    world = Fleet(hosts)
    fragments = Fragments(world, mixture)
    for row in np.flatnonzero(world.fits(shape, np.arange(len(hosts)))).tolist():
        cards = np.flatnonzero(world.cards[row] >= shape.card_milli)[: shape.cards]
        told = fragments.after(shape, np.array([row]), cards[None, :])[0]
        twin = world.copy()
        twin.seat(shape, row, cards.tolist())
        assert told == Fragments(twin, mixture).now[row]


@given(fleets(), mixtures(), st.lists(shapes(), max_size=12))
@settings(max_examples=100)
def test_refreshed_equals_computed_anew_and_naive(
    hosts: tuple[Host, ...], mixture: Mixture, pods: list[PodShape]
) -> None:
    world = Fleet(hosts)
    fragments = Fragments(world, mixture)
    for shape in pods:
        rows = np.flatnonzero(world.fits(shape, np.arange(len(hosts)))).tolist()
        if rows:
            row = rows[-1]
            usable = np.flatnonzero(world.cards[row] >= shape.card_milli)
            world.seat(shape, row, usable[: shape.cards].tolist())
            fragments.refresh(row)
    assert fragments.now.tolist() == Fragments(world, mixture).now.tolist()
    assert fragments.now.tolist() == [
        sum(weight * naive(now(world, row), shape) for shape, weight in mixture.shapes)
        for row in range(len(hosts))
    ]


def test_typical_shapes_cover_the_asked_part_and_know_no_memory() -> None:
    pods = [pod(1, memory=1)] * 30 + [pod(1, memory=2)] * 30 + [pod(2)] * 35 + [pod(4)] * 5
    assert typical(pods, 95).shapes == ((pod(1), 60), (pod(2), 35))
    assert typical(pods, 100).shapes == ((pod(1), 60), (pod(2), 35), (pod(4), 5))
