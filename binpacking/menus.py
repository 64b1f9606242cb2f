"""Which gangs of one node may be stopped together, and the slots that each choice gains.

Stopping the set A on a node with f free GPUs gains floor((f + g_A) / k) - floor(f / k) k-slots for
every size k at once, so one 0-1 column per useful set states a node exactly, and its relaxation is
the convex hull of what the node can do. A set is of no use where another costs no more, gains no
less in every size and spares every stop limit: among gangs of equal size the cheaper goes first.
Gangs that hold GPUs of several nodes are not compared: stopping one is one choice for all of them.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, combinations, product
from typing import NamedTuple

MOST_SETS = 512
"""Above this many sets to look at, a node is stated by `gain` columns instead (see `rows`)."""


class Option(NamedTuple):
    """One set of gangs to stop on a node."""

    gangs: tuple[int, ...]
    gains: tuple[int, ...]
    """k-slots gained, by size in the order given."""


class Stoppable(NamedTuple):
    """A gang as its node sees it."""

    gang: int
    gpus: int
    cost: int
    limits: tuple[int, ...]
    """Stop limits that count it."""
    shared: bool
    """Whether it holds something else besides: GPUs of other nodes, shares of cards."""
    beside: tuple[int, int] = (0, 0)
    """CPU and memory that it gives back, where they may run short: as two more sizes."""


def menu(
    free: int,
    gangs: Sequence[Stoppable],
    sizes: Sequence[int],
    beds: Sequence[frozenset[int]] = (),
) -> tuple[Option, ...] | None:
    """The useful sets but the empty one; None where there are too many to look at.

    `gangs` in order of cost. `beds`: sets of gangs that are of use when stopped together, because
    a standby unit sleeps under them; such a use counts as one more size.
    """
    alone = _classes([one for one in gangs if not one.shared], beds)
    shared = [one for one in gangs if one.shared]
    count = 1 << len(shared)
    for members in alone:
        count *= len(members) + 1
    if count > MOST_SETS:
        return None
    found: list[Option] = []
    for some in chain.from_iterable(combinations(shared, n) for n in range(len(shared) + 1)):
        found += _useful(free, (some, alone), sizes, beds)
    return tuple(found)


def _classes(gangs: Sequence[Stoppable], beds: Sequence[frozenset[int]]) -> list[list[Stoppable]]:
    """Gangs that differ by cost only, the cheapest first."""
    classes: dict[tuple[object, ...], list[Stoppable]] = {}
    for one in gangs:
        kind = (one.gpus, one.beside, one.limits, tuple(one.gang in bed for bed in beds))
        classes.setdefault(kind, []).append(one)
    return list(classes.values())


def _useful(
    free: int,
    gangs: tuple[tuple[Stoppable, ...], Sequence[Sequence[Stoppable]]],
    sizes: Sequence[int],
    beds: Sequence[frozenset[int]],
) -> list[Option]:
    """The undominated sets that stop just these shared gangs."""
    shared, classes = gangs
    tried = [
        _tried(free, (*shared, *_cheapest(classes, counts)), sizes, beds)
        for counts in product(*(range(len(members) + 1) for members in classes))
    ]
    tried.sort(key=lambda one: (one.cost, len(one.gangs), one.gains))
    kept: list[_Tried] = []
    for one in tried:
        if not any(_covers(other, one) for other in kept):
            kept.append(one)
    return [Option(one.gangs, one.gains[: len(sizes)]) for one in kept if one.gangs]


class _Tried(NamedTuple):
    """A set of gangs, and what decides whether it is of use."""

    cost: int
    gangs: tuple[int, ...]
    gains: tuple[int, ...]
    """Slots by size, then CPU, memory, and each of the beds."""
    limits: tuple[int, ...]


def _cheapest(classes: Sequence[Sequence[Stoppable]], counts: Sequence[int]) -> Iterator[Stoppable]:
    """So many of each class."""
    for members, count in zip(classes, counts, strict=True):
        yield from members[:count]


def _tried(
    free: int, stops: Sequence[Stoppable], sizes: Sequence[int], beds: Sequence[frozenset[int]]
) -> _Tried:
    room, keys = free + sum(one.gpus for one in stops), tuple(one.gang for one in stops)
    gains = (
        *(room // size - free // size for size in sizes),
        *(sum(one.beside[n] for one in stops) for n in (0, 1)),
        *(int(bed.issubset(keys)) for bed in beds),
    )
    limits = tuple(limit for one in stops for limit in one.limits)
    return _Tried(sum(one.cost for one in stops), keys, gains, limits)


def _covers(other: _Tried, one: _Tried) -> bool:
    """Return whether the other, which costs no more, gains no less and spares every limit."""
    if any(have < gain for have, gain in zip(other.gains, one.gains, strict=True)):
        return False
    return all(other.limits.count(limit) <= one.limits.count(limit) for limit in set(other.limits))
