"""Emptying nodes of one leaf for a gang: all that it lacks there, or none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binpacking.clearing import clear_for_gang
from binpacking.consolidation import Cell, Mover


def cell(name: str, *jobs: int, free: int | None = None, cost: int = 10) -> Cell:
    """A node `leaf.number` of 8 GPUs with movable jobs of these sizes; `free` less: others hold."""
    movers = tuple(Mover(f"{name}-{n}", gpus, cost) for n, gpus in enumerate(jobs))
    left = 8 - sum(jobs) if free is None else free
    return Cell(name, "H100", left, 8, movers, (name.partition(".")[0],))


def names(*cells: Cell, nodes: int = 2, hole_seconds: int = 1000, most: int = 8) -> list[str]:
    found = clear_for_gang(cells, {"H100": {nodes}}, hole_seconds, most)
    return [one.node for one in found]


TWO_HALVES = (cell("a.1", 4), cell("a.2", 4))
HOLES = (cell("z.1", free=4), cell("z.2", free=4))


@pytest.mark.parametrize(
    ("name", "cells", "cleared"),
    [
        ("one beside a free one", (cell("a.1"), cell("a.2", 4), *HOLES), ["a.2"]),
        ("two of one leaf", (*TWO_HALVES, *HOLES), ["a.1", "a.2"]),
        ("not two of two leaves", (cell("a.1", 4), cell("b.1", 4), *HOLES), []),
        ("a free one elsewhere does not help", (cell("a.1"), cell("b.1", 4), *HOLES), []),
        ("nowhere to go", (cell("a.1"), cell("a.2", 4), cell("z.1", free=3)), []),
        ("room for one of two only", (*TWO_HALVES, HOLES[0]), []),
        ("somebody stays", (cell("a.1"), cell("a.2", 4, free=2), *HOLES), []),
        ("the emptier one", (cell("a.1"), cell("a.2", 4), cell("a.3", 2), *HOLES), ["a.3"]),
        ("where more is free", (*TWO_HALVES, cell("b.1"), cell("b.2", 4), *HOLES), ["b.2"]),
        ("free already", (cell("a.1"), cell("a.2"), cell("a.3", 4), *HOLES), []),
    ],
)
def test_which_nodes_are_emptied(name: str, cells: tuple[Cell, ...], cleared: list[str]) -> None:
    assert names(*cells) == cleared


def test_no_more_moves_than_a_plan_may_ask() -> None:
    cells = (cell("a.1"), cell("a.2", 1, 1, 1), cell("z.1", free=3))
    assert names(*cells, most=3) == ["a.2"]
    assert names(*cells, most=2) == []


def test_a_move_that_costs_more_than_it_gains_is_left() -> None:
    cells = (cell("a.1"), cell("a.2", 4, cost=12_500), *HOLES)
    assert names(*cells, hole_seconds=1000) == []  # 8 in vain and 4 of the hole
    assert names(*cells, hole_seconds=1100) == ["a.2"]


def test_gangs_of_other_gpu_models_move_nobody() -> None:
    cells = (cell("a.1"), cell("a.2", 4), *HOLES)
    assert clear_for_gang(cells, {"H200": {2}}, 1000, 8) == ()


jobs = st.lists(st.sampled_from((1, 2, 4)), max_size=3).filter(lambda sizes: sum(sizes) <= 8)


@given(st.lists(st.tuples(st.sampled_from("ab"), jobs), max_size=8), st.integers(2, 4))
def test_a_gang_has_its_nodes_in_one_leaf_and_every_mover_a_hole(
    nodes: list[tuple[str, list[int]]], wanted: int
) -> None:
    cells = [cell(f"{leaf}.{n}", *sizes) for n, (leaf, sizes) in enumerate(nodes)]
    chosen = set(names(*cells, nodes=wanted))
    if not chosen:
        return
    (leaf,) = {name[0] for name in chosen}
    vain = [one for one in cells if one.free == 8 and one.leaf == (leaf,)]
    assert len(vain) + len(chosen) == wanted
    moved = sum(mover.gpus for one in cells if one.node in chosen for mover in one.movers)
    assert moved <= sum(one.free for one in cells if one.node not in chosen and one.free < 8)
