"""Nested capacity: the rows are exact for powers of two, and largest first needs no search."""

from functools import cache
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binpacking.board import Board
from binpacking.draft import nothing
from binpacking.layout import compile_layout
from binpacking.materialise import Counts, materialise
from binpacking.problem import Problem, Shape
from binpacking.slots import fits, power_of_two, seat_largest_first
from tests.binpacking.problems import batch, chances, supply

frees = st.lists(st.integers(0, 16), min_size=1, max_size=5)


def board(free: list[int]) -> Board:
    problem = Problem(supplies=tuple(supply(f"n{i}", gpus) for i, gpus in enumerate(free)))
    return nothing(problem, compile_layout(problem)).board


@cache
def some_way(free: tuple[int, ...], pieces: tuple[int, ...]) -> bool:
    """Exhaustive search."""
    if not pieces:
        return True
    return any(
        some_way((*free[:node], gpus - pieces[0], *free[node + 1 :]), pieces[1:])
        for node, gpus in enumerate(free)
        if gpus >= pieces[0]
    )


@settings(max_examples=300)
@given(frees, st.lists(st.sampled_from([1, 2, 4, 8]), max_size=7))
def test_the_slot_test_is_exact_and_largest_first_finds_the_way(
    free: list[int], sizes: list[int]
) -> None:
    shapes = [Shape(1, gpus) for gpus in sizes]
    possible = some_way(tuple(sorted(free)), tuple(sorted(sizes, reverse=True)))
    assert fits(board(free), 0, shapes) is possible
    assert (seat_largest_first(board(free), 0, shapes) is not None) is possible


@settings(max_examples=200)
@given(frees, st.lists(st.integers(1, 9), max_size=6))
def test_for_other_sizes_the_slot_test_is_necessary(free: list[int], sizes: list[int]) -> None:
    shapes = [Shape(1, gpus) for gpus in sizes]
    if some_way(tuple(sorted(free)), tuple(sorted(sizes, reverse=True))):
        assert fits(board(free), 0, shapes)


@settings(max_examples=500)
@given(chances)
def test_counts_that_satisfy_the_rows_materialise(chance: Random) -> None:
    free = [chance.randint(0, 16) for _ in range(chance.randint(1, 8))]
    shapes: list[Shape] = []
    for _ in range(20):
        more = [*shapes, Shape(chance.randint(1, 2), chance.choice((1, 2, 4, 8)))]
        if fits(board(free), 0, more):
            shapes = more
    problem = Problem(
        supplies=tuple(supply(f"n{i}", gpus) for i, gpus in enumerate(free)),
        batch=tuple(batch(f"j{i}", one.gpus, 1, pieces=one.pieces) for i, one in enumerate(shapes)),
    )
    empty = nothing(problem, compile_layout(problem)).board
    draft = materialise(problem, empty, Counts((), tuple((i, 0) for i in range(len(shapes)))))
    assert draft is not None
    assert min(draft.board.free) >= 0
    assert sum(draft.board.free) == sum(free) - sum(one.size for one in shapes)


def test_counts_beyond_the_rows_have_no_nodes_and_leave_the_board_alone() -> None:
    full = board([3, 3])
    assert seat_largest_first(full, 0, [Shape(1, 2), Shape(1, 4)]) is None
    assert full.free == [3, 3]


def test_counts_beyond_the_rows_do_not_materialise() -> None:
    problem = Problem(supplies=(supply("n", 3),), batch=(batch("j", 2, 1, pieces=2),))
    empty = nothing(problem, compile_layout(problem)).board
    assert materialise(problem, empty, Counts((), ((0, 0),))) is None


@pytest.mark.parametrize(
    ("gpus", "power"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8), (9, 16), (16, 16)]
)
def test_power_of_two(gpus: int, power: int) -> None:
    assert power_of_two(gpus) == power
