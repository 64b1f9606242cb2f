"""What a packing can do without: replicas beyond the shortage, kills beyond the need.

After `drop_needless_kills` no single stopped gang can be revived: neither do the seats hold as
they are, nor, for sizes that are powers of two, with the pieces of its leaves seated anew.
"""

from binpacking.board import Board
from binpacking.draft import Seat, capacity
from binpacking.problem import Problem
from binpacking.slots import fits, seat_largest_first


def drop_superfluous(problem: Problem, board: Board, seats: list[Seat]) -> list[Seat]:
    """Lift replicas without which the shortage stays covered, the latest first."""
    surplus = [-request.shortage_milli for request in problem.online]
    for seat in seats:
        surplus[seat.request] += capacity(problem, board, seat)
    kept: list[Seat] = []
    for seat in reversed(seats):
        yielded = capacity(problem, board, seat)
        if surplus[seat.request] >= yielded:
            surplus[seat.request] -= yielded
            _lift(problem, board, seat)
        else:
            kept.append(seat)
    return kept[::-1]


def drop_needless_kills(problem: Problem, board: Board, seats: list[Seat]) -> list[Seat]:
    """Revive gangs, dearest first, as long as every seat still finds room in its leaf."""
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
    parts = board.layout.parts[gang]
    if all(board.free[node] >= gpus for node, gpus in parts):
        board.revive(gang)
        return seats
    leaves = sorted({board.layout.leaf_of[node] for node, _ in parts})
    if any(board.leaf_free[leaf] < _held(board, gang, leaf) for leaf in leaves):
        return None
    mark = board.mark()
    board.revive(gang)
    moved = _seat_anew(problem, board, seats, leaves)
    if moved is None:
        board.undo(mark)
    return moved


def _held(board: Board, gang: int, leaf: int) -> int:
    layout = board.layout
    return sum(gpus for node, gpus in layout.parts[gang] if layout.leaf_of[node] == leaf)


def _seat_anew(
    problem: Problem, board: Board, seats: list[Seat], leaves: list[int]
) -> list[Seat] | None:
    """The same seats with new nodes inside these leaves; None where one leaf has no way."""
    moved = list(seats)
    for leaf in leaves:
        inside = [
            index for index, seat in enumerate(seats) if board.layout.leaf_of[seat.nodes[0]] == leaf
        ]
        shapes = [problem.online[seats[index].request].shape for index in inside]
        for index in inside:
            _lift(problem, board, seats[index])
        if not fits(board, leaf, shapes):
            return None
        found = seat_largest_first(board, leaf, shapes)
        if found is None:
            return None
        for index, nodes in zip(inside, found, strict=True):
            moved[index] = Seat(seats[index].request, nodes)
    return moved


def _lift(problem: Problem, board: Board, seat: Seat) -> None:
    for node in seat.nodes:
        board.take(node, -problem.online[seat.request].shape.gpus)
