"""Nodes that powers of two do not state: ways to fill them, bins, and seats found exactly."""

from collections.abc import Sequence
from itertools import product
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from binpacking.board import Board
from binpacking.draft import nothing
from binpacking.ladder import solve
from binpacking.layout import compile_layout
from binpacking.problem import Piece, Problem, Shape, Supply
from binpacking.rooms import Capacity, ground, times
from binpacking.seating import seat_all
from binpacking.uneven import MOST_WAYS, ways
from tests.binpacking.problems import FULL, chances, gang, supply
from tests.binpacking.sleeping import crowded, least, with_sleepers


@given(st.integers(0, 9), st.sets(st.integers(1, 6), min_size=1, max_size=3))
def test_ways_are_all_that_fit_and_the_full_ones_leave_no_room(level: int, sizes: set[int]) -> None:
    known = tuple(sorted(sizes))
    every = [
        counts
        for counts in product(*(range(level // size + 1) for size in known))
        if sum(size * count for size, count in zip(known, counts, strict=True)) <= level
    ]
    found = ways(level, known, full=False)
    assert found is not None
    assert len(found) == len(every) == len(set(found))
    full = ways(level, known, full=True)
    assert full is not None
    assert set(full) == {way for way in found if way.spare < known[0]}


def test_a_node_with_too_many_ways_is_no_use() -> None:
    assert ways(64, (1, 2, 3, 5), full=False) is None
    assert len(ways(16, (1, 2, 3, 5), full=True) or ()) < MOST_WAYS


def board_of(*supplies: Supply) -> Board:
    problem = Problem(supplies=supplies)
    return nothing(problem, compile_layout(problem)).board


def some_way(rooms: Sequence[tuple[int, ...]], pieces: list[Piece]) -> bool:
    """Exhaustive search."""
    if not pieces:
        return True
    for node, room in enumerate(rooms):
        left = tuple(have - ask for have, ask in zip(room, pieces[0].amounts, strict=True))
        if min(left) >= 0 and some_way([*rooms[:node], left, *rooms[node + 1 :]], pieces[1:]):
            return True
    return False


@settings(max_examples=300)
@given(chances)
def test_a_seat_is_found_if_there_is_one(chance: Random) -> None:
    rooms = [
        (chance.randint(0, 8), chance.randint(0, 16), chance.choice([4, 1 << 60]))
        for _ in range(chance.randint(1, 4))
    ]
    board = board_of(
        *(
            Supply(f"n{number}", "h100", ("core", "l1", "h100"), *(gpus, 8), cpu, memory)
            for number, (gpus, cpu, memory) in enumerate(rooms)
        )
    )
    kinds = [
        Shape(chance.randint(1, 2), chance.choice([1, 2, 3, 5]), chance.choice([0, 2, 5]))
        for _ in range(chance.randint(1, 5))
    ]
    found = seat_all(board, 0, kinds)
    pieces = [kind.piece for kind in kinds for _ in range(kind.pieces)]
    assert (found is not None) is some_way(rooms, sorted(pieces, reverse=True))
    assert min((*board.free, *board.cpu, *board.memory)) >= 0
    taken = sum(gpus for gpus, _, _ in rooms) - sum(board.free)
    assert taken == (sum(kind.size for kind in kinds) if found else 0)
    assert [len(nodes) for nodes in found or ()] == [kind.pieces for kind in kinds if found]


def test_only_nodes_where_something_may_bind_leave_the_nested_rows() -> None:
    path = ("core", "l1", "h100")
    problem = Problem(
        supplies=(
            Supply("a", "h100", path, 8, 8, cpu_milli=16),
            Supply("b", "h100", path, 8, 8, cpu_milli=15),
            Supply("c", "h100", path, 2, 8, cpu_milli=4),
            Supply("d", "h100", path, 0, 8, cpu_milli=100),
            supply("e", 8),
        ),
        gangs=(gang("g", 1, ("c", 2)),),
    )
    layout = compile_layout(problem)
    capacity = Capacity(layout, layout.free, layout.beside, layout.gangs_on)
    even, odd = Piece(1, 2), Piece(3)
    assert ground(capacity, 0, (even,)) == ((0, 3, 4), (), (1, 2))
    assert ground(capacity, 0, (even, odd)) == ((3,), (0, 4), (1, 2))


def test_units_wake_on_nodes_of_odd_sizes_as_well_as_can_be() -> None:
    replace, woken = msgspec.structs.replace, 0
    for number in range(60):
        chance = Random(number)  # noqa: S311  # a numbered world, no secret
        problem = crowded(chance)
        threes = tuple(
            replace(one, shape=Shape(1, 3 if one.shape.gpus == 4 else one.shape.gpus))
            for one in problem.online
        )
        problem = with_sleepers(chance, replace(problem, online=threes), 6)
        packing = solve(problem, FULL)
        assert (packing.rejected, packing.gap) == ((), 0.0), number
        found = packing.tiers.unserved_milli_gpus, packing.tiers.loss
        assert found == least(problem), number
        woken += any(placed.wakes for placed in packing.online)
    assert woken


def test_times_counts_the_scarcest() -> None:
    assert times(Piece(2, 3, 0), Piece(8, 10, 0)) == 3
    assert times(Piece(2, 0, 1), Piece(8, 0, -1)) == 0
