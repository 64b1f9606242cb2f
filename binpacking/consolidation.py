"""Which nodes to empty by moving small work into holes elsewhere, so that whole nodes come free.

A question of its own beside packing: holes on many nodes add up to nothing for work that wants a
whole node. Only single-node movers are considered, and only nodes that nothing else holds; a
mover goes to a hole on a node of the same GPU model. One small integer program per GPU model,
with the nested-capacity rows of `slots`: for each size k, the k-slots of the movers and of the
emptied nodes' own holes are at most all k-slots there are.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from binpacking.linear import FREE, Draft
from binpacking.problem import Effort
from binpacking.slots import power_of_two
from binpacking.solver import minimise

SIZES = (1, 2, 4, 8, 16)


class Mover(msgspec.Struct, frozen=True):
    """Work that holds GPUs of one node and may be moved."""

    key: str
    gpus: int
    cost: int
    """GPU-seconds that moving it throws away."""


class Cell(msgspec.Struct, frozen=True):
    """One node as the question sees it."""

    node: str
    gpu_model: str
    free: int
    total: int
    movers: tuple[Mover, ...] = ()
    leaf: tuple[str, ...] = ()

    @property
    def clearable(self) -> bool:
        """True when moving the movers leaves the whole node free, and it is not free already."""
        moved = sum(mover.gpus for mover in self.movers)
        return 0 < moved == self.total - self.free


class Cleared(msgspec.Struct, frozen=True):
    """A node to empty, and who moves."""

    node: str
    movers: tuple[str, ...]


def consolidate(
    cells: Sequence[Cell], wanted: dict[str, int], hole_seconds: int, effort: Effort
) -> tuple[Cleared, ...]:
    """Return the nodes whose emptying gains most, in order of name.

    `wanted` is how many whole nodes of a GPU model waiting work could use; `hole_seconds` how long
    a hole stays empty otherwise, so that emptying a node gains its free GPUs for that long.
    """
    found: list[Cleared] = []
    for gpu_model in sorted(wanted):
        mine = [cell for cell in cells if cell.gpu_model == gpu_model]
        gains = {cell.node: gain(cell, hole_seconds) for cell in mine if cell.clearable}
        worth = [cell for cell in mine if gains.get(cell.node, 0) > 0]
        if worth and wanted[gpu_model] > 0:
            found.extend(_best(mine, worth, gains, wanted[gpu_model], effort))
    return tuple(sorted(found, key=lambda one: one.node))


def gain(cell: Cell, hole_seconds: int) -> int:
    """Return what emptying the node brings: its holes for that long, less what moving loses."""
    return cell.free * hole_seconds - sum(mover.cost for mover in cell.movers)


def _best(
    cells: Sequence[Cell],
    worth: Sequence[Cell],
    gains: dict[str, int],
    wanted: int,
    effort: Effort,
) -> list[Cleared]:
    statement = Draft()
    columns = [statement.column(1) for _ in worth]
    statement.row(((column, 1) for column in columns), -FREE, wanted)
    for size in SIZES:
        terms = [(column, _uses(cell, size)) for column, cell in zip(columns, worth, strict=True)]
        have = sum(cell.free // size for cell in cells)
        statement.row((term for term in terms if term[1]), -FREE, have)
    costs = np.array([-gains[cell.node] for cell in worth], float)
    answer = minimise(statement.finished(), costs, effort)
    chosen = answer.values.tolist() if answer else ()
    return [
        Cleared(cell.node, tuple(mover.key for mover in cell.movers))
        for cell, clear in zip(worth, chosen, strict=bool(chosen))
        if clear
    ]


def _uses(cell: Cell, size: int) -> int:
    """Return k-slots that emptying the node takes: for its movers, and its own holes."""
    sizes = [power_of_two(mover.gpus) for mover in cell.movers]
    return sum(gpus // size for gpus in sizes if gpus >= size) + cell.free // size
