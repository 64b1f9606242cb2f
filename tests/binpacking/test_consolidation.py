"""Emptying nodes: only where the movers fit elsewhere, and only where it gains."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binpacking.consolidation import Cell, Mover, consolidate
from binpacking.problem import Effort

FULL = Effort(name="full", program=True)


def cell(name: str, *jobs: int, free: int | None = None, cost: int = 10) -> Cell:
    """A node of 8 GPUs with movable jobs of these sizes; `free` less than the rest: others hold."""
    movers = tuple(Mover(f"{name}-{n}", gpus, cost) for n, gpus in enumerate(jobs))
    return Cell(name, "H100", 8 - sum(jobs) if free is None else free, 8, movers)


def names(cells: tuple[Cell, ...], wanted: int = 9, hole_seconds: int = 1000) -> list[str]:
    found = consolidate(cells, {"H100": wanted}, hole_seconds, FULL)
    return [one.node for one in found]


@pytest.mark.parametrize(
    ("name", "cells", "cleared"),
    [
        ("two halves make a whole", (cell("a", 4), cell("b", 4, free=4)), ["a"]),
        ("nothing elsewhere to go to", (cell("a", 4), cell("b", 8)), []),
        ("holes too small", (cell("a", 4), cell("b", free=3), cell("c", free=3)), []),
        ("holes just fit", (cell("a", 2, 1), cell("b", free=2), cell("c", free=1)), ["a"]),
        ("somebody stays", (cell("a", 2, free=3), cell("b", free=4)), []),
        ("already empty", (cell("a"), cell("b", free=4)), []),
        ("the emptier one gains more", (cell("a", 2), cell("b", 4), cell("c", free=4)), ["a"]),
    ],
)
def test_which_nodes_are_emptied(name: str, cells: tuple[Cell, ...], cleared: list[str]) -> None:
    assert names(cells) == cleared


def test_no_more_nodes_than_are_wanted() -> None:
    cells = (cell("a", 1), cell("b", 2), cell("c", free=4))
    assert names(cells, wanted=1) == ["a"]
    assert names(cells, wanted=0) == []


def test_a_move_that_costs_more_than_it_gains_is_left() -> None:
    cells = (cell("a", 4, cost=5000), cell("b", free=4))
    assert names(cells, hole_seconds=1000) == []
    assert names(cells, hole_seconds=2000) == ["a"]


def test_other_gpu_models_take_nothing() -> None:
    other = Cell("b", "H200", 4, 8)
    assert consolidate((cell("a", 4), other), {"H100": 1, "H200": 1}, 1000, FULL) == ()


sizes = st.lists(st.sampled_from((1, 2, 4)), max_size=3).filter(lambda jobs: sum(jobs) <= 8)


@given(st.lists(st.tuples(sizes, st.integers(0, 8)), min_size=1, max_size=5))
def test_movers_of_emptied_nodes_find_holes(world: list[tuple[list[int], int]]) -> None:
    cells = tuple(
        cell(f"n{n}", *jobs, free=min(free, 8 - sum(jobs))) for n, (jobs, free) in enumerate(world)
    )
    chosen = set(names(cells))
    movers = [m.gpus for c in cells if c.node in chosen for m in c.movers]
    holes = [c.free for c in cells if c.node not in chosen]
    for gpus in sorted(movers, reverse=True):
        home = next((n for n, free in enumerate(holes) if free >= gpus), None)
        assert home is not None
        holes[home] -= gpus
    assert not chosen or _best_gain(cells) == sum(_gain(c) for c in cells if c.node in chosen)


def _gain(one: Cell) -> int:
    return one.free * 1000 - sum(mover.cost for mover in one.movers)


def _best_gain(cells: tuple[Cell, ...]) -> int:
    """Try every set of nodes."""
    clearable = [one for one in cells if one.clearable]
    best = 0
    for count in range(len(clearable) + 1):
        for chosen in itertools.combinations(clearable, count):
            if _fit(cells, chosen):
                best = max(best, sum(_gain(one) for one in chosen))
    return best


def _fit(cells: tuple[Cell, ...], chosen: tuple[Cell, ...]) -> bool:
    holes = sorted((c.free for c in cells if c not in chosen), reverse=True)
    for gpus in sorted((m.gpus for c in chosen for m in c.movers), reverse=True):
        home = next((n for n, free in enumerate(holes) if free >= gpus), None)
        if home is None:
            return False
        holes[home] -= gpus
    return True
