"""Where the heuristic can wake a unit rather than start a pod cold: one bed at a time.

Which units the seats wake in the end is decided by `awake`, which may find more.
"""

from typing import NamedTuple

from binpacking.beds import Bed, Kind
from binpacking.board import Board
from binpacking.problem import Piece


class Way(NamedTuple):
    """A bed, what is stopped for it, and the cost of that less the credit."""

    cost: int
    bed: Bed
    gangs: tuple[int, ...]


def rouse(board: Board, kind: Kind, piece: Piece, leaf: int, *, may_kill: bool) -> Way | None:
    """The way of least cost, then of most credit, then by node and unit; None: no way."""
    ways = (
        _way(board, bed, piece, may_kill=may_kill)
        for bed in board.layout.beds_of.get((kind, leaf), ())
    )
    return min(
        (way for way in ways if way),
        key=lambda way: (way.cost, -way.bed.credit, way.bed.node, way.bed.unit),
        default=None,
    )


def _way(board: Board, bed: Bed, piece: Piece, *, may_kill: bool) -> Way | None:
    gangs = tuple(sorted(gang for gang in bed.gangs if board.alive[gang]))
    if bed.devices & board.roused[bed.node] or (gangs and not may_kill):
        return None
    cost, room = board.cost_of(gangs), board.room(bed.node, gangs)
    short = any(have < asked for have, asked in zip(room.amounts, piece.amounts, strict=True))
    if cost is None or short or not board.admits(bed.node, piece.keeps):
        return None
    return Way(cost - bed.credit, bed, gangs)
