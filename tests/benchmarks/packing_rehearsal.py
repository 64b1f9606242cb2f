"""Whether a window's pods should be placed in an order of Tidal's, or as they came.

The order fills cards better, but where CPU runs out far before GPUs it can cost some. So it is not
believed but rehearsed, on streams drawn from the mix that are none of those measured.
"""

from collections.abc import Sequence

from binpacking.cards import Host, PodShape, Population
from tests.benchmarks.packing_tidal import Tidal
from tests.benchmarks.packing_windows import Windows

LEVELS_PERCENT = tuple(range(50, 131, 10))
"""Arrived GPUs in percent of the cluster's, at which allocation is compared."""
_TOLERATED = 0.001
"""Of the cluster's GPUs; behind by more, at any level, and pods are placed as they came."""


def order_pays(
    hosts: Sequence[Host],
    population: Population,
    streams: Sequence[Sequence[PodShape]],
    window: int,
) -> bool:
    """Whether pods placed in an order fall behind pods placed as they came at no level."""

    def allocated(*, ordered: bool) -> tuple[float, ...]:
        """Mean allocated part of the cluster's GPUs at each level."""
        runs = [
            _levels(Windows(Tidal(hosts, population), population, ordered=ordered), stream, window)
            for stream in streams
        ]
        return tuple(sum(level) / len(runs) for level in zip(*runs, strict=True))

    pairs = zip(allocated(ordered=True), allocated(ordered=False), strict=True)
    return all(ours >= theirs - _TOLERATED for ours, theirs in pairs)


def _levels(policy: Windows, stream: Sequence[PodShape], window: int) -> list[float]:
    """Allocated part of the cluster's GPUs at each level, pods counted in order of arrival."""
    capacity = policy.capacity_milli
    arrived = placed = 0
    found: list[float] = []
    for start in range(0, len(stream), window):
        pods = stream[start : start + window]
        for shape, seat in zip(pods, policy.admit(pods), strict=True):
            arrived += shape.gpu_milli
            placed += shape.gpu_milli if seat else 0
            while len(found) < len(LEVELS_PERCENT) and (
                100 * arrived >= LEVELS_PERCENT[len(found)] * capacity
            ):
                found.append(placed / capacity)
    return found + [placed / capacity] * (len(LEVELS_PERCENT) - len(found))
