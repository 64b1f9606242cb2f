"""What room is worth: the chance that pods still to come will need it and find none.

Shapes differ in the hosts on which they can run at all: a GPU model, all cards of one host, more
CPU or memory than most hosts have. For each such set of hosts, the pods to come that can go
nowhere else are weighed against the room left (Hall's condition). The price of room is the chance
that they ask for more than there is, a normal approximation of Poisson arrivals: the bid price of
revenue management (Talluri and van Ryzin 1998), and the newsvendor's fractile. Two kinds of room:

- cards: idle GPUs of the set, against all GPUs that its pods will ask;
- slots of k whole cards on one host, against pods of k cards and, q/k each, of q > k cards: the
  nested capacity of `binpacking.slots`.

How many are to come follows from what is idle: pods keep their proportions until CPU is used up,
or GPUs and a little beyond. So the prices rise and fall with the fleet, and need no clock.

Pods without GPU, where the mix knows any, take CPU alone. If there is enough for all, they go where
no idle GPU needs it; if not, each idle GPU is expected to lose CPU to them (`balance`).
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec
import numpy as np

from binpacking.balance import balance_of
from binpacking.cards import Fleet, Ints, PodShape, Population
from binpacking.chances import Floats, exceeds
from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.prices import HostKind, Prices, SlotPrice, Slots

_HORIZON = 1.2
"""Pods to come, as a multiple of those that fill what is idle: some of them find no room. Not where
CPU ends first: room that is kept for later ones then falls to pods without GPU."""
_USABLE = 0.96
"""The part of idle GPUs that pods come to use; what FGD leaves on the openb trace."""
_CONTINUITY = 0.25
"""Variance added so that an expectation near 0 still has a width; half a pod either way."""

Fits = dict[PodShape, tuple[frozenset[int], int]]
"""Per shape with GPU the kinds of hosts on which it can run, and its count."""


class _Row(msgspec.Struct, frozen=True):
    """One set of hosts: the GPUs or slots that its pods ask, per GPU that all pods ask."""

    kinds: frozenset[int]
    mean: float
    variance: float


class _Rows(msgspec.Struct, frozen=True):
    """Several sets as arrays."""

    means: Floats
    variances: Floats


class Scarcity:
    """Sets prices for fleets of the same hosts and for one mix, as often as asked."""

    def __init__(
        self, kinds: Sequence[HostKind], kind_of_row: Ints, population: Population
    ) -> None:
        """`kinds` are those of all hosts; `kind_of_row` has a place among them per fleet row."""
        self._kinds = tuple(kinds)
        self._kind = kind_of_row
        fits = _fit_sets(self._kinds, population)
        asked = sum(shape.gpu_milli * count for shape, count in population)
        gpus = max(asked, 1) / WHOLE_GPU_MILLI  # nothing is divided where nobody asks
        self._cpu_per_gpu = sum(shape.cpu_milli * count for shape, count in population) / gpus
        self._balance = balance_of(population if self._cpu_ends_first() else _asking(population))
        cards = tuple(_card_rows(fits, frozenset(range(len(self._kinds))), gpus))
        self._cards = _arrays(cards)
        self._members = np.array(
            [[kind in row.kinds for kind in range(len(self._kinds))] for row in cards],
            dtype=np.float64,
        ).reshape(len(cards), len(self._kinds))
        self._unpriced, self._wanted = _slot_rows(fits, gpus)
        self._sizes = np.array([slot.cards for slot in self._unpriced], dtype=np.int64)
        self._slots = Slots(self._unpriced, kind_of_row)

    def prices(self, fleet: Fleet) -> Prices:
        """Set all prices for the fleet as it is now."""
        idle = np.zeros(len(self._kinds))
        np.add.at(idle, self._kind, fleet.free_milli() / WHOLE_GPU_MILLI)
        to_come = self._gpus_to_come(fleet, float(idle.sum()))
        lacking = _chances(self._cards, self._members @ idle * _USABLE, to_come)
        by_kind = (self._members * lacking[:, None]).max(axis=0, initial=0.0)
        supply = self._slots.held(fleet, np.arange(len(fleet.names))).sum(axis=0)
        by_slot = self._sizes * _chances(self._wanted, supply - 0.5, to_come)
        slots = zip(self._unpriced, _milli(by_slot), strict=True)
        return Prices(
            kinds=self._kinds,
            cards=_milli(by_kind),
            slots=tuple(msgspec.structs.replace(one, milli_gpus=price) for one, price in slots),
            balance=self._balance,
        )

    def _cpu_ends_first(self) -> bool:
        """Whether pods that use all GPUs of empty hosts would ask more CPU than these have."""
        hosts: list[HostKind] = [self._kinds[place] for place in self._kind.tolist()]
        gpus, cpu = sum(kind.cards for kind in hosts), sum(kind.cpu_milli for kind in hosts)
        return self._cpu_per_gpu * gpus > cpu

    def _gpus_to_come(self, fleet: Fleet, idle: float) -> float:
        """GPUs that pods will ask until CPU is used up, or GPUs and the horizon beyond."""
        asked = idle * _HORIZON
        if self._cpu_per_gpu:
            asked = min(asked, float(fleet.cpu.sum()) / self._cpu_per_gpu)
        return asked


def _asking(population: Population) -> Population:
    """The pods with GPU."""
    return tuple((shape, count) for shape, count in population if shape.cards)


def _chances(rows: _Rows, room: Floats, to_come: float) -> Floats:
    """Per row, the chance that more is asked for than there is room."""
    widths = np.sqrt(rows.variances * to_come + _CONTINUITY)
    return exceeds((room - rows.means * to_come) / widths)


def _milli(gpus: Floats) -> tuple[int, ...]:
    return tuple(np.rint(WHOLE_GPU_MILLI * gpus).astype(np.int64).tolist())


def _arrays(rows: Sequence[_Row]) -> _Rows:
    return _Rows(
        np.array([row.mean for row in rows], dtype=np.float64),
        np.array([row.variance for row in rows], dtype=np.float64),
    )


def _fit_sets(kinds: Sequence[HostKind], population: Population) -> Fits:
    fits: Fits = {}
    for shape, count in population:
        able = frozenset(place for place, kind in enumerate(kinds) if _runs(shape, kind))
        if shape.cards and able:
            fits[shape] = (able, count)
    return fits


def _runs(shape: PodShape, kind: HostKind) -> bool:
    """Whether the host could run the pod if nothing else were on it."""
    return (
        kind.cards >= shape.cards
        and kind.cpu_milli >= shape.cpu_milli
        and kind.memory_mib >= shape.memory_mib
        and (not shape.models or kind.gpu_model in shape.models)
    )


def _card_rows(fits: Fits, every: frozenset[int], gpus: float) -> Iterator[_Row]:
    """A row for each set of kinds that some shape is bound to, and for each union of two."""
    alone = {kinds for kinds, _ in fits.values()}
    unions = {one | other for one in alone for other in alone} - {every}
    for kinds in sorted(unions, key=lambda kinds: (len(kinds), sorted(kinds))):
        bound = [
            (shape.gpu_milli / WHOLE_GPU_MILLI, count)
            for shape, (allowed, count) in fits.items()
            if allowed <= kinds
        ]
        yield _summed(kinds, bound, gpus)


def _slot_rows(fits: Fits, gpus: float) -> tuple[tuple[SlotPrice, ...], _Rows]:
    """Each size and set of hosts that some shape is bound to, without a price; what is asked."""
    shapes: dict[tuple[int, tuple[int, ...]], list[tuple[int, int, int]]] = {}
    for shape, (kinds, count) in sorted(fits.items()):
        if shape.cards > 1:
            asks = shapes.setdefault((shape.cards, tuple(sorted(kinds))), [])
            asks.append((shape.cpu_milli, shape.memory_mib, count))
    slots = tuple(
        SlotPrice(cards=cards, kinds=kinds, asks=tuple(asks), milli_gpus=0)
        for (cards, kinds), asks in sorted(shapes.items())
    )
    return slots, _arrays([_slot_row(one.cards, frozenset(one.kinds), fits, gpus) for one in slots])


def _slot_row(size: int, kinds: frozenset[int], fits: Fits, gpus: float) -> _Row:
    bound = [
        (shape.cards / size, count)
        for shape, (allowed, count) in fits.items()
        if shape.cards >= size and allowed <= kinds
    ]
    return _summed(kinds, bound, gpus)


def _summed(kinds: frozenset[int], bound: Iterable[tuple[float, int]], gpus: float) -> _Row:
    """Mean and variance of a compound Poisson count per GPU asked by all pods."""
    found = list(bound)
    mean = sum(amount * count for amount, count in found) / gpus
    return _Row(kinds, mean, sum(amount * amount * count for amount, count in found) / gpus)
