"""Small integer programs, stated at once."""

from collections.abc import Iterable, Sequence

from binpacking.linear import Draft, Linear, Term


def program(uppers: Sequence[int], rows: Iterable[tuple[Sequence[Term], float, float]]) -> Linear:
    """Columns by their upper bounds, and rows as (terms, low, high)."""
    draft = Draft()
    for upper in uppers:
        draft.column(upper)
    for terms, low, high in rows:
        draft.row(terms, low, high)
    return draft.finished()
