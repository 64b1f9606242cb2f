"""Columns and rows for the cards that pods share.

Where only what is left of a card matters: one column per such level and way to fill it, as
`uneven` has for nodes, and one row per level. A whole card that is opened is a piece of one GPU to
the rest of the program. A card whose sharers may be stopped is stated by itself: stops leave more
of it, and once all are stopped it may be a whole GPU of its node instead.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.layout import PLENTY
from binpacking.linear import FREE, Draft, Floats, Term
from binpacking.rooms import Capacity
from binpacking.shares import Share

MOST_WAYS = 256
"""Above this many ways to fill a card, cards are stated one by one."""

Counts = tuple[tuple[Share, int], ...]
"""(share, how many)."""

Covers = dict[Share, list[Term]]
"""By share: terms of what there is room for."""


class Filling(NamedTuple):
    """One way to fill cards of a level."""

    level: Share
    """What is left of them before."""
    counts: Counts
    spare: Share
    """What stays free."""


@lru_cache(maxsize=4096)
def fillings(level: Share, shares: tuple[Share, ...], *, full: bool) -> tuple[Filling, ...] | None:
    """The ways to fill a card; None where there are too many.

    `full`: only those that leave no room for any of the shares.
    """
    found: list[tuple[Share, Counts]] = [(level, ())]
    for share in sorted(shares, reverse=True):
        more: list[tuple[Share, Counts]] = []
        for left, counts in found:
            more.append((left, counts))
            for count in range(1, left.times(share) + 1):
                rest = Share(left.milli - count * share.milli, left[1] - count * share[1])
                more.append((rest, (*counts, (share, count))))
        found = more
        if len(found) > 16 * MOST_WAYS:
            return None
    if full:
        found = [one for one in found if not any(one[0].holds(share) for share in shares)]
    if len(found) > MOST_WAYS:
        return None
    return tuple(Filling(level, counts, spare) for spare, counts in found)


class Sharing:
    """Columns and rows while they are made."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.fillings: dict[int, Filling] = {}
        """By column: how cards of a level are filled."""
        self.single: dict[int, tuple[int, Share, Share]] = {}
        """By column: (number of a card, its level, share put there), for cards one by one."""
        self._cards = 0

    def pool(
        self,
        cards: Mapping[Share, int],
        whole: tuple[Share, int],
        shares: Sequence[Share],
        *,
        full: bool,
    ) -> tuple[int, Covers]:
        """State so many cards of each level, and at most so many whole ones; return the column of
        those opened, and what all have room for.

        `full`: cards may be stated as fuller than they are, which saves columns.
        """
        opened = self.draft.column(whole[1])
        covers: Covers = {share: [] for share in shares}
        for level, count in sorted(cards.items()):
            self._level(level, count, None, covers, full=full)
        self._level(*whole, opened, covers, full=full)
        return opened, covers

    def stoppable(
        self, capacity: Capacity, node: int, covers: Covers, stop: Callable[[int], int]
    ) -> list[int]:
        """State the node's cards whose sharers may be stopped; return, for each that may come
        free, the column of its use as a whole GPU.
        """
        rooms, emptied, whole = capacity.rooms(node), capacity.emptied(node), []
        held: dict[int, dict[int, Share]] = {}
        for gang, card, share in capacity.sharers(node):
            mine = held.setdefault(card, {})
            mine[gang] = mine.get(gang, Share(0)).plus(share)
        for card, gangs in sorted(held.items()):
            level = capacity.layout.decks[node].whole
            columns = self._columns(level, covers)
            stops = [(stop(gang), share) for gang, share in gangs.items()]
            used = []
            if card in emptied:
                used = [self.draft.column(1)]
                whole += used
            self._rows(columns, stops, rooms[card], used)
        return whole

    def filled(self, values: Floats) -> Iterator[tuple[Share, Counts]]:
        """(level, contents) of every card that the point puts shares on, those of `stoppable`
        left out.
        """
        for column, filling in self.fillings.items():
            for _ in range(round(values[column])):
                yield filling.level, filling.counts
        cards: dict[int, tuple[Share, list[tuple[Share, int]]]] = {}
        for column, (card, level, share) in self.single.items():
            if round(values[column]):
                cards.setdefault(card, (level, []))[1].append((share, round(values[column])))
        yield from ((level, tuple(counts)) for level, counts in cards.values())

    def _level(
        self, level: Share, count: int, opened: int | None, covers: Covers, *, full: bool
    ) -> None:
        """`opened`: the column of how many of the cards there are; None: all are there."""
        shares = tuple(share for share in covers if level.holds(share))
        if not shares:
            return
        found = fillings(level, shares, full=full)
        if found is None:
            self._one_by_one(level, count, opened, covers)
            return
        terms: list[Term] = [] if opened is None else [(opened, -1)]
        for filling in found:
            column = self.draft.column(count)
            self.fillings[column] = filling
            terms.append((column, 1))
            for share, times in filling.counts:
                covers[share].append((column, times))
        there = count if opened is None else 0
        self.draft.row(terms, -FREE if full else there, there)

    def _one_by_one(self, level: Share, count: int, opened: int | None, covers: Covers) -> None:
        each: list[Term] = []
        for _ in range(count):
            columns = self._columns(level, covers)
            self._cards += 1
            for column, share in columns:
                self.single[column] = (self._cards, level, share)
            if opened is None:
                self._rows(columns, [], level, [])
                continue
            used = self.draft.column(1)
            each.append((used, 1))
            self._rows(columns, [(used, level)], Share(0), [])
        if opened is not None:
            self.draft.row((*each, (opened, -1)), 0, 0)

    def _columns(self, level: Share, covers: Covers) -> list[tuple[int, Share]]:
        """A column per share that there may be room for on one card."""
        found = []
        for share, terms in covers.items():
            if level.holds(share):
                column = self.draft.column(level.times(share))
                terms.append((column, 1))
                found.append((column, share))
        return found

    def _rows(
        self,
        columns: Sequence[tuple[int, Share]],
        gains: Sequence[tuple[int, Share]],
        room: Share,
        whole: Sequence[int],
    ) -> None:
        """The shares on one card are within its room and what these columns add to it, and there
        are none where the card is used as a whole one.
        """
        terms = [(column, share.milli) for column, share in columns]
        terms += [(column, -share.milli) for column, share in gains]
        self.draft.row(
            (*terms, *((column, WHOLE_GPU_MILLI) for column in whole)), -FREE, room.milli
        )
        terms = [(column, share.memory_mib) for column, share in columns if share.memory_mib]
        known = [room.memory_mib, *(share.memory_mib for _, share in gains)]
        if terms and max(known) < PLENTY:
            terms += [(column, -share.memory_mib) for column, share in gains if share.memory_mib]
            self.draft.row(terms, -FREE, room.memory_mib)
