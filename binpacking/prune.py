"""What a packing can do without: replicas beyond the shortage, kills beyond the need.

After `drop_needless_kills` no single stopped gang can be revived: neither do the seats hold as
they are, nor with the pieces of its leaves seated anew.
"""

from collections.abc import Iterator

from binpacking.awake import awake, saved
from binpacking.board import Board
from binpacking.draft import Seat, capacity, lift
from binpacking.problem import Problem, Shape
from binpacking.seating import seat_all


def drop_superfluous(problem: Problem, board: Board, seats: list[Seat]) -> list[Seat]:
    """Lift replicas without which the shortage stays covered, those first that save least by waking
    units, and of those the latest.
    """
    surplus = [-request.shortage_milli for request in problem.online]
    for seat in seats:
        surplus[seat.request] += capacity(problem, board, seat)
    credit = [0] * len(seats)
    for wake in awake(board, seats):
        credit[wake.seat] += wake.bed.credit
    kept = set(range(len(seats)))
    for index in sorted(kept, key=lambda index: (credit[index], -index)):
        seat = seats[index]
        yielded = capacity(problem, board, seat)
        if surplus[seat.request] >= yielded:
            surplus[seat.request] -= yielded
            lift(board, seat)
            kept.remove(index)
    return [seats[index] for index in sorted(kept)]


def drop_needless_kills(problem: Problem, board: Board, seats: list[Seat]) -> list[Seat]:
    """Revive gangs, dearest first, as long as every seat still finds room in its leaf, and units
    that have to sleep on would not have saved more than the stop costs.
    """
    gangs = problem.gangs
    revived = True
    while revived:  # for odd sizes, seats that moved may have made room for a gang refused before
        revived = False
        for gang in sorted(board.stopped(), key=lambda g: (-gangs[g].cost, gangs[g].key)):
            kept = _revived(problem, board, seats, gang)
            if kept is not None:
                seats, revived = kept, True
    return seats


def _revived(problem: Problem, board: Board, seats: list[Seat], gang: int) -> list[Seat] | None:
    """The seats with the gang running on; None, and the board as before, where they need it."""
    parts, mark = board.layout.parts[gang], board.mark()
    leaves = sorted({board.layout.leaf_of[node] for node, _ in parts})
    if any(board.leaf_free[leaf] < _held(board, gang, leaf) for leaf in leaves):
        return None
    wakes = awake(board, seats, leaves)
    least = sum(wake.bed.credit for wake in wakes) - problem.gangs[gang].cost
    board.revive(gang)
    if _stands(board, gang) and saved(board, seats, leaves) >= least:
        return seats
    pinned = {(wake.seat, wake.start) for wake in wakes if gang not in wake.bed.gangs}
    moved = _seat_anew(board, seats, leaves, pinned)
    if moved is None or not _stands(board, gang) or saved(board, moved, leaves) < least:
        board.undo(mark)
        return None
    return moved


def _stands(board: Board, gang: int) -> bool:
    """Whether its nodes hold it beside all else; pods that stay where they are may leave no CPU."""
    return all(board.holds(node, 0) for node, _ in board.layout.parts[gang])


def _held(board: Board, gang: int, leaf: int) -> int:
    layout = board.layout
    return sum(gpus for node, gpus in layout.parts[gang] if layout.leaf_of[node] == leaf)


def _seat_anew(
    board: Board, seats: list[Seat], leaves: list[int], pinned: set[tuple[int, int]]
) -> list[Seat] | None:
    """The same seats with new nodes inside these leaves; None where one leaf has no way.

    `pinned`: (seat, first piece) of pods that stay where they are.
    """
    moved = list(seats)
    for leaf in leaves:
        inside = [one for one in _pods_in(board, moved, leaf) if one[:2] not in pinned]
        for _, _, shape, nodes in inside:
            for node in nodes:
                board.lift(node, *shape.piece)
        shapes = [shape for _, _, shape, _ in inside]
        found = seat_all(board, leaf, shapes)
        if found is None:
            return None
        for (index, start, _, _), nodes in zip(inside, found, strict=True):
            seat = moved[index]
            rest = seat.nodes[start + len(nodes) :]
            moved[index] = Seat(seat.request, (*seat.nodes[:start], *nodes, *rest))
    return moved


def _pods_in(
    board: Board, seats: list[Seat], leaf: int
) -> Iterator[tuple[int, int, Shape, tuple[int, ...]]]:
    """(seat, its first piece, shape, nodes) of each pod in the leaf."""
    layout = board.layout
    for index, seat in enumerate(seats):
        start = 0
        for shape in layout.pods[seat.request]:
            nodes = seat.nodes[start : start + shape.pieces]
            if layout.leaf_of[nodes[0]] == leaf:
                yield index, start, shape, nodes
            start += shape.pieces
