"""The back end: what leaves it as one transfer equals PuLP's own, and failures are no answer."""

from random import Random

import msgspec
import pulp
import pytest
from hypothesis import given, settings

from binpacking.layout import compile_layout
from binpacking.problem import Effort
from binpacking.rows import Capacity, Column, Row, Rows, build, crews, leftovers
from binpacking.solver import Answer, _stated, minimise
from tests.binpacking.problems import FULL, chances, random_problem


def rows(columns: tuple[Column, ...], *given_rows: Row) -> Rows:
    return Rows(columns, given_rows, {}, {}, {}, {}, ())


@pytest.fixture
def chance() -> Random:
    return Random(1)  # noqa: S311  # a fixed instance, no secret


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


def test_rows_that_the_solver_refuses_have_no_answer() -> None:
    beyond = rows(TWO, Row("r", ((0, 10**16), (1, 1)), 1, None))
    assert minimise(beyond, {0: 1}, FULL) is None


def test_no_columns_have_the_empty_point() -> None:
    assert minimise(rows(()), {}, FULL) == Answer((), 0.0)


def stopping_at(nodes: int) -> Effort:
    return msgspec.structs.replace(FULL, node_limit=nodes)


def test_a_solve_stopped_before_its_first_point_has_no_answer() -> None:
    weights = ((31, 37, 41, 43, 47, 53, 59, 61), (29, 67, 71, 23, 73, 19, 79, 83))
    split = rows(
        tuple(Column(f"x{n}", 3) for n in range(8)),
        Row("first", tuple(enumerate(weights[0])), 460, 460),
        Row("second", tuple(enumerate(weights[1])), 546, 546),
    )
    assert minimise(split, {0: 1, 7: -1}, stopping_at(0)) is None
    assert minimise(split, {0: 1, 7: -1}, FULL) is not None


def test_a_solve_stopped_early_has_a_point_and_an_honest_bound(chance: Random) -> None:
    knapsacks = rows(
        tuple(Column(f"x{n}", 1) for n in range(30)),
        *(
            Row(f"r{m}", tuple((n, chance.randint(5, 60)) for n in range(30)), None, 375)
            for m in range(5)
        ),
    )
    worth = {n: -chance.randint(10, 60) for n in range(30)}
    early, full = minimise(knapsacks, worth, stopping_at(1)), minimise(knapsacks, worth, FULL)
    assert early is not None
    assert full is not None
    best = sum(worth[n] * value for n, value in enumerate(full.values))
    assert full.bound == pytest.approx(best)
    assert early.bound < best <= sum(worth[n] * value for n, value in enumerate(early.values))


@given(chances)
def test_no_row_names_a_column_twice(chance: Random) -> None:
    """HiGHS refuses such rows, and PuLP would keep only one of the two."""
    problem = random_problem(chance)
    layout = compile_layout(problem)
    capacity = Capacity(layout, layout.free, layout.gangs_on)
    made = build(capacity, problem.online, crews(problem.batch), problem.stop_limits)
    for row in leftovers(made, capacity, problem.mix)[0].rows:
        columns = [column for column, _ in row.terms]
        assert len(set(columns)) == len(columns), row


@settings(max_examples=25)
@given(chances)
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
