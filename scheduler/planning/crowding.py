"""Anti-affinity floors between plans: where a pod of a role that must spread may not go.

A pod with a slot goes where the plan put it, which kept to the floor; any other counts where its
role stands, newer binds included.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from binpacking.problem import Domain, Level, domain
from scheduler.planning.index import Index
from scheduler.planning.standing import Bind, Floor, Place, PodAsk


class Crowded(msgspec.Struct, frozen=True):
    """Failure domains of a level that hold their part of a role."""

    level: Level
    domains: frozenset[Domain]

    def holds(self, place: Place) -> bool:
        """Whether the node is in one of them."""
        return domain(place.name, place.leaf, self.level) in self.domains


def crowded_for(index: Index, newer: Sequence[Bind], ask: PodAsk) -> Crowded | None:
    """Return where the pod's role may take no more; None where it need not spread."""
    floor = index.floors.get(ask.owner)
    if floor is None:
        return None
    binds = {one.uid: one for one in floor.bound}
    binds |= {one.uid: one for one in newer if one.owner == ask.owner}
    binds.pop(ask.uid, None)
    counts = Counter(where for where, _ in _counted(index, floor, binds.values(), ask))
    return Crowded(
        floor.level, frozenset(where for where, count in counts.items() if count >= floor.most)
    )


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
