"""Between plans: where a pod of a role that must spread, or stand beside others, may not go.

A pod with a slot goes where the plan put it, which kept to both; for any other it counts where its
role stands, newer binds included, and where the others stood when last observed.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from binpacking.problem import Domain, Level, domain
from scheduler.planning import reasons
from scheduler.planning.index import Index
from scheduler.planning.standing import Beside, Bind, Floor, Place, PodAsk


class Bounds(msgspec.Struct, frozen=True):
    """What bars a role from domains."""

    spread: Level | None
    crowded: frozenset[Domain]
    """Those of the level that hold their part of the role."""
    beside: Beside | None
    """Those where it may go; None: anywhere."""

    def bars(self, place: Place) -> str:
        """Return why the node will not do; empty where it does."""
        spread, beside = self.spread, self.beside
        if spread and domain(place.name, place.leaf, spread) in self.crowded:
            return reasons.crowded(spread)
        if beside and domain(place.name, place.leaf, beside.level) not in beside.domains:
            return reasons.alone(beside.level)
        return ""


def bounds_for(index: Index, newer: Sequence[Bind], ask: PodAsk) -> Bounds | None:
    """Return what bars the pod's role from domains; None where nothing does."""
    floor, beside = index.floors.get(ask.owner), index.beside.get(ask.owner)
    if floor is None:
        return Bounds(None, frozenset(), beside) if beside else None
    return Bounds(floor.level, _crowded(index, floor, newer, ask), beside)


def _crowded(index: Index, floor: Floor, newer: Sequence[Bind], ask: PodAsk) -> frozenset[Domain]:
    binds = {one.uid: one for one in floor.bound}
    binds |= {one.uid: one for one in newer if one.owner == ask.owner}
    binds.pop(ask.uid, None)
    counts = Counter(where for where, _ in _counted(index, floor, binds.values(), ask))
    return frozenset(where for where, count in counts.items() if count >= floor.most)


def _counted(
    index: Index, floor: Floor, binds: Iterable[Bind], ask: PodAsk
) -> set[tuple[Domain, str]]:
    """Return what counts in which domain: each pod on its node, else each other replica."""
    found = set()
    for bind in binds:
        place = index.places.get(bind.node)
        alone = floor.level == "node" or not bind.group
        mine = not alone and bind.group == ask.group
        if place is not None and not mine:
            where = domain(place.name, place.leaf, floor.level)
            found.add((where, bind.uid if alone else bind.group))
    return found
