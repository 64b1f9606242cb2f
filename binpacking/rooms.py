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
from binpacking.layout import Layout
from binpacking.problem import Piece
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
        return Piece(sum(gpus), sum(cpu), sum(memory))

    def most(self, node: int, kind: Piece) -> int:
        """How many of the kind the node may take, with every gang stopped."""
        fits = times(kind, self.cleared(node))
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
    """Only rows of their own: CPU, memory or tickets may run short, or a unit sleeps there."""


def simple(kinds: Iterable[Piece]) -> bool:
    """Whether the nested rows are exact on every node."""
    return all(kind == (power_of_two(kind.gpus), 0, 0, "") for kind in kinds)


def ground(capacity: Capacity, leaf: int, kinds: Sequence[Piece]) -> Ground:
    """The leaf's nodes, given the pieces that may come there."""
    found: tuple[list[int], list[int], list[int]] = ([], [], [])
    for node in capacity.layout.leaves[leaf]:
        gpus = capacity.free[node] + sum(held for _, held in capacity.gangs_on[node])
        mine = [kind for kind in kinds if kind.gpus <= gpus]
        asleep = bool(capacity.beds and capacity.beds[node])
        alone = any(one.keeps and capacity.most(node, one) < gpus // one.gpus for one in mine)
        if asleep or alone or _may_bind(capacity.room(node), capacity.freed(node), mine):
            found[2].append(node)
        elif all(kind.gpus == power_of_two(kind.gpus) for kind in mine):
            found[0].append(node)
        else:
            found[1].append(node)
    plain, odd, bound = found
    return Ground(tuple(plain), tuple(odd), tuple(bound))


def times(kind: Piece, room: Piece) -> int:
    """How many of the kind fit there."""
    pairs = zip(room.amounts, kind.amounts, strict=True)
    return max(0, min(have // asked for have, asked in pairs if asked))


def _may_bind(room: Piece, freed: Sequence[Piece], kinds: Sequence[Piece]) -> bool:
    """Whether GPUs may be free, after some stops, that lack CPU or memory for the dearest kind."""
    for resource in (1, 2):
        asked, per = 0, 1
        for kind in kinds:
            if kind.amounts[resource] * per > asked * kind.gpus:
                asked, per = kind.amounts[resource], kind.gpus
        worst = sum(min(0, one.amounts[resource] * per - asked * one.gpus) for one in freed)
        if asked and room.amounts[resource] * per - asked * room.gpus + worst < 0:
            return True
    return False
