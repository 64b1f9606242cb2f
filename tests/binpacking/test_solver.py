"""The back end: what leaves it as one transfer equals PuLP's own, and failures are no answer."""

from random import Random

import pulp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binpacking.layout import compile_layout
from binpacking.problem import Effort
from binpacking.rows import Capacity, Column, Row, Rows, build, crews, leftovers
from binpacking.solver import _stated, minimise
from tests.binpacking.problems import FULL, random_problem


def rows(columns: tuple[Column, ...], *given_rows: Row) -> Rows:
    return Rows(columns, given_rows, {}, {}, {}, {}, ())


TWO = (Column("x", 9), Column("y", 9))


def test_the_optimum_and_its_bound() -> None:
    answer = minimise(rows(TWO, Row("r", ((0, 2), (1, 3)), 12, None)), {0: 5, 1: 6}, FULL)
    assert answer is not None
    assert answer.values == (0, 4)
    assert answer.bound == pytest.approx(24)


def test_a_column_in_no_row_has_a_value_too() -> None:
    answer = minimise(rows(TWO, Row("r", ((0, 1),), 3, 3)), {}, FULL)
    assert answer is not None
    assert answer.values[0] == 3


def test_large_weights_keep_their_order() -> None:
    either = rows(TWO, Row("r", ((0, 1), (1, 1)), 1, None))
    answer = minimise(either, {0: 10**12 + 10**7, 1: 10**12}, FULL)
    assert answer is not None
    assert answer.values == (0, 1)
    assert answer.bound == pytest.approx(1e12, rel=1e-6)


def test_rows_without_a_point_have_no_answer() -> None:
    assert minimise(rows(TWO, Row("r", ((0, 1),), 10, None)), {0: 1}, FULL) is None


def test_a_row_that_names_a_column_twice_has_no_effect_on_others() -> None:
    merged = minimise(rows(TWO, Row("r", ((0, 2),), 4, None)), {0: 1}, FULL)
    assert merged is not None
    assert merged.values[0] == 2


def test_the_node_limit_ends_a_solve_with_or_without_an_answer() -> None:
    stopped = Effort(name="full", program=True, node_limit=0)
    weights = (31, 37, 41, 43, 47, 53, 59, 61)
    knapsack = rows(
        tuple(Column(f"x{n}", 5) for n in range(8)),
        Row("exact", tuple(enumerate(weights)), 1009, 1009),
    )
    values = {column: -(weight % 7) - weight for column, weight in enumerate(weights)}
    answer = minimise(knapsack, values, stopped)
    full = minimise(knapsack, values, FULL)
    assert full is not None
    if answer is not None:
        assert sum(values[c] * n for c, n in enumerate(answer.values)) >= full.bound - 1e-6


@settings(max_examples=25)
@given(st.randoms(use_true_random=False))
def test_one_transfer_equals_pulps_own(chance: Random) -> None:
    problem = random_problem(chance)
    layout = compile_layout(problem)
    capacity = Capacity(layout, layout.free, layout.gangs_on)
    made = build(capacity, problem.online, crews(problem.batch), problem.stop_limits)
    made, weights = leftovers(made, capacity, problem.mix)
    stated, _ = _stated(made, weights, 1)
    stated.solve(pulp.HiGHS(msg=False, threads=1, gapRel=0.0))
    answer = minimise(made, weights, FULL)
    if stated.sol_status != pulp.LpSolutionOptimal:
        assert answer is None
        return
    assert answer is not None
    found = sum(weight * answer.values[column] for column, weight in weights.items())
    assert found == pytest.approx(pulp.value(stated.objective), abs=1e-6)
