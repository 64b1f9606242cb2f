"""Parts of one card, and which card of a node each pod gets that asks for one.

A share lies on one card, never on two halves. Cards that pods share already come first; a whole
one is opened only where these do not suffice, since a whole card serves any pod. The fewest cards
opened are found by search over whole cards' contents (bin completion: Korf, AAAI 2002), those first
that leave least of a card, so that mostly the first way is the last one looked at.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from binpacking.inventory import WHOLE_GPU_MILLI

MOST_STEPS = 5000
"""After so many, the best way so far is taken."""


class Share(NamedTuple):
    """A part of one card: asked, held, or left; ordered by milli-GPU first."""

    milli: int
    memory_mib: int = 0
    """Of the card."""

    def plus(self, other: "Share") -> "Share":
        """Both together."""
        return Share(self.milli + other.milli, self.memory_mib + other.memory_mib)

    def less(self, other: "Share") -> "Share":
        """What the other leaves of it; may be below zero."""
        return Share(self.milli - other.milli, self.memory_mib - other.memory_mib)

    def holds(self, other: "Share") -> bool:
        """Whether the other fits in."""
        return self.milli >= other.milli and self.memory_mib >= other.memory_mib

    def times(self, other: "Share") -> int:
        """How many such others fit in."""
        counts = (have // asked for have, asked in zip(self, other, strict=True) if asked)
        return max(0, min(counts))


NO_SHARE = Share(0)


class Held(NamedTuple):
    """What a gang holds of a card that others may share."""

    node: str
    card: int
    """Place among the `cards` of the node's supply."""
    share: Share


class Deal(NamedTuple):
    """Which card each share lies on."""

    cards: tuple[int, ...]
    """By share: its place among the cards in use, or beyond them one that is opened."""
    opened: int
    """Whole cards."""


@lru_cache(maxsize=16384)
def dealt(cards: tuple[Share, ...], whole: Share, shares: tuple[Share, ...]) -> Deal | None:
    """The shares on cards of which so much is left, and on whole ones as they are needed.

    None where one of them fits on no card.
    """
    search = _Search(cards, whole, shares)
    search.look(0)
    return search.best


class _Search:
    """Depth first: the largest share that is left gets a card, which is filled up at once."""

    def __init__(self, cards: Sequence[Share], whole: Share, shares: Sequence[Share]) -> None:
        self.whole, self.shares = whole, shares
        self.cards = list(cards)
        self.left = Counter(shares)
        self.kinds = sorted(self.left, reverse=True)
        self.unused = sorted(range(len(cards)), key=lambda card: (cards[card], card))
        self.seats: list[tuple[Share, int]] = []
        self.steps = 0
        self.best: Deal | None = None

    def look(self, opened: int) -> None:
        """Seat the shares that are left."""
        self.steps += 1
        if self._hopeless(opened):
            return
        largest = next((kind for kind in self.kinds if self.left[kind]), None)
        if largest is None:
            self.best = Deal(self._seats(), opened)
            return
        tried = set[Share]()
        for card in list(self.unused):
            room = self.cards[card]
            if room not in tried and room.holds(largest):
                tried.add(room)
                place = self.unused.index(card)
                self.unused.remove(card)
                self._fill(card, room, largest, opened)
                self.unused.insert(place, card)
        if self.whole.holds(largest):
            self._fill(len(self.cards) + opened, self.whole, largest, opened + 1)

    def _hopeless(self, opened: int) -> bool:
        """Whether no better way than the best can follow."""
        if self.best is None:
            return False
        lacking = sum(kind.milli * count for kind, count in self.left.items())
        lacking -= sum(self.cards[card].milli for card in self.unused)
        least = opened + max(0, -(-lacking // self.whole.milli))
        return least >= self.best.opened or self.steps > MOST_STEPS

    def _fill(self, card: int, room: Share, largest: Share, opened: int) -> None:
        before = len(self.seats)
        for _, content in sorted(self._contents(room, self.kinds.index(largest), at_least=1)):
            for kind, count in content:
                self.left[kind] -= count
                self.seats += [(kind, card)] * count
            self.look(opened)
            del self.seats[before:]
            for kind, count in content:
                self.left[kind] += count

    def _contents(
        self, room: Share, start: int, *, at_least: int = 0
    ) -> Iterator[tuple[Share, tuple[tuple[Share, int], ...]]]:
        """(what stays free, what is put there) of the ways to leave no room for what is left."""
        if start == len(self.kinds):
            yield room, ()
            return
        kind = self.kinds[start]
        most = min(self.left[kind], room.times(kind))
        for count in range(most, at_least - 1, -1):
            rest = Share(room.milli - count * kind.milli, room[1] - count * kind[1])
            for spare, others in self._contents(rest, start + 1):
                if count == self.left[kind] or not spare.holds(kind):
                    yield spare, ((kind, count), *others) if count else others

    def _seats(self) -> tuple[int, ...]:
        """The card of each share in the order given."""
        cards: dict[Share, list[int]] = {}
        for kind, card in self.seats:
            cards.setdefault(kind, []).append(card)
        return tuple(cards[share].pop(0) for share in self.shares)


class Deck(NamedTuple):
    """The cards of a node that pods share, and the shares that are put on them."""

    whole: Share
    """What a whole card of the node has."""
    cards: tuple[Share, ...] = ()
    """What is left of each, before those shares; one that is whole again is out of the deck."""
    shares: tuple[Share, ...] = ()
    """In rising order."""

    @property
    def deal(self) -> Deal | None:
        """Which card each share lies on; cards by their place in `cards`."""
        places = [n for n, card in enumerate(self.cards) if card.milli < WHOLE_GPU_MILLI]
        found = dealt(tuple(self.cards[n] for n in places), self.whole, self.shares)
        if found is None:
            return None
        beyond = len(self.cards) - len(places)
        cards = tuple(places[c] if c < len(places) else c + beyond for c in found.cards)
        return Deal(cards, found.opened)

    @property
    def taken(self) -> int | None:
        """Whole cards that the deck takes of the node, less those that are whole again."""
        deal = self.deal
        again = sum(card.milli >= WHOLE_GPU_MILLI for card in self.cards)
        return None if deal is None else deal.opened - again

    @property
    def left(self) -> tuple[Share, ...]:
        """What is left of each card in use, the opened ones included, after the shares."""
        deal = self.deal
        if deal is None:
            return ()
        rooms = [*self.cards, *(self.whole,) * deal.opened]
        for card, share in zip(deal.cards, self.shares, strict=True):
            rooms[card] = rooms[card].less(share)
        return tuple(room for room in rooms if room.milli < WHOLE_GPU_MILLI)

    def with_share(self, share: Share) -> "Deck":
        """One share more."""
        return self._replace(shares=tuple(sorted((*self.shares, share))))

    def without_share(self, share: Share) -> "Deck":
        """One share less."""
        place = self.shares.index(share)
        return self._replace(shares=self.shares[:place] + self.shares[place + 1 :])

    def changed(self, card: int, room: Share) -> "Deck":
        """With so much left of the card."""
        return self._replace(cards=(*self.cards[:card], room, *self.cards[card + 1 :]))
