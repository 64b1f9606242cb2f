"""A packing in the making, by number, and its translation into the answer's words."""

from typing import NamedTuple

from binpacking.awake import Wake, awake
from binpacking.board import Board
from binpacking.fragmentation import unusable_milli_gpus
from binpacking.layout import Layout
from binpacking.problem import (
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
    """Of each piece, pod by pod."""


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
    wakes = awake(draft.board, draft.online)
    lateness = draft.board.layout.most_saved - sum(wake.bed.credit for wake in wakes)
    return Packing(
        online=_placed_online(problem, draft, wakes),
        batch=_placed_batch(problem, draft),
        killed=tuple(sorted(problem.gangs[gang].key for gang in killed)),
        unserved=unserved,
        tiers=Tiers(
            unserved_milli_gpus=sum(
                unserved.get(request.key, 0) * request.size for request in problem.online
            ),
            loss=sum(problem.gangs[gang].cost for gang in killed) + lateness,
            batch_value=sum(problem.batch[seat.request].value for seat in draft.batch),
            fragmentation_milli_gpus=unusable_milli_gpus(draft.board.free, problem.mix),
            apart=_apart(problem, draft),
            split=sum(
                len({draft.board.layout.leaf_of[node] for node in seat.nodes}) > 1
                for seat in draft.online
                if problem.online[seat.request].members
            ),
            lateness=lateness,
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
    """Milli-replicas that an online seat yields on the least capable of its GPU models."""
    layout = board.layout
    capacities = problem.online[seat.request].capacity_milli
    return min(capacities[layout.models[layout.leaf_of[node]]] for node in {*seat.nodes})


def lift(board: Board, seat: Seat) -> None:
    """Take the pieces of an online seat off the board."""
    for node, piece in zip(seat.nodes, board.layout.pieces[seat.request], strict=True):
        board.lift(node, *piece)


def _placed_online(problem: Problem, draft: Draft, wakes: list[Wake]) -> tuple[Placed, ...]:
    """Seats with names, in order of request and of nodes; the nodes of a pod in order."""
    layout, placed = draft.board.layout, []
    keys: list[list[str]] = [[] for _ in draft.online]
    for wake in wakes:
        keys[wake.seat].append(problem.standby[wake.bed.unit].key)
    for seat, woken in zip(draft.online, keys, strict=True):
        parts: list[tuple[str, int]] = []
        for shape in layout.pods[seat.request]:
            pod = sorted(seat.nodes[len(parts) : len(parts) + shape.pieces])
            parts += ((layout.names[node], shape.gpus) for node in pod)
        placed.append((seat.request, tuple(parts), tuple(sorted(woken))))
    return tuple(
        Placed(problem.online[request].key, parts, woken)
        for request, parts, woken in sorted(placed)
    )


def _placed_batch(problem: Problem, draft: Draft) -> tuple[Placed, ...]:
    names, placed = draft.board.layout.names, []
    for request, nodes in sorted((seat.request, tuple(sorted(seat.nodes))) for seat in draft.batch):
        job = problem.batch[request]
        placed.append(Placed(job.key, tuple((names[node], job.shape.gpus) for node in nodes)))
    return tuple(placed)
