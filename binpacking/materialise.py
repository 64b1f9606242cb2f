"""From counts per leaf to nodes.

Each leaf on its own, largest pieces first, each by best fit. Whenever the program's rows hold for
the counts this succeeds without search: at true sizes almost always, and else with every piece
holding the next power of two while the others are seated (see `slots`).
"""

from collections.abc import Sequence
from typing import NamedTuple

from binpacking.board import Board
from binpacking.draft import Draft, Seat
from binpacking.problem import Problem, Shape
from binpacking.slots import seat_largest_first


class Counts(NamedTuple):
    """What goes into which leaf: online requests once per replica, batch requests once."""

    online: tuple[tuple[int, int], ...]
    """(online request, leaf), repeated for each replica."""
    batch: tuple[tuple[int, int], ...]
    """(batch request, leaf)."""


def materialise(problem: Problem, board: Board, counts: Counts) -> Draft | None:
    """Seat the counts on the board; None where a leaf has no room for its pieces."""
    online: list[Seat] = []
    batch: list[Seat] = []
    for leaf in range(len(board.layout.leaves)):
        runs = [request for request, where in counts.online if where == leaf]
        jobs = [request for request, where in counts.batch if where == leaf]
        shapes = [problem.online[request].shape for request in runs]
        shapes += [problem.batch[request].shape for request in jobs]
        nodes = _seated(board, leaf, shapes)
        if nodes is None:
            return None
        split = len(runs)
        online += [Seat(request, found) for request, found in zip(runs, nodes[:split], strict=True)]
        batch += [Seat(request, found) for request, found in zip(jobs, nodes[split:], strict=True)]
    return Draft(board, tuple(online), tuple(batch))


def _seated(board: Board, leaf: int, shapes: Sequence[Shape]) -> list[tuple[int, ...]] | None:
    nodes = seat_largest_first(board, leaf, shapes)
    return nodes if nodes is not None else seat_largest_first(board, leaf, shapes, rounded=True)
