"""The back ends: both give the same optimum, failures are no answer, and bounds are honest."""

from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from binpacking import solver
from binpacking.crews import crews
from binpacking.layout import compile_layout
from binpacking.leftovers import leftovers
from binpacking.linear import FREE, Floats, Linear, costs_of
from binpacking.problem import Effort
from binpacking.rooms import Capacity
from binpacking.rows import build
from binpacking.solver import Answer, Relaxation, minimise, search
from tests.binpacking.floors import floored
from tests.binpacking.pooled import pooled
from tests.binpacking.problems import FULL, chances, random_problem
from tests.binpacking.stated import program as rows


@pytest.fixture(params=["PuLP", "HiGHS"], autouse=True)
def _either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each table runs through both back ends."""
    monkeypatch.setattr(solver, "READABLE", 10**9 if request.param == "PuLP" else -1)


@pytest.fixture
def chance() -> Random:
    return Random(1)  # noqa: S311  # a fixed instance, no secret


TWO = (9, 9)


def values(answer: Answer | None) -> list[int]:
    assert answer is not None
    return [int(value) for value in answer.values]


def costs(*weights: int) -> Floats:
    return np.array(weights, float)


def test_the_optimum_and_its_bound() -> None:
    answer = minimise(rows(TWO, [(((0, 2), (1, 3)), 12, FREE)]), costs(5, 6), FULL)
    assert values(answer) == [0, 4]
    assert answer is not None
    assert answer.bound == pytest.approx(24)


def test_a_column_in_no_row_has_a_value_too() -> None:
    assert values(minimise(rows(TWO, [(((0, 1),), 3, 3)]), costs(0, 0), FULL))[0] == 3


def test_large_weights_keep_their_order() -> None:
    either = rows(TWO, [(((0, 1), (1, 1)), 1, FREE)])
    answer = minimise(either, costs(10**12 + 10**7, 10**12), FULL)
    assert values(answer) == [0, 1]
    assert answer is not None
    assert answer.bound == pytest.approx(1e12, rel=1e-6)


def test_rows_without_a_point_have_no_answer() -> None:
    assert minimise(rows(TWO, [(((0, 1),), 10, FREE)]), costs(1, 0), FULL) is None


def test_rows_that_the_solver_refuses_have_no_answer() -> None:
    beyond = rows(TWO, [(((0, 10**16), (1, 1)), 1, FREE)])
    assert minimise(beyond, costs(1, 0), FULL) is None
    assert Relaxation(beyond).minimise(costs(1, 0)) is None


def test_no_columns_have_the_empty_point() -> None:
    answer = minimise(rows((), ()), costs(), FULL)
    assert answer is not None
    assert (len(answer.values), answer.bound) == (0, 0.0)


def stopping_at(nodes: int) -> Effort:
    return msgspec.structs.replace(FULL, node_limit=nodes)


def test_a_solve_stopped_before_its_first_point_has_no_answer() -> None:
    weights = ((31, 37, 41, 43, 47, 53, 59, 61), (29, 67, 71, 23, 73, 19, 79, 83))
    split = rows(
        (3,) * 8,
        [(tuple(enumerate(weights[0])), 460, 460), (tuple(enumerate(weights[1])), 546, 546)],
    )
    wish = costs(1, 0, 0, 0, 0, 0, 0, -1)
    assert minimise(split, wish, stopping_at(0)) is None
    assert minimise(split, wish, FULL) is not None


def knapsacks(chance: Random) -> tuple[Linear, Floats]:
    program = rows(
        (1,) * 30,
        [(tuple((n, chance.randint(5, 60)) for n in range(30)), -FREE, 375) for _ in range(5)],
    )
    return program, costs(*(-chance.randint(10, 60) for _ in range(30)))


def test_a_solve_stopped_early_has_a_point_and_an_honest_bound(chance: Random) -> None:
    program, worth = knapsacks(chance)
    early, full = minimise(program, worth, stopping_at(1)), minimise(program, worth, FULL)
    assert early is not None
    assert full is not None
    best = float(worth @ full.values)
    assert full.bound == pytest.approx(best)
    assert early.bound < best <= float(worth @ early.values)


def test_a_solve_may_be_stopped_from_outside(
    chance: Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solver, "READABLE", -1)
    program, worth = knapsacks(chance)
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) > 3

    answer = minimise(program, worth, FULL, stop)
    assert asked
    assert answer is None or answer.bound <= float(worth @ answer.values)


def test_the_relaxation_goes_on_from_columns_that_are_held() -> None:
    relaxation = Relaxation(rows(TWO, [(((0, 2), (1, 3)), 12, FREE)]))
    free = relaxation.minimise(costs(5, 6))
    assert free is not None
    assert (free.objective, free.duals.tolist()) == (24.0, [2.0])
    assert free.reduced.tolist() == [1.0, 0.0]
    relaxation.fix(np.array([1]), np.array([2.0]))
    held = relaxation.minimise(costs(5, 6))
    assert held is not None
    assert held.values.tolist() == [3.0, 2.0]


@given(chances)
def test_no_row_names_a_column_twice(chance: Random) -> None:
    """HiGHS refuses such rows, and PuLP would keep only one of the two."""
    for linear in stated(chance):
        for row in range(linear.rows):
            columns = [column for column, _ in linear.terms(row)]
            assert len(set(columns)) == len(columns), row


def stated(chance: Random) -> list[Linear]:
    """The program of a random problem, before and after the rows of the lower tiers."""
    problem = pooled(chance, floored(chance, random_problem(chance)))
    layout = compile_layout(problem)
    capacity = Capacity(layout, layout.free, layout.beside, layout.gangs_on)
    sizes = [size for size, _ in problem.mix]
    made = build(capacity, problem, crews(problem.batch), sizes=sizes)
    return [made.linear, leftovers(made, made.linear, problem.mix)[0]]


@settings(max_examples=25)
@given(chances)
def test_both_back_ends_give_the_same_optimum(chance: Random) -> None:
    linear = stated(chance)[1]
    wish = costs_of(linear, {n: chance.randint(-9, 9) for n in range(linear.columns)})
    with pytest.MonkeyPatch.context() as patch:
        found = []
        for readable in (-1, 10**9):
            patch.setattr(solver, "READABLE", readable)
            found.append(minimise(linear, wish, FULL))
    direct, readable_answer = found
    assert (direct is None) == (readable_answer is None)
    if direct is not None and readable_answer is not None:
        assert wish @ direct.values == wish @ readable_answer.values
        assert direct.bound == pytest.approx(readable_answer.bound, abs=1e-6)


@pytest.mark.parametrize(("most", "found"), [(12.0, None), (13.0, [1, 1]), (20.0, [1, 1])])
def test_points_that_cost_more_are_not_looked_for(most: float, found: list[int] | None) -> None:
    """3 x + y >= 4 at costs of 9 and 4: 12 relaxed, 13 in whole numbers."""
    linear = rows(TWO, [(((0, 3), (1, 1)), 4, FREE)])
    point, bound = search(linear, np.array([9.0, 4.0]), FULL, most=most)
    assert (point if point is None else point.tolist()) == found
    assert bound == pytest.approx(FREE if found is None else 13.0)
