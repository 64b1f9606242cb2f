"""Columns and rows for standby units in the packing program.

One 0-1 column per bed says whether its unit wakes. It needs a choice of stops that clears the bed
(see `menus`), shares no GPU with another bed that wakes, and is one of the pods of its kind in the
leaf. The pod is a load of the leaf like any other; but it is pinned to its node, where q GPUs less
leave floor((F - q) / k) k-slots of F free ones: one slot short for each size k above q where
F mod k < q. That shortage is the difference between counting and placing: with it the nested rows
hold exactly when the pods that wake nobody fit beside those that are pinned (see `rows`).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from binpacking.beds import Bed
from binpacking.linear import FREE, Draft, Term
from binpacking.slots import power_of_two

Wake = tuple[int, Bed]
"""A column, and the bed that it uses."""

Slot = tuple[int, Term]
"""(size, term): so many slots of this size are taken."""


class Choice(NamedTuple):
    """Gangs that one 0-1 column stops together on a node."""

    column: int
    gains: tuple[int, ...]
    """Slots gained by size."""
    gangs: frozenset[int]
    gpus: int
    """Free GPUs on the node then."""


class Site(NamedTuple):
    """A node with beds: their columns, and what may be stopped there, at most one choice."""

    free: int
    wakes: Sequence[Wake]
    choices: Sequence[Choice]


def tie(draft: Draft, site: Site, sizes: Sequence[int]) -> Iterator[Slot]:
    """State when the site's beds can be used; what their use takes of the leaf's slots."""
    groups = _cliques(site.wakes)
    alike = [group for group in groups if len({bed.gangs for _, bed in group}) == 1]
    covered = {wake for group in alike for wake, _ in group}
    groups += [[one] for one in site.wakes if one[1].gangs and one[0] not in covered]
    for group in groups:
        _one_at_most(draft, group, site.choices)
    for size in sizes:
        light = [(wake, bed) for wake, bed in site.wakes if power_of_two(bed.gpus) < size]
        if len(light) == 1:
            yield from _one_short(draft, site, light[0], size)
        elif light:
            yield from _some_short(draft, site, light, size)


def no_waste(draft: Draft, replicas: Sequence[Term], least: int) -> None:
    """No replica is without need: what the others serve is below `least`.

    `replicas`: (column, what one serves). Where all serve alike a ceiling does; else the ceiling
    depends on the least that is used. A replica without need might wake a unit.
    """
    gains = sorted({gain for _, gain in replicas})
    for gain in gains[:-1]:
        used = draft.column(1)
        for column, each in replicas:
            if each == gain:
                draft.row(((column, 1), (used, -draft.uppers[column])), -FREE, 0)
        draft.row((*replicas, (used, gains[-1] - gain)), -FREE, least + gains[-1] - 1)


def each_clear(draft: Draft, wakes: Sequence[Wake], stops: Sequence[Choice]) -> None:
    """The same where every gang has a column of its own, and any of them may be stopped."""
    for group in _cliques(wakes):
        draft.row([(wake, 1) for wake, _ in group], -FREE, 1)
    for wake, bed in wakes:
        for stop in stops:
            if stop.gangs <= bed.gangs:
                draft.row([(wake, 1), (stop.column, -1)], -FREE, 0)


def _one_at_most(draft: Draft, group: Sequence[Wake], choices: Sequence[Choice]) -> None:
    """One of these beds is used at most, and none where the stops clear none of them."""
    wakes = [(wake, 1) for wake, _ in group]
    if all(bed.gangs for _, bed in group):
        clearing = [c for c in choices if any(bed.gangs <= c.gangs for _, bed in group)]
        draft.row((*wakes, *((c.column, -1) for c in clearing)), -FREE, 0)
    else:
        draft.row(wakes, -FREE, 1)


def _cliques(wakes: Sequence[Wake]) -> list[list[Wake]]:
    """For every GPU of several beds, those beds; sets within another one left out."""
    every = [
        [one for one in wakes if one[1].devices >> device & 1]
        for device in range(max((bed.devices for _, bed in wakes), default=0).bit_length())
    ]
    sets = sorted({tuple(w for w, _ in some) for some in every if len(some) > 1}, key=len)
    largest = [a for n, a in enumerate(sets) if not any({*a} <= {*b} for b in sets[n + 1 :])]
    by_wake = dict(wakes)
    return [[(wake, by_wake[wake]) for wake in some] for some in sorted(largest)]


def _one_short(draft: Draft, site: Site, one: Wake, size: int) -> Iterator[Slot]:
    """One slot short, unless the choice leaves enough GPUs that are no slot anyway."""
    wake, bed = one
    clearing = [choice for choice in site.choices if bed.gangs <= choice.gangs]
    spare = [choice.gpus % size >= bed.gpus for choice in clearing]
    idle = not bed.gangs and site.free % size >= bed.gpus
    if all(spare) and (idle or bed.gangs):
        return
    if not any(spare) and not idle:
        yield size, (wake, 1)
        return
    short = draft.column(1)
    _at_least_one(draft, site, one, size, short)
    yield size, (short, 1)


def _at_least_one(draft: Draft, site: Site, one: Wake, size: int, short: int) -> None:
    """State short >= wake - the choices that have GPUs to spare for it."""
    wake, bed = one
    terms: list[Term] = [(wake, 1), (short, -1)]
    clearing = [choice for choice in site.choices if bed.gangs <= choice.gangs]
    if not bed.gangs and site.free % size >= bed.gpus:  # so has the choice to stop nobody
        terms += [(c.column, 1) for c in clearing if c.gpus % size < bed.gpus]
        draft.row(terms, -FREE, 1)
    else:
        terms += [(c.column, -1) for c in clearing if c.gpus % size >= bed.gpus]
        draft.row(terms, -FREE, 0)


def _some_short(draft: Draft, site: Site, light: Sequence[Wake], size: int) -> Iterator[Slot]:
    """As many as make size x short >= GPUs of the beds used - what is free and no slot anyway."""
    gpus = sum(bed.gpus for _, bed in light)
    rest = site.free % size
    spare = [(choice.column, choice.gpus % size - rest) for choice in site.choices]
    if gpus <= min([rest, *(rest + more for _, more in spare)]):
        return
    short = draft.column(-(-gpus // size))
    terms = [(wake, bed.gpus) for wake, bed in light]
    terms += [(column, -more) for column, more in spare if more]
    draft.row((*terms, (short, -size)), -FREE, rest)
    for one in light:
        _at_least_one(draft, site, one, size, short)
    yield size, (short, 1)
