"""Which nodes of a leaf these pieces stand on, exactly: if there is a way, it is found.

Largest first by best fit; where that fails and the nested rows are not exact (see `rooms`), the
small program of this leaf alone, as stated by `uneven`.
"""

from collections.abc import Sequence

from binpacking.board import Board
from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.linear import Draft, Floats
from binpacking.problem import Effort, Piece, Shape
from binpacking.rooms import Capacity, Ground, ground, simple
from binpacking.shares import NO_SHARE, Share
from binpacking.slots import fits, seat_largest_first
from binpacking.solver import minimise
from binpacking.uneven import Uneven

_EFFORT = Effort(name="full", program=True)


def seat_all(board: Board, leaf: int, shapes: Sequence[Shape]) -> list[tuple[int, ...]] | None:
    """Seat every shape's pieces in the leaf.

    Returns the nodes of each shape in the order given; None, and the board as before, where there
    is no way, or none was found within the effort.
    """
    if not fits(board, leaf, shapes):
        return None
    found = seat_largest_first(board, leaf, shapes)
    if found is None and not simple({shape.piece for shape in shapes}):
        found = _searched(board, leaf, shapes)
    return found


def _searched(board: Board, leaf: int, shapes: Sequence[Shape]) -> list[tuple[int, ...]] | None:
    counts: dict[Piece, int] = {}
    for shape in shapes:
        counts[shape.piece] = counts.get(shape.piece, 0) + shape.pieces
    beside = tuple(zip(board.cpu, board.memory, strict=True))
    decks = list(board.layout.decks)
    for node in board.layout.leaves[leaf]:
        decks[node] = board.decks[node]._replace(cards=board.decks[node].left, shares=())
    nobody = ((),) * len(board.free)
    capacity = Capacity(
        board.layout,
        tuple(board.free),
        beside,
        nobody,
        tickets=board.tickets,
        decks=tuple(decks),
    )
    plain, odd, bound = ground(capacity, leaf, tuple(counts))
    if not odd and not bound and all(kind.share == NO_SHARE for kind in counts):
        return None
    draft = Draft()
    stated = Uneven(draft, capacity, lambda _: [], lambda _, _sizes: [], lambda _: -1)
    loads = [(draft.column(count), ((kind, 1),)) for kind, count in counts.items()]
    for (column, _), count in zip(loads, counts.values(), strict=True):
        draft.row(((column, 1),), count, count)
    stated.add_leaf(leaf, Ground((), (*plain, *odd), bound), loads, full=True)
    linear = draft.finished()
    answer = minimise(linear, linear.upper * 0.0, _EFFORT)
    return _placed(board, leaf, shapes, stated, answer.values) if answer else None


def _placed(
    board: Board, leaf: int, shapes: Sequence[Shape], stated: Uneven, values: Floats
) -> list[tuple[int, ...]]:
    """The pieces on the nodes that the answer names, and on the ways that it fills them."""
    counts = values.astype(int).tolist()
    places: dict[Piece, list[int]] = {}
    for column, (node, kind) in stated.pieces.items():
        places.setdefault(kind, []).extend([node] * counts[column])
    standing: dict[int, list[int]] = {}
    for node in reversed(stated.odd):
        standing.setdefault(board.free[node], []).append(node)
    holes: dict[int, list[int]] = {}
    for column, way in stated.ways.items():
        for _ in range(counts[column]):
            node = standing[way.level].pop()
            for size, count in way.counts:
                holes.setdefault(size, []).extend([node] * count)
    on_cards = _on_cards(board, leaf, stated, values, holes)
    found = []
    for shape in shapes:
        named, any_kind = places.get(shape.piece, []), holes.get(shape.gpus, [])
        if shape.share != NO_SHARE:
            any_kind = on_cards.get(shape.share, [])
        nodes = tuple(named.pop() if named else any_kind.pop() for _ in range(shape.pieces))
        for node in nodes:
            board.take(node, *shape.piece)
        found.append(nodes)
    return found


def _on_cards(
    board: Board, leaf: int, stated: Uneven, values: Floats, holes: dict[int, list[int]]
) -> dict[Share, list[int]]:
    """Nodes by share; those of cards that are opened are taken off the `holes` of one GPU."""
    here = {*stated.odd}
    cards: dict[Share, list[int]] = {}
    for node in board.layout.leaves[leaf]:
        for room in board.decks[node].left if node in here else ():
            cards.setdefault(room, []).append(node)
    found: dict[Share, list[int]] = {}
    for level, counts in stated.sharing.filled(values):
        node = (holes[1] if level.milli == WHOLE_GPU_MILLI else cards[level]).pop()
        for share, count in counts:
            found.setdefault(share, []).extend([node] * count)
    return found
