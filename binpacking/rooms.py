"""What there is to pack into, and on which nodes of a leaf the nested rows are exact.

The rows of `rows` count GPUs in powers of two. They are exact on a node where every piece that
could stand there has such a size, and where CPU and memory suffice for whatever the GPUs can hold:
before and after any stop, there is as much of both per GPU as the dearest piece asks. Nor may a
node take fewer pods of a request that keeps them apart than its GPUs hold. Other nodes are
`uneven`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from binpacking.beds import Bed
from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.layout import Layout
from binpacking.problem import Piece
from binpacking.shares import NO_SHARE, Deck, Share
from binpacking.slots import power_of_two


class Capacity(msgspec.Struct, frozen=True):
    """What there is to pack into: what is free by node, and the gangs that may still be stopped."""

    layout: Layout
    free: tuple[int, ...]
    """GPUs."""
    beside: tuple[tuple[int, int], ...]
    """(milli-CPU, MiB of memory)."""
    gangs_on: tuple[tuple[tuple[int, int], ...], ...]
    beds: tuple[tuple[Bed, ...], ...] = ()
    """By node: standby units that may be woken; empty: the question does not ask for any."""
    tickets: Mapping[str, Sequence[int]] | None = None
    """As in `Layout`, where some pieces are seated already; None: none are."""
    decks: tuple[Deck, ...] | None = None
    """By node: the cards that pods share, where some of their gangs are stopped; None: as in the
    layout."""

    def rooms(self, node: int) -> tuple[Share, ...]:
        """What is left of each card of the node that pods share; of some nothing may be."""
        return (self.layout.decks if self.decks is None else self.decks)[node].cards

    def sharers(self, node: int) -> list[tuple[int, int, Share]]:
        """(gang, card, share) of what may be stopped on the cards that pods share."""
        if not self.layout.decks[node].cards:
            return []
        there = (gang for gang, _ in self.gangs_on[node])
        held = self.layout.held
        return [
            (gang, card, share) for gang in there for at, card, share in held[gang] if at == node
        ]

    def cleared_rooms(self, node: int) -> tuple[Share, ...]:
        """The same as `rooms` with every gang stopped."""
        rooms = list(self.rooms(node))
        for _, card, share in self.sharers(node):
            rooms[card] = rooms[card].plus(share)
        return tuple(rooms)

    def emptied(self, node: int) -> set[int]:
        """Cards that are whole once every gang is stopped, and are not before."""
        rooms = zip(self.rooms(node), self.cleared_rooms(node), strict=True)
        return {
            n for n, (now, then) in enumerate(rooms) if now.milli < then.milli == WHOLE_GPU_MILLI
        }

    def room(self, node: int) -> Piece:
        """What is free before any stop."""
        return Piece(self.free[node], *self.beside[node])

    def freed(self, node: int) -> list[Piece]:
        """What each gang of the node gives back, in their order."""
        freed = self.layout.freed
        return [Piece(gpus, *freed[gang].get(node, (0, 0))) for gang, gpus in self.gangs_on[node]]

    def cleared(self, node: int) -> Piece:
        """What is free with every gang stopped."""
        amounts = [one.amounts for one in (self.room(node), *self.freed(node))]
        gpus, cpu, memory = zip(*amounts, strict=True)
        return Piece(sum(gpus) + len(self.emptied(node)), sum(cpu), sum(memory))

    def fits(self, node: int, kind: Piece) -> int:
        """How many of the kind the node could hold at most, with every gang stopped."""
        rooms = self.cleared_rooms(node)
        return times(kind, self.cleared(node), rooms, self.layout.decks[node].whole)

    def most(self, node: int, kind: Piece) -> int:
        """How many of the kind the node may take, with every gang stopped."""
        fits = self.fits(node, kind)
        if not kind.keeps:
            return fits
        tickets = self.layout.tickets if self.tickets is None else self.tickets
        return min(fits, tickets[kind.keeps][node])


class Ground(NamedTuple):
    """The nodes of a leaf, by what states them exactly."""

    plain: tuple[int, ...]
    """The nested rows."""
    odd: tuple[int, ...]
    """Their number of free GPUs, and the ways to fill it."""
    bound: tuple[int, ...]
    """Only rows of their own: CPU, memory or tickets may run short, a unit sleeps there, or a gang
    that shares a card may be stopped.
    """


def simple(kinds: Iterable[Piece]) -> bool:
    """Whether the nested rows are exact on every node."""
    return all(kind == (power_of_two(kind.gpus), 0, 0, "", NO_SHARE) for kind in kinds)


def ground(capacity: Capacity, leaf: int, kinds: Sequence[Piece]) -> Ground:
    """The leaf's nodes, given the pieces that may come there."""
    plain, odd, bound = list[int](), list[int](), list[int]()
    nodes, decks = capacity.layout.leaves[leaf], capacity.layout.decks
    sharing = any(kind.share != NO_SHARE for kind in kinds)
    for node in nodes:
        gpus = capacity.free[node] + sum(held for _, held in capacity.gangs_on[node])
        mine = [kind for kind in kinds if kind.gpus <= gpus]
        other = sharing and decks[node].whole != decks[nodes[0]].whole
        if other or _apart(capacity, node, mine) or _may_bind(capacity, node, mine):
            bound.append(node)
        elif all(kind.gpus == power_of_two(kind.gpus) for kind in mine if kind.gpus):
            plain.append(node)
        else:
            odd.append(node)
    return Ground(tuple(plain), tuple(odd), tuple(bound))


def _apart(capacity: Capacity, node: int, kinds: Sequence[Piece]) -> bool:
    """Whether units sleep there, gangs share cards, or tickets allow less than would fit."""
    if (capacity.beds and capacity.beds[node]) or capacity.sharers(node):
        return True
    return any(one.keeps and capacity.most(node, one) < capacity.fits(node, one) for one in kinds)


def times(kind: Piece, room: Piece, cards: Iterable[Share] = (), whole: Share = NO_SHARE) -> int:
    """How many of the kind fit there, at most; those that share cards on `cards` and whole ones."""
    pairs = zip(room.amounts, kind.amounts, strict=True)
    most = [have // asked for have, asked in pairs if asked]
    if kind.share != NO_SHARE:
        there = sum(card.times(kind.share) for card in cards)
        most.append(there + room.gpus * whole.times(kind.share))
    return max(0, min(most))


def _may_bind(capacity: Capacity, node: int, kinds: Sequence[Piece]) -> bool:
    """Whether GPUs may be free, after some stops, that lack CPU or memory for the dearest kind."""
    room, freed = capacity.room(node), capacity.freed(node)
    milli = WHOLE_GPU_MILLI * room.gpus + sum(card.milli for card in capacity.rooms(node))
    for resource in (1, 2):
        asked, per = 0, 1
        for kind in kinds:
            size = kind.gpus * WHOLE_GPU_MILLI or kind.share.milli
            if kind.amounts[resource] * per > asked * size:
                asked, per = kind.amounts[resource], size
        if not asked:
            continue
        each = (one.amounts[resource] * per - asked * WHOLE_GPU_MILLI * one.gpus for one in freed)
        worst = sum(min(0, one) for one in each)
        if room.amounts[resource] * per - asked * milli + worst < 0:
            return True
    return False
