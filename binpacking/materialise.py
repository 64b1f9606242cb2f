"""From counts per leaf to nodes.

Each leaf on its own, largest pieces first, each by best fit. Whenever the program's rows hold for
the counts this succeeds without search: at true sizes almost always, and else with every piece
holding the next power of two while the others are seated (see `slots`). Pods of split replicas
are dealt to replicas in order of leaf, so that few replicas have pods in many leaves.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from binpacking.board import Board
from binpacking.draft import Draft, Seat
from binpacking.layout import Layout
from binpacking.problem import Problem, Shape
from binpacking.slots import seat_largest_first


class Counts(NamedTuple):
    """What goes where; each entry once per replica, pod or job."""

    online: tuple[tuple[int, int], ...]
    """(online request, leaf) of replicas wholly there."""
    batch: tuple[tuple[int, int], ...]
    """(batch request, leaf)."""
    split: tuple[tuple[int, int], ...] = ()
    """(online request, spine pod) of replicas over several leaves."""
    pods: tuple[tuple[int, int, int], ...] = ()
    """(online request, member, leaf) of the pods of split replicas."""


class _Piece(NamedTuple):
    """A pod to seat: of which replica or job, its place there, and its shape."""

    owner: int
    place: int
    shape: Shape


def materialise(problem: Problem, board: Board, counts: Counts) -> Draft | None:
    """Seat the counts on the board; None where a leaf has no room for its pieces."""
    layout = board.layout
    replicas = [(request, [leaf] * len(layout.pods[request])) for request, leaf in counts.online]
    replicas += _split(problem, layout, counts)
    waiting: list[list[_Piece]] = [[] for _ in layout.leaves]
    for owner, (request, leaves) in enumerate(replicas):
        for place, (leaf, shape) in enumerate(zip(leaves, layout.pods[request], strict=True)):
            waiting[leaf].append(_Piece(owner, place, shape))
    for number, (job, leaf) in enumerate(counts.batch):
        waiting[leaf].append(_Piece(len(replicas) + number, 0, problem.batch[job].shape))
    found: dict[tuple[int, int], tuple[int, ...]] = {}
    for leaf, pieces in enumerate(waiting):
        nodes = _seated(board, leaf, [piece.shape for piece in pieces])
        if nodes is None:
            return None
        found.update(
            ((piece.owner, piece.place), some) for piece, some in zip(pieces, nodes, strict=True)
        )
    online = tuple(
        Seat(request, tuple(n for place in range(len(leaves)) for n in found[owner, place]))
        for owner, (request, leaves) in enumerate(replicas)
    )
    batch = tuple(
        Seat(job, found[len(replicas) + number, 0]) for number, (job, _) in enumerate(counts.batch)
    )
    return Draft(board, online, batch)


def _split(problem: Problem, layout: Layout, counts: Counts) -> Iterator[tuple[int, list[int]]]:
    """(request, leaf of each pod) of every split replica."""
    leaves: dict[tuple[int, int, int], list[int]] = {}
    for request, number, leaf in sorted(counts.pods):
        leaves.setdefault((request, number, layout.spine_of[leaf]), []).append(leaf)
    for request, spine in counts.split:
        mine: list[int] = []
        for number, member in enumerate(problem.online[request].members):
            left = leaves[request, number, spine]
            mine += left[: member.count]
            del left[: member.count]
        yield request, mine


def _seated(board: Board, leaf: int, shapes: Sequence[Shape]) -> list[tuple[int, ...]] | None:
    nodes = seat_largest_first(board, leaf, shapes)
    return nodes if nodes is not None else seat_largest_first(board, leaf, shapes, rounded=True)
