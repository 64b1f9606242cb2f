"""A packing in the making, by number, and its translation into the answer's words."""

from collections.abc import Sequence
from typing import NamedTuple

from binpacking.board import Board
from binpacking.fragmentation import unusable_milli_gpus
from binpacking.layout import Layout
from binpacking.problem import (
    BatchRequest,
    OnlineRequest,
    Packing,
    Placed,
    Problem,
    Rung,
    Tiers,
)


class Seat(NamedTuple):
    """One replica or job with the node number of each piece."""

    request: int
    """Index into the problem's `online` or `batch`."""
    nodes: tuple[int, ...]


class Draft(NamedTuple):
    """Seats by number; the stopped gangs stand on the board."""

    board: Board
    online: tuple[Seat, ...]
    batch: tuple[Seat, ...]


def nothing(problem: Problem, layout: Layout) -> Draft:
    """The draft that seats and stops nothing."""
    return Draft(Board(layout, problem), (), ())


def packing(problem: Problem, draft: Draft, rung: Rung) -> Packing:
    """The draft as an answer: keys for numbers, tiers computed, nothing proven yet."""
    unserved = unserved_milli(problem, draft)
    killed = draft.board.stopped()
    return Packing(
        online=_placed(problem.online, draft.online, draft.board),
        batch=_placed(problem.batch, draft.batch, draft.board),
        killed=tuple(sorted(problem.gangs[gang].key for gang in killed)),
        unserved=unserved,
        tiers=Tiers(
            unserved_milli_gpus=sum(
                unserved.get(request.key, 0) * request.shape.size for request in problem.online
            ),
            loss=sum(problem.gangs[gang].cost for gang in killed),
            batch_value=sum(problem.batch[seat.request].value for seat in draft.batch),
            fragmentation_milli_gpus=unusable_milli_gpus(draft.board.free, problem.mix),
            apart=_apart(problem, draft),
        ),
        rung=rung,
    )


def _apart(problem: Problem, draft: Draft) -> int:
    """Leaves added to those of each group; the first leaf of a group that has none is free."""
    layout = draft.board.layout
    stands: dict[str, set[tuple[str, ...]]] = {}
    used: dict[str, set[tuple[str, ...]]] = {}
    for request in problem.online:
        if request.group:
            stands.setdefault(request.group, set()).update(request.near)
    for seat in draft.online:
        group = problem.online[seat.request].group
        if group:
            used.setdefault(group, set()).add(layout.paths[layout.leaf_of[seat.nodes[0]]])
    return sum(len(new - stands[group]) - (not stands[group]) for group, new in used.items())


def unserved_milli(problem: Problem, draft: Draft) -> dict[str, int]:
    """Milli-replicas of shortage left per request key, only where above 0."""
    left = [request.shortage_milli for request in problem.online]
    for seat in draft.online:
        left[seat.request] -= capacity(problem, draft.board, seat)
    return {
        request.key: milli for request, milli in zip(problem.online, left, strict=True) if milli > 0
    }


def capacity(problem: Problem, board: Board, seat: Seat) -> int:
    """Milli-replicas that an online seat yields on its GPU model."""
    layout = board.layout
    model = layout.models[layout.leaf_of[seat.nodes[0]]]
    return problem.online[seat.request].capacity_milli[model]


def _placed(
    requests: Sequence[OnlineRequest | BatchRequest], seats: tuple[Seat, ...], board: Board
) -> tuple[Placed, ...]:
    """Seats with names, in order of request and of nodes."""
    placed = []
    for request, nodes in sorted((seat.request, tuple(sorted(seat.nodes))) for seat in seats):
        gpus = requests[request].shape.gpus
        names = board.layout.names
        placed.append(Placed(requests[request].key, tuple((names[node], gpus) for node in nodes)))
    return tuple(placed)
