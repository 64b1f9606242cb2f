"""Rows of `rows` that bind where replicas go: apart by an anti-affinity floor, or beside others.

`online` and `split` as there: columns of replicas in a leaf, and over leaves of a spine pod.
"""

from collections.abc import Mapping
from itertools import permutations

from binpacking.layout import Layout
from binpacking.linear import FREE, Draft, Term
from binpacking.pools import columns_in
from binpacking.spread import Fence

Columns = Mapping[tuple[int, int], int]


def fenced(
    draft: Draft, layout: Layout, floor: tuple[int, Fence], online: Columns, split: Columns
) -> None:
    """No failure domain takes more replicas of a request than it may."""
    index, fence = floor
    terms: dict[int, list[Term]] = {}
    for (request, leaf), column in online.items():
        if request == index:
            terms.setdefault(fence.domain_of[leaf], []).append((column, 1))
    for (request, spine), column in split.items():
        if request == index:
            where = fence.domain_of[layout.spines[spine][0]]
            terms.setdefault(where, []).append((column, 1))
    for where, some in sorted(terms.items()):
        if sum(draft.uppers[column] for column, _ in some) > fence.room[where]:
            draft.row(some, -FREE, fence.room[where])


def beside(draft: Draft, layout: Layout, online: Columns, split: Columns) -> None:
    """Where a pool's roles must be near, none goes where another neither stands nor goes."""
    for pool in layout.pools:
        stands = [columns_in(pool, one, online, split, layout.spines) for one in pool.roles]
        for one, other in permutations(range(len(stands)), 2) if pool.required else ():
            for where, terms in stands[one].items():
                if where not in pool.roles[other].there:
                    most = sum(draft.uppers[column] for column, _ in terms)
                    others = ((column, -most) for column, _ in stands[other].get(where, ()))
                    draft.row((*((column, 1) for column, _ in terms), *others), -FREE, 0)
