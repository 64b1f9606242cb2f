"""Tidal's own admission of single pods, driven without a cluster around it.

The classes are those of the product: `binpacking.scarcity` sets prices as a plan does, once for
so many pods as arrive between two ticks, and `binpacking.foresight` chooses as the extender does.
"""

from collections.abc import Iterable

import numpy as np

from binpacking.cards import Fleet, Host, PodShape, Population
from binpacking.foresight import Foresight, Seat
from binpacking.fragmentation import Mixture
from binpacking.prices import HostKind
from binpacking.scarcity import Scarcity

PODS_A_TICK = 20


def asking_gpus(population: Population) -> Population:
    """The pods that fragmentation is weighed for: to those without GPU all hosts are alike."""
    return tuple((shape, count) for shape, count in population if shape.cards)


class Tidal:
    """Foresight at prices that are set anew at each tick; it knows the mix, never the order."""

    def __init__(self, hosts: Iterable[Host], population: Population) -> None:
        """Start with all hosts free."""
        rows = sorted(hosts, key=lambda host: host.name)
        kinds = [
            HostKind(one.gpu_model, len(one.cards), one.cpu_milli, one.memory_mib) for one in rows
        ]
        known = tuple(sorted(set(kinds)))
        kind_of_row = np.array([known.index(kind) for kind in kinds], dtype=np.int64)
        self.fleet = Fleet(rows)
        self._scarcity = Scarcity(known, kind_of_row, population)
        prices = self._scarcity.prices(self.fleet)
        self._foresight = Foresight(
            self.fleet, kind_of_row, Mixture(asking_gpus(population)), prices
        )
        self._seated = 0

    def choose(self, shape: PodShape) -> Seat | None:
        """The host of most worth; None where no host fits."""
        return self._foresight.choose(shape)

    def take(self, shape: PodShape, seat: Seat) -> None:
        """Let the pod sit there; after enough of them a tick passes."""
        self._foresight.take(shape, seat)
        self._seated += 1
        if self._seated % PODS_A_TICK == 0:
            self._foresight.reprice(self._scarcity.prices(self.fleet))
