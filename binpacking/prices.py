"""What room is worth to pods still to come: values that travel from a plan to its readers.

`scarcity` sets them, `foresight` weighs a host with them. Prices are in milli-GPU, whole numbers:
what would be lost on the mean if a pod took one GPU, or one slot, that others will need.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from binpacking.balance import Balance
from binpacking.cards import Bools, Fleet, Ints, PodShape
from binpacking.chances import Floats
from binpacking.inventory import WHOLE_GPU_MILLI


class HostKind(msgspec.Struct, frozen=True, order=True):
    """A host with nothing on it: hosts alike in this can run the same pods."""

    gpu_model: str
    cards: int
    cpu_milli: int
    memory_mib: int


class SlotPrice(msgspec.Struct, frozen=True, kw_only=True):
    """Room for one pod of `cards` whole cards on one host of these kinds."""

    cards: int
    kinds: tuple[int, ...]
    """Places in `Prices.kinds`."""
    asks: tuple[tuple[int, int, int], ...]
    """(milli-CPU, MiB, weight) of the pods that need such room."""
    milli_gpus: int


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """Prices for one fleet and one mix of pods to come."""

    kinds: tuple[HostKind, ...] = ()
    cards: tuple[int, ...] = ()
    """Per kind, of one GPU."""
    slots: tuple[SlotPrice, ...] = ()
    balance: Balance = Balance(0.0, 0.0)
    """What the pods to come ask of CPU."""


class Slots:
    """Counts, for the hosts of a fleet, the room that slot prices are about."""

    def __init__(self, prices: Sequence[SlotPrice], kind_of_row: Ints) -> None:
        inside = [np.isin(kind_of_row, one.kinds) for one in prices]
        self._inside: Bools = np.array(inside, dtype=np.bool_).T.reshape(len(kind_of_row), -1)
        asks = [(one.cards, cpu, memory) for one in prices for cpu, memory, _ in one.asks]
        self._asks = np.array(asks, dtype=np.int64).reshape(-1, 3)
        self._shares: Floats = np.zeros((len(asks), len(prices)))
        place = 0
        for row, one in enumerate(prices):
            weights = np.array([weight for *_, weight in one.asks], dtype=np.float64)
            self._shares[place : place + len(weights), row] = weights / max(weights.sum(), 1.0)
            place += len(weights)

    def held(self, fleet: Fleet, rows: Ints) -> Floats:
        """Slots on the hosts of these rows, a column per price: a mean over the pods to come."""
        return self._held(fleet, rows, 0, None)

    def left(self, fleet: Fleet, rows: Ints, shape: PodShape, opened: int) -> Floats:
        """The same once the pod has taken CPU and memory, and opened so many whole cards."""
        return self._held(fleet, rows, opened, shape)

    def _held(self, fleet: Fleet, rows: Ints, opened: int, shape: PodShape | None) -> Floats:
        whole = (fleet.cards[rows] == WHOLE_GPU_MILLI).sum(axis=1) - opened
        cpu = fleet.cpu[rows] - (shape.cpu_milli if shape else 0)
        memory = fleet.memory[rows] - (shape.memory_mib if shape else 0)
        left = np.stack((whole, cpu, memory), axis=1)
        counts = (left[:, None, :] // np.maximum(self._asks, 1)).min(axis=2)
        held: Floats = (np.maximum(counts, 0) @ self._shares) * self._inside[rows]
        return held
