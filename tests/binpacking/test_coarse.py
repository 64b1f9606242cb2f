"""The coarse program: a bound below every packing, and shares that blocks can settle."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings

from binpacking import soft
from binpacking.blocks import Parts
from binpacking.coarse import settle, together
from binpacking.filling import spine_by_column, unserved_costs
from binpacking.layout import compile_layout
from binpacking.linear import FREE, Floats, Integers, costs_of
from binpacking.problem import Effort, Problem
from binpacking.rooms import Capacity
from binpacking.rows import build
from binpacking.soft import slots_together
from binpacking.solver import Relaxation, minimise, search
from tests.binpacking.problems import FULL, QUICK, chances
from tests.binpacking.stated import program
from tests.binpacking.test_groups import random_groups


def stated(problem: Problem) -> tuple[Parts, Floats, Integers]:
    """Both tiers as one sum: blocks, costs, and the classes of rows."""
    layout = compile_layout(problem)
    capacity = Capacity(layout, layout.free, layout.beside, layout.gangs_on)
    rows = build(capacity, problem)
    stops = {
        column: sum(problem.gangs[gang].cost for gang in some)
        for column, some in rows.stops.items()
    }
    costs = costs_of(rows.linear, stops) + unserved_costs(problem, rows)
    parts = Parts(rows.linear, spine_by_column(rows, layout), len(layout.spines))
    return parts, costs, slots_together(rows, layout)


@settings(max_examples=150, deadline=None)
@given(chances)
def test_the_coarse_program_never_costs_more_and_settles_into_a_packing(chance: Random) -> None:
    parts, costs, classes = stated(random_groups(chance, spines=3, leaves=2, nodes=2))
    linear = parts.linear
    coarse = together(parts, costs, classes)
    assert coarse.parts.linear.rows <= linear.rows
    assert coarse.parts.linear.columns <= linear.columns
    best = minimise(linear, costs, FULL)
    relaxed = Relaxation(coarse.parts.linear).minimise(coarse.costs)
    assert best is not None
    assert relaxed is not None
    least = float(costs @ best.values)
    point, bound = search(coarse.parts.linear, coarse.costs, FULL)
    assert point is not None
    assert relaxed.objective - 1e-6 <= bound <= least + 1e-6
    values = settle(parts, costs, coarse, (point, relaxed.duals), FULL, 0.5)
    assert values is not None
    inside = ~parts.coupling()
    sums = linear.activity(values)
    assert np.all(sums[inside] <= linear.high[inside] + 1e-6)
    assert np.all(sums[inside] >= linear.low[inside] - 1e-6)
    assert np.all(sums <= linear.high + 1e-6)
    assert np.all((values >= 0) & (values <= linear.upper) & (values == np.round(values)))


@settings(max_examples=100, deadline=None)
@given(chances)
def test_every_point_is_a_point_of_the_coarse_program(chance: Random) -> None:
    parts, costs, classes = stated(random_groups(chance, spines=2, leaves=3, nodes=2))
    coarse = together(parts, costs, classes)
    found = minimise(parts.linear, costs * 0.0 - 1.0, FULL)
    assert found is not None
    linear = coarse.parts.linear
    values = np.bincount(coarse.column_of, found.values, linear.columns).astype(float)
    assert float(coarse.costs @ values) == pytest.approx(float(costs @ found.values))
    sums = linear.activity(values)
    assert np.all((sums <= linear.high + 1e-6) & (sums >= linear.low - 1e-6))
    assert np.all(values <= linear.upper)


def test_leaves_of_a_class_are_one_room_and_columns_alike_are_one() -> None:
    rows = [
        ([(0, 1), (1, 1), (2, 1)], 2.0, 2.0),  # two replicas, in either leaf of the block or beyond
        ([(0, 4)], -FREE, 4.0),
        ([(1, 4)], -FREE, 3.0),
    ]
    parts = Parts(program([1, 1, 2], rows), np.array([0, 0, -1]), 1)
    coarse = together(parts, np.array([0.0, 0.0, 9.0]), np.array([-1, 0, 0]))
    assert coarse.column_of.tolist() == [0, 0, 1]
    one = coarse.parts.linear
    assert (one.columns, one.rows) == (2, 2)
    room = int(coarse.row_of[1])
    assert one.terms(room) == [(0, 4)]
    assert (one.upper[0], one.high[room]) == (2.0, 7.0)


def test_what_a_block_cannot_do_is_asked_of_the_others() -> None:
    """Coarsely each block has room for one replica of 4; in the first, two leaves of 2 do not."""
    rows = [
        ([(0, 1), (1, 1), (2, 1)], 2.0, 2.0),
        ([(0, 4)], -FREE, 2.0),
        ([(1, 4)], -FREE, 2.0),
        ([(2, 4)], -FREE, 8.0),
    ]
    parts = Parts(program([1, 1, 2], rows), np.array([0, 0, 1]), 2)
    costs = np.array([0.0, 0.0, 0.0])
    coarse = together(parts, costs, np.array([-1, 0, 0, 1]))
    point = np.array([1.0, 1.0])
    values = settle(parts, costs, coarse, (point, np.ones(coarse.parts.linear.rows)), FULL, 0.5)
    assert values is not None
    assert values.tolist() == [0.0, 0.0, 2.0]


def test_what_the_relaxation_has_for_nothing_is_done_even_by_a_stop() -> None:
    """The first row has no price, and only the first block can do it, by a stop that costs 5."""
    rows = [
        ([(0, 1), (1, 1)], 2.0, 2.0),
        ([(0, 4), (2, -4)], -FREE, 4.0),
        ([(1, 4)], -FREE, 0.0),
        ([(3, 1), (4, 1)], 1.0, 1.0),
    ]
    parts = Parts(program([2, 1, 1, 1, 1], rows), np.array([0, 1, 0, 0, 1]), 2)
    costs = np.array([0.0, 0.0, 5.0, 0.0, 0.0])
    coarse = together(parts, costs, np.array([-1, 0, 1, -1]))
    point = coarse_point(coarse.column_of, [2.0, 0.0, 1.0, 1.0, 0.0])
    prices = np.zeros(coarse.parts.linear.rows)
    prices[coarse.row_of[3]] = 9.0
    values = settle(parts, costs, coarse, (point, prices), FULL, 0.5)
    assert values is not None
    assert values.tolist() == [2.0, 0.0, 1.0, 1.0, 0.0]


def coarse_point(column_of: Integers, values: list[float]) -> Floats:
    """What the coarse program calls these values."""
    return np.bincount(column_of, values).astype(float)


def test_far_stops_are_looked_at_where_the_near_ones_prove_too_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With no reach at all the second search makes the bound the coarse program's own."""
    problem = random_groups(Random(4), spines=3, leaves=2, nodes=3)  # noqa: S311
    found = []
    for reach in (0.0, 1e6):
        monkeypatch.setattr(soft, "_REACH", reach)
        found.append(_bound(_searched(problem, FULL)))
    assert found[0] == pytest.approx(found[1], abs=1.0)


@pytest.mark.parametrize("effort", [FULL, QUICK])
def test_no_more_is_proven_than_was_looked_at(
    monkeypatch: pytest.MonkeyPatch, effort: Effort
) -> None:
    """However little the search looks at, and however early it ends; of 78 and 139 the optimum
    lies beyond that.
    """
    monkeypatch.setattr(soft, "_COARSELY", 0.9)
    monkeypatch.setattr(soft, "_REACH", 0.0)
    for number in (*range(20), 78, 139):
        problem = random_groups(Random(number), spines=3, leaves=2, nodes=4)  # noqa: S311
        one = _searched(problem, effort)
        assert one.coarse is not None
        _, least = search(one.coarse.parts.linear, one.coarse.costs, FULL)
        assert _bound(one) <= least + 1e-6


def _bound(one: soft.Soft) -> float:
    assert one.coarse is not None
    assert one.relaxed is not None
    return one.shares(one.coarse, one.relaxed)[1]


def _searched(problem: Problem, effort: Effort) -> soft.Soft:
    parts, _, classes = stated(problem)
    layout = compile_layout(problem)
    capacity = Capacity(layout, layout.free, layout.beside, layout.gangs_on)
    rows = build(capacity, problem)
    stops = {c: sum(problem.gangs[g].cost for g in some) for c, some in rows.stops.items()}
    question = soft.Question(
        problem=problem,
        layout=layout,
        linear=parts.linear,
        unserved=unserved_costs(problem, rows),
        loss=costs_of(rows.linear, stops),
        spines=parts.block_of,
    )
    return soft.Soft(question, 0, effort, lambda: False, classes)
