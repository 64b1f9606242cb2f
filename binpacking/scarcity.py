"""What room is worth: the chance that pods still to come will need it and find none.

Shapes differ in the hosts on which they can run at all: a GPU model, all cards of one host, more
CPU or memory than most hosts have. For each such set of hosts, the pods to come that can go
nowhere else are weighed against the room left (Hall's condition). The price of room is the chance
that they ask for more than there is, a normal approximation of Poisson arrivals: the bid price of
revenue management (Talluri and van Ryzin 1998), and the newsvendor's fractile. Two kinds of room:

- cards: idle GPUs of the set, against all GPUs that its pods will ask;
- slots of k whole cards on one host, against pods of k cards and, q/k each, of q > k cards: the
  nested capacity of `binpacking.slots`.

How many are to come follows from what is idle: pods keep their proportions until GPUs or CPU are
used up, and a little beyond. So the prices rise and fall with the fleet, and need no clock.
"""

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np

from binpacking.cards import Bools, Fleet, Ints, PodShape
from binpacking.chances import Floats, exceeds
from binpacking.inventory import WHOLE_GPU_MILLI

Population = tuple[tuple[PodShape, int], ...]
"""Shapes with how often each occurs; only proportions count."""

_USABLE = 0.96
"""The part of idle GPUs that pods come to use; what FGD leaves on the openb trace."""
_CONTINUITY = 0.25
"""Variance added so that an expectation near 0 still has a width; half a pod either way."""


class _Row(msgspec.Struct, frozen=True):
    """One set of hosts: the GPUs or slots that its pods ask, per GPU that all pods ask."""

    kinds: frozenset[int]
    mean: float
    variance: float


class Scarcity:
    """Prices of cards per kind of host, and of slots per size and set of hosts."""

    def __init__(self, fleet: Fleet, whole: Fleet, population: Population, horizon: float) -> None:
        """`whole` is the fleet with nothing on it: it tells what could run where."""
        self._fleet = fleet
        self._horizon = horizon
        self._kind, count = _kinds_of(whole)
        fits = _fit_sets(whole, self._kind, population)
        asked = sum(shape.gpu_milli * count for shape, count in population)
        gpus = max(asked, 1) / WHOLE_GPU_MILLI  # nothing is divided where nobody asks
        self._cpu_per_gpu = sum(shape.cpu_milli * count for shape, count in population) / gpus
        self._cards = tuple(_card_rows(fits, frozenset(range(count)), gpus))
        self._members = np.array(
            [[kind in row.kinds for kind in range(count)] for row in self._cards], dtype=np.float64
        ).reshape(-1, count)
        self._slots_of(fits, gpus)
        idle = fleet.free_milli() / WHOLE_GPU_MILLI
        self._idle: Floats = np.zeros(count)
        np.add.at(self._idle, self._kind, idle)
        self._held = self._slots(np.arange(len(fleet.names)), 0, None)
        self._supply = self._held.sum(axis=0)
        self.reprice()

    def _slots_of(self, fits: dict[PodShape, tuple[frozenset[int], int]], gpus: float) -> None:
        """State the rows of slots, and per row how its shapes share in it."""
        large = [(shape, *found) for shape, found in fits.items() if shape.cards > 1]
        keys = sorted({(shape.cards, tuple(sorted(kinds))) for shape, kinds, _ in large})
        self._sizes = np.array([size for size, _ in keys], dtype=np.float64)
        rows = [_slot_row(size, frozenset(kinds), large, gpus) for size, kinds in keys]
        self._slot_means = np.array([row.mean for row in rows], dtype=np.float64)
        self._slot_variances = np.array([row.variance for row in rows], dtype=np.float64)
        self._inside: Bools = np.array(
            [[kind in row.kinds for kind in self._kind.tolist()] for row in rows], dtype=np.bool_
        ).T.reshape(len(self._kind), -1)
        asks = sorted({(shape.cards, shape.cpu_milli, shape.memory_mib) for shape, _, _ in large})
        place = {ask: index for index, ask in enumerate(asks)}
        self._asks = np.array(asks, dtype=np.int64).reshape(-1, 3)
        shares = np.zeros((len(asks), len(keys)))
        for shape, kinds, count in large:
            row = keys.index((shape.cards, tuple(sorted(kinds))))
            shares[place[shape.cards, shape.cpu_milli, shape.memory_mib], row] += count
        self._shares: Floats = shares / np.maximum(shares.sum(axis=0), 1)

    @property
    def rows(self) -> int:
        """How many rows of slots there are."""
        return len(self._sizes)

    def reprice(self) -> None:
        """Set `card_price` (per host) and `slot_price` (per row) for the fleet as it is now."""
        to_come = self._gpus_to_come()
        means = np.array([row.mean for row in self._cards]) * to_come
        widths = np.sqrt(np.array([row.variance for row in self._cards]) * to_come + _CONTINUITY)
        chance = exceeds((self._members @ self._idle * _USABLE - means) / widths)
        by_kind = (self._members * chance[:, None]).max(axis=0, initial=0.0)
        self.card_price: Floats = by_kind[self._kind]
        widths = np.sqrt(self._slot_variances * to_come + _CONTINUITY)
        lacking = exceeds((self._supply - 0.5 - self._slot_means * to_come) / widths)
        self.slot_price: Floats = self._sizes * lacking

    def _gpus_to_come(self) -> float:
        """GPUs that pods will ask until GPUs or CPU are used up, times the horizon."""
        idle = float(self._idle.sum())
        if self._cpu_per_gpu:
            idle = min(idle, float(self._fleet.cpu.sum()) / self._cpu_per_gpu)
        return idle * self._horizon

    def refresh(self, row: int, taken_milli: int) -> None:
        """Take in that the host of this row gave this much; prices stay until `reprice`."""
        self._idle[self._kind[row]] -= taken_milli / WHOLE_GPU_MILLI
        held = self._slots(np.array([row]), 0, None)[0]
        self._supply += held - self._held[row]
        self._held[row] = held

    def slots_lost(self, shape: PodShape, rows: Ints, opened: int) -> Floats:
        """Per candidate and row of slots: how many go once the pod opens so many whole cards."""
        return self._held[rows] - self._slots(rows, opened, shape)

    def _slots(self, rows: Ints, opened: int, shape: PodShape | None) -> Floats:
        """Slots that the hosts of these rows hold, a mean over each row's shapes."""
        fleet = self._fleet
        whole = (fleet.cards[rows] == WHOLE_GPU_MILLI).sum(axis=1) - opened
        cpu = fleet.cpu[rows] - (shape.cpu_milli if shape else 0)
        memory = fleet.memory[rows] - (shape.memory_mib if shape else 0)
        left = np.stack((whole, cpu, memory), axis=1)
        counts = (left[:, None, :] // np.maximum(self._asks, 1)).min(axis=2)
        held: Floats = (np.maximum(counts, 0) @ self._shares) * self._inside[rows]
        return held


def _kinds_of(whole: Fleet) -> tuple[Ints, int]:
    """Number the kinds of hosts, alike in model, cards, CPU and memory; per host its kind."""
    sizes = (whole.cards >= 0).sum(axis=1).tolist()
    keys = list(zip(whole.models, sizes, whole.cpu.tolist(), whole.memory.tolist(), strict=True))
    numbers = {key: number for number, key in enumerate(sorted(set(keys)))}
    return np.array([numbers[key] for key in keys], dtype=np.int64), len(numbers)


def _fit_sets(
    whole: Fleet, kind: Ints, population: Population
) -> dict[PodShape, tuple[frozenset[int], int]]:
    """Per shape with GPU: the kinds of hosts on which it can run, and its count."""
    every = np.arange(len(whole.names))
    fits: dict[PodShape, tuple[frozenset[int], int]] = {}
    for shape, count in population:
        if not shape.cards:
            continue
        rows = whole.allows(shape) & whole.fits(shape, every)
        kinds = frozenset(np.unique(kind[rows]).tolist())
        if kinds:
            fits[shape] = (kinds, count)
    return fits


def _card_rows(
    fits: dict[PodShape, tuple[frozenset[int], int]], every: frozenset[int], gpus: float
) -> Iterator[_Row]:
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


def _slot_row(
    size: int,
    kinds: frozenset[int],
    large: Iterable[tuple[PodShape, frozenset[int], int]],
    gpus: float,
) -> _Row:
    bound = [
        (shape.cards / size, count)
        for shape, allowed, count in large
        if shape.cards >= size and allowed <= kinds
    ]
    return _summed(kinds, bound, gpus)


def _summed(kinds: frozenset[int], bound: Iterable[tuple[float, int]], gpus: float) -> _Row:
    """Mean and variance of a compound Poisson count per GPU asked by all pods."""
    found = list(bound)
    mean = sum(amount * count for amount, count in found) / gpus
    return _Row(kinds, mean, sum(amount * amount * count for amount, count in found) / gpus)
