"""Which weights of foresight suit a cluster: each is tried on streams drawn from the mix.

Foresight serves more pods, but on some clusters (CPU far scarcer than GPUs, say) that costs
GPUs. So weights are not believed but rehearsed: every candidate admits the same streams, drawn by
the caller from the shapes to be expected, beside plain FGD; the one with the most GPUs allocated
over all levels of arrival wins, if at no level it falls behind FGD by more than `_TOLERATED`.
"""

from collections.abc import Iterable, Sequence

import msgspec

from binpacking.admission import Admission
from binpacking.cards import Fleet, PodShape
from binpacking.foresight import Foresight, Weights
from binpacking.fragmentation import Mixture
from binpacking.scarcity import Population
from binpacking.windows import Windows

LEVELS_PERCENT = tuple(range(50, 131, 10))
"""Arrived GPUs in percent of the cluster's, at which allocation is compared."""
CANDIDATES = (
    Weights(),
    Weights(balance=2.0),
    Weights(balance=0.0, slots=0.0),
    Weights(together=False),
)
"""The last differs from the first in windows only."""
_TOLERATED = 0.001
"""Of the cluster's GPUs; behind FGD by more, at any level, and a candidate is out."""


class Knowledge(msgspec.Struct, frozen=True):
    """What an admission may know beforehand: the mix of shapes, never their order."""

    mixture: Mixture
    population: Population


def windows(fleet: Fleet, whole: Fleet, known: Knowledge, weights: Weights | None) -> Windows:
    """Admission by plain FGD where no weights are given, else by foresight with them."""
    if weights is None:
        return Windows(Admission(fleet, known.mixture), whole, known.population, together=False)
    single = Foresight(fleet, whole, known.mixture, known.population, weights)
    return Windows(single, whole, known.population, together=weights.together)


def rehearse(
    whole: Fleet,
    known: Knowledge,
    streams: Sequence[Sequence[PodShape]],
    window: int = 1,
    candidates: Iterable[Weights] = CANDIDATES,
) -> Weights | None:
    """The best candidate on these streams, the earlier on ties; None: plain FGD is better."""
    capacity = int(whole.free_milli().sum())

    def allocated(weights: Weights | None) -> tuple[float, ...]:
        """Mean allocated part of the cluster's GPUs at each level."""
        runs = [
            _levels(windows(whole.copy(), whole, known, weights), stream, window, capacity)
            for stream in streams
        ]
        return tuple(sum(level) / len(runs) for level in zip(*runs, strict=True))

    plain = allocated(None)
    best, most = None, sum(plain)
    for weights in candidates:
        if window == 1 and not weights.together:
            continue
        levels = allocated(weights)
        behind = max(ours - theirs for ours, theirs in zip(plain, levels, strict=True))
        if behind <= _TOLERATED and sum(levels) > most:
            best, most = weights, sum(levels)
    return best


def _levels(policy: Windows, stream: Sequence[PodShape], window: int, capacity: int) -> list[float]:
    """Allocated part of the cluster's GPUs at each level, pods counted in order of arrival."""
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
