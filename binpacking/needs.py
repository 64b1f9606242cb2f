"""What pods ask of a leaf together: how many pieces of each kind."""

from collections.abc import Iterable

from binpacking.problem import Member, Piece

Need = tuple[tuple[Piece, int], ...]
"""(piece, how many) of one of a column."""


def need_of(pods: Iterable[Member]) -> Need:
    """Pieces of these pods together, by kind."""
    counts: dict[Piece, int] = {}
    for member in pods:
        piece = member.shape.piece
        counts[piece] = counts.get(piece, 0) + member.count * member.shape.pieces
    return tuple(sorted(counts.items()))
