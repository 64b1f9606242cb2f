"""Nested capacity inside one leaf: which pieces fit, and where.

A k-slot is a block of k free GPUs on one node; a leaf has C_k = sum over nodes floor(free / k) of
them. Pieces of sizes that divide one another fit in the leaf if and only if, for every size k in
use, U_k = sum over pieces of q >= k GPUs of q / k is at most C_k: blocks of larger pieces use up
k-slots one for one, and while a slot is left some node has room for the next largest piece. So
largest first needs no search. For other sizes, and where CPU or memory may run short, the test
below stays necessary, not sufficient (see `rooms`).
"""

from collections.abc import Sequence

from binpacking.board import Board
from binpacking.problem import Shape


def power_of_two(gpus: int) -> int:
    """The least power of two that is not smaller."""
    return 1 << (gpus - 1).bit_length()


def fits(board: Board, leaf: int, shapes: Sequence[Shape]) -> bool:
    """False when these pieces cannot all be seated; exact for sizes that are powers of two."""
    free = [board.free[node] for node in board.layout.leaves[leaf]]
    for size in {shape.gpus for shape in shapes if shape.gpus}:
        used = sum(shape.pieces * (shape.gpus // size) for shape in shapes)
        if used > sum(gpus // size for gpus in free):
            return False
    return True


def seat_largest_first(
    board: Board, leaf: int, shapes: Sequence[Shape]
) -> list[tuple[int, ...]] | None:
    """Seat every shape's pieces in the leaf, largest pieces first, each by best fit.

    Returns the nodes of each shape in the order given; None (and the board as before) when a
    piece finds no room.
    """
    mark = board.mark()
    nodes: list[list[int]] = [[] for _ in shapes]
    pieces = [shape.piece for shape in shapes]
    for index in sorted(range(len(shapes)), key=lambda n: pieces[n].bulk, reverse=True):
        for _ in range(shapes[index].pieces):
            node = board.best_fit(leaf, pieces[index])
            if node < 0:
                board.undo(mark)
                return None
            board.take(node, *pieces[index])
            nodes[index].append(node)
    return [tuple(found) for found in nodes]
