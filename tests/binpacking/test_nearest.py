"""Searches that widen find what one search of the whole program finds, wherever they begin."""

from itertools import product
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binpacking.linear import FREE, Floats, Linear
from binpacking.nearest import Found, nearest_first
from binpacking.solver import Relaxation
from tests.binpacking.problems import FULL, chances
from tests.binpacking.stated import program


def coverings(chance: Random) -> tuple[Linear, Floats]:
    """Six columns that cost something each, and three things to cover."""
    upper = tuple(chance.randint(1, 2) for _ in range(6))
    covers = [tuple((n, chance.randint(0, 3)) for n in range(6)) for _ in range(3)]
    rows = [(terms, chance.randint(0, 8), FREE) for terms in covers]
    return program(upper, rows), np.array([chance.randint(1, 30) for _ in range(6)], float)


def least(linear: Linear, costs: Floats) -> float:
    """Return the least cost of all points, tried one by one; infinite where none holds."""
    points = (np.array(p, float) for p in product(*(range(int(u) + 1) for u in linear.upper)))
    return min(
        (float(costs @ p) for p in points if (linear.activity(p) >= linear.low).all()),
        default=FREE,
    )


def steps(linear: Linear, costs: Floats, ceiling: float, reach: float) -> list[Found]:
    relaxed = Relaxation(linear).minimise(costs)
    assert relaxed is not None
    return list(nearest_first(linear, costs, relaxed, (ceiling, reach), FULL, lambda: False))


@settings(max_examples=150, deadline=None)
@given(chances, st.integers(0, 12), st.integers(1, 20))
def test_the_best_of_all_searches_is_the_best_of_all(
    chance: Random, above: int, reach: int
) -> None:
    """`above`: by how much the point in hand misses the optimum."""
    linear, costs = coverings(chance)
    best = least(linear, costs)
    if best == FREE:
        return
    found = steps(linear, costs, best + above, reach)
    reached = [float(costs @ one.values) for one in found if one.values is not None]
    assert min((best + above, *reached)) == best
    assert not found or best - 1.0 < found[-1].bound  # costs are integers: this is a proof
    assert all(one.bound <= best + 1e-6 for one in found)


def test_one_search_is_enough_where_the_optimum_is_near() -> None:
    linear = program((9, 9), [(((0, 1), (1, 1)), 4, FREE)])
    (only,) = steps(linear, np.array([5.0, 6.0]), 30.0, 1.0)
    assert only.values is not None
    assert only.values.tolist() == [4.0, 0.0]
    assert only.bound == pytest.approx(20.0)


def test_a_search_in_vain_proves_how_much_no_point_costs() -> None:
    """The relaxation takes 4/3 of the first column at a cost of 12; whole numbers cost 13."""
    linear = program((9, 9), [(((0, 3), (1, 1)), 4, FREE)])
    found = steps(linear, np.array([9.0, 4.0]), 1e9, 0.5)
    assert found[0] == (None, 13.0)
    last = found[-1]
    assert last.values is not None
    assert last.values.tolist() == [1.0, 1.0]
    assert last.bound == pytest.approx(13.0)


def test_a_point_in_hand_that_is_the_best_is_proven_so() -> None:
    linear = program((9, 9), [(((0, 3), (1, 1)), 4, FREE)])
    found = steps(linear, np.array([9.0, 4.0]), 13.0, 100.0)
    assert [one.values for one in found] == [None]
    assert found[-1].bound == pytest.approx(13.0)
