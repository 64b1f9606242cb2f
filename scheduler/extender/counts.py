"""What the extender has answered, counted by verb, and the text in which it is told."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import get_args

import msgspec

from scheduler.planning.index import Mode

VERBS = ("filter", "prioritize", "preempt", "bind")
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Upper bounds of the latency histogram in seconds; the budget of one pod is 0.01."""
MODES: tuple[str, ...] = (*get_args(Mode), "none")


class VerbCounts(msgspec.Struct):
    """Calls of one verb since the start."""

    calls: int = 0
    refused: int = 0
    """Filter and preempt: no node was left. Bind: not made."""
    errors: int = 0
    """Bodies that were not understood, and calls before the first plan."""
    seconds: float = 0.0
    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    def took(self, seconds: float) -> None:
        """Count one call."""
        self.calls += 1
        self.seconds += seconds
        self.buckets[bisect_left(BOUNDS, seconds)] += 1


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/extender`: what is answered from, and what was answered."""

    schema: str = "tidal.extender.status/1"
    mode: str
    """plan, heuristic, open; none before the first plan."""
    epoch: int
    plan_age_seconds: float | None
    observation_age_seconds: float | None
    plan_stale_seconds: float | None
    heuristic_stale_seconds: float | None
    nodes: int
    reservations: int
    tls_error: str
    """Why renewed certificates are not in use; the former ones are."""
    verbs: dict[str, VerbCounts]


def open_metrics(told: Told) -> str:
    """Return the counts as OpenMetrics text."""
    return "\n".join((*_gauges(told), *_counters(told), *_latency(told), "# EOF\n"))


def _gauges(told: Told) -> Iterator[str]:
    yield "# TYPE tidal_extender_mode stateset"
    yield "# HELP tidal_extender_mode How far the plan is believed."
    for mode in MODES:
        yield f'tidal_extender_mode{{tidal_extender_mode="{mode}"}} {int(mode == told.mode)}'
    yield "# TYPE tidal_extender_plan_age_seconds gauge"
    yield "# UNIT tidal_extender_plan_age_seconds seconds"
    yield "# HELP tidal_extender_plan_age_seconds Age of the plan that answers come from."
    if told.plan_age_seconds is not None:
        yield f"tidal_extender_plan_age_seconds {told.plan_age_seconds:.3f}"


def _counters(told: Told) -> Iterator[str]:
    meanings = {
        "calls": "Calls by kube-scheduler.",
        "refused": "Answers that left no node, and binds not made.",
        "errors": "Bodies not understood, and calls before the first plan.",
    }
    for name, meaning in meanings.items():
        yield f"# TYPE tidal_extender_{name} counter"
        yield f"# HELP tidal_extender_{name} {meaning}"
        for verb, counts in told.verbs.items():
            yield f'tidal_extender_{name}_total{{verb="{verb}"}} {getattr(counts, name)}'


def _latency(told: Told) -> Iterator[str]:
    yield "# TYPE tidal_extender_answer_seconds histogram"
    yield "# UNIT tidal_extender_answer_seconds seconds"
    yield "# HELP tidal_extender_answer_seconds From the request's head to its answer."
    name = "tidal_extender_answer_seconds"
    for verb, counts in told.verbs.items():
        ends = (*(str(bound) for bound in BOUNDS), "+Inf")
        for end, below in zip(ends, accumulate(counts.buckets), strict=True):
            yield f'{name}_bucket{{verb="{verb}",le="{end}"}} {below}'
        yield f'{name}_count{{verb="{verb}"}} {counts.calls}'
        yield f'{name}_sum{{verb="{verb}"}} {counts.seconds:.6f}'
