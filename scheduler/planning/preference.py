"""Which of the nodes with room a pod should take between two plans: worth by foresight.

The worth of a node is that of `binpacking.foresight`, for the pods that queue and forecast will
ask and at the plan's prices, so single pods and plans shape the cluster towards the same end.
Nodes that the standing shows as they are get their ranks in one computation for each kind of pod,
when the first such pod comes; nodes with newer binds, or with GPUs kept for others, when they are
first met so. All ranks are remembered: a standing is replaced by the next observation.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache

import msgspec
import numpy as np

from binpacking.cards import Fleet, Host, Ints, PodShape, Population
from binpacking.foresight import INFEASIBLE, Foresight
from binpacking.fragmentation import Mixture
from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.prices import Prices

Rank = tuple[int, int]
"""Worth lost in the steps of `foresight`, and idle milli-GPU; lower is better."""
Taken = tuple[PodShape, ...]
"""What the standing does not show: newer binds on a node, and what is kept for others."""
_MOST_KINDS = 256
"""Kinds of pods whose ranks are remembered."""


class Room(msgspec.Struct, frozen=True):
    """A node as a host of single pods; `kind` is its place in the prices, -1 for none of them."""

    host: Host
    kind: int


class Ranked(msgspec.Struct, frozen=True):
    """The nodes that have room for one kind of pod, as the standing shows them."""

    ranks: dict[str, Rank]
    order: tuple[str, ...]
    """Best first."""
    changed: dict[tuple[str, Taken], Rank | None]
    """Ranks of nodes with something taken; filled as they are met."""


class Preference:
    """Ranks of nodes, lower is better. Same inputs, same ranks, whatever was asked before."""

    def __init__(
        self, rooms: Callable[[], Iterable[Room]], to_come: Population, prices: Prices
    ) -> None:
        """`rooms` is asked when the first rank is."""
        self._given = rooms
        self._to_come = to_come
        self._prices = prices
        self._ranked: dict[PodShape, Ranked] = {}

    @cached_property
    def _rooms(self) -> list[Room]:
        return sorted(self._given(), key=lambda room: room.host.name)

    @cached_property
    def _base(self) -> Foresight:
        fleet = Fleet(room.host for room in self._rooms)
        kinds = np.array([room.kind for room in self._rooms], dtype=np.int64)
        return Foresight(fleet, kinds, Mixture(self._to_come), self._prices)

    @cached_property
    def _row(self) -> dict[str, int]:
        return {room.host.name: row for row, room in enumerate(self._rooms)}

    @property
    def asked(self) -> tuple[PodShape, ...]:
        """Kinds of pods whose ranks are known, the newest last."""
        return tuple(self._ranked)

    def prepare(self, shapes: Iterable[PodShape], taken: Mapping[str, Taken]) -> None:
        """Work ranks out ahead of the answers that need them."""
        for shape in shapes:
            self.ranks(shape, taken)

    def ranked(self, shape: PodShape) -> Ranked:
        """All nodes with room, as the standing shows them."""
        found = self._ranked.get(shape)
        if found is None:
            if len(self._ranked) >= _MOST_KINDS:
                del self._ranked[next(iter(self._ranked))]
            found = self._ranked[shape] = self._rank(shape)
        return found

    def ranks(self, shape: PodShape, taken: Mapping[str, Taken]) -> dict[str, Rank | None]:
        """Ranks of nodes on which something is taken; None where no room is left."""
        known = self.ranked(shape).changed
        missing = [key for key in taken.items() if key[0] in self._row and key not in known]
        if missing:
            known.update(zip(missing, self._ranks_after(shape, missing), strict=True))
        return {key[0]: known.get(key) for key in taken.items()}

    def _rank(self, shape: PodShape) -> Ranked:
        steps, idle = self._base.steps(shape), self._base.idle_milli
        rows = np.flatnonzero(steps > INFEASIBLE)
        rows = rows[np.lexsort((rows, idle[rows], -steps[rows]))]
        names = [self._rooms[row].host.name for row in rows.tolist()]
        pairs = zip((-steps[rows]).tolist(), idle[rows].tolist(), strict=True)
        return Ranked(dict(zip(names, pairs, strict=True)), tuple(names), {})

    def _ranks_after(
        self, shape: PodShape, keys: Sequence[tuple[str, Taken]]
    ) -> Iterator[Rank | None]:
        rows: Ints = np.array([self._row[name] for name, _ in keys], dtype=np.int64)
        fleet = self._base.fleet.pick(rows)
        seated = [
            all(fleet.sit(pod, place) for pod in taken) for place, (_, taken) in enumerate(keys)
        ]
        after = self._base.pick(fleet, rows)
        steps = after.steps(shape)
        fits = (steps > INFEASIBLE) & seated
        ranks = zip((-steps).tolist(), after.idle_milli.tolist(), fits.tolist(), strict=True)
        yield from ((loss, idle) if able else None for loss, idle, able in ranks)


@lru_cache(maxsize=64)
def kept(gpus: int) -> PodShape:
    """GPUs that are kept for others, as something that sits on the node."""
    return PodShape(0, 0, gpus, WHOLE_GPU_MILLI)
