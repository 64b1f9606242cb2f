"""From counts per leaf to nodes.

Each leaf on its own (see `seating`); whenever the program's rows hold for the counts, there is a
way. Pods of split replicas are dealt to replicas in order of leaf, so that few replicas have pods
in many leaves.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from binpacking.beds import Bed, Kind
from binpacking.board import Board
from binpacking.draft import Draft, Seat
from binpacking.layout import Layout
from binpacking.problem import Problem, Shape
from binpacking.seating import seat_all


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
    beds: tuple[Bed, ...] = ()
    """Where units wake: pods of the beds' kinds are seated there before all others."""


class _Piece(NamedTuple):
    """A pod to seat: of which replica or job, its place there, and its shape."""

    owner: int
    place: int
    shape: Shape
    kind: Kind | None
    """None for a batch job."""


def materialise(problem: Problem, board: Board, counts: Counts) -> Draft | None:
    """Seat the counts on the board; None where a leaf has no room for its pieces."""
    layout = board.layout
    replicas = [(request, [leaf] * len(layout.pods[request])) for request, leaf in counts.online]
    replicas += _split(problem, layout, counts)
    beds: list[list[Bed]] = [[] for _ in layout.leaves]
    for bed in counts.beds:
        beds[layout.leaf_of[bed.node]].append(bed)
    found: dict[tuple[int, int], tuple[int, ...]] = {}
    for leaf, pieces in enumerate(_waiting(problem, layout, replicas, counts.batch)):
        nodes = _seated(board, leaf, pieces, beds[leaf])
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
        Seat(job, found[owner, 0]) for owner, (job, _) in enumerate(counts.batch, len(replicas))
    )
    return Draft(board, online, batch)


def _waiting(
    problem: Problem,
    layout: Layout,
    replicas: Sequence[tuple[int, Sequence[int]]],
    batch: Sequence[tuple[int, int]],
) -> list[list[_Piece]]:
    """The pods to seat, by leaf; the jobs' owners are numbered after the replicas."""
    found: list[list[_Piece]] = [[] for _ in layout.leaves]
    for owner, (request, leaves) in enumerate(replicas):
        for place, (leaf, shape) in enumerate(zip(leaves, layout.pods[request], strict=True)):
            kind = (request, layout.members[request][place])
            found[leaf].append(_Piece(owner, place, shape, kind))
    for owner, (job, leaf) in enumerate(batch, len(replicas)):
        found[leaf].append(_Piece(owner, 0, problem.batch[job].shape, None))
    return found


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


def _seated(
    board: Board, leaf: int, pieces: Sequence[_Piece], beds: Sequence[Bed]
) -> list[tuple[int, ...]] | None:
    """The nodes of each piece; units stay asleep where their pods leave others without room."""
    mark = board.mark()
    pinned = _pinned(board, pieces, beds)
    shapes = [piece.shape for place, piece in enumerate(pieces) if place not in pinned]
    nodes = seat_all(board, leaf, shapes)
    if nodes is None:
        board.undo(mark)
        return _seated(board, leaf, pieces, ()) if pinned else None
    others = iter(nodes)
    return [(pinned[n],) if n in pinned else next(others) for n in range(len(pieces))]


def _pinned(board: Board, pieces: Sequence[_Piece], beds: Sequence[Bed]) -> dict[int, int]:
    """Node by piece: the first pods of each bed's kind, so that few replicas wake only in part."""
    takers: dict[Kind, list[int]] = {}
    for place in range(len(pieces) - 1, -1, -1):
        kind = pieces[place].kind
        if kind is not None:
            takers.setdefault(kind, []).append(place)
    pinned: dict[int, int] = {}
    for bed in beds:
        if not takers.get(bed.kind):
            continue
        piece = pieces[takers[bed.kind][-1]].shape.piece
        if board.holds(bed.node, *piece):
            board.take(bed.node, *piece)
            pinned[takers[bed.kind].pop()] = bed.node
    return pinned
