"""How long replicas took from being bound to Ready, measured on those that are ready now.

For the snapshot: a loan states how soon its GPUs would serve again, by the slowest role's P99.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from scheduler.adapters.cluster.podfacts import PodFacts
from scheduler.planning.snapshot import StartSignal

LONGEST_SECONDS = 3600.0
"""Longer is no start: the engine was restarted in place and became Ready again."""


def start_seconds(pods: Iterable[PodFacts]) -> float | None:
    """Return the time from the last pod's bind to the last pod's first Ready; None if unknown."""
    bound: list[float] = []
    ready: list[float] = []
    for pod in pods:
        if pod.bound_seconds is None or pod.first_ready_seconds is None:
            return None
        bound.append(pod.bound_seconds)
        ready.append(pod.first_ready_seconds)
    took = max(ready) - max(bound)
    return took if 0.0 <= took <= LONGEST_SECONDS else None


def start_signals(measured: Iterable[tuple[str, Sequence[float]]]) -> tuple[StartSignal, ...]:
    """Return a signal per role with at least one measured start, in order of key."""
    signals = []
    for role, seconds in sorted(measured, key=lambda one: one[0]):
        if not seconds:
            continue
        p50, p99 = np.quantile(seconds, (0.5, 0.99))
        signals.append(
            StartSignal(
                role=role,
                tier="weights",
                p50_seconds=float(p50),
                p99_seconds=float(p99),
                samples=len(seconds),
            )
        )
    return tuple(signals)
