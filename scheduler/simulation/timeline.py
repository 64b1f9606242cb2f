"""Folds the event stream of one run into GPUs over time: who held them, and what it was good for.

Made for pictures: figures of a run come from `score`. One pass; time is cut into equal bins, and
every band is a mean over its bin, or over its begun part. Progress of a batch run is known only
from its lines, so what a run kept is spread evenly over the time in which it held GPUs.
"""

from collections import defaultdict
from math import ceil

import msgspec
import numpy as np
from numpy.typing import NDArray

from scheduler.simulation.events import (
    Event,
    JobLine,
    Load,
    NodeLine,
    RecallLine,
    ReplicaLine,
    ReserveLine,
)

Row = NDArray[np.float64]
Band = tuple[float, ...]

_HOLDING_STATES = ("starting", "ready", "draining")


class Recalled(msgspec.Struct, frozen=True):
    """A recall, at the time its replica was ready."""

    at_seconds: float
    late: bool


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """Mean GPUs per bin, and tokens per second demanded of each model."""

    start_seconds: float
    """Of the first bin; negative before scored time."""
    bin_seconds: float
    ready: Band
    """GPUs of Ready nodes."""
    online_productive: Band
    online_idle: Band
    """Held by online, or kept empty for it, and not serving."""
    batch_kept: Band
    batch_lost: Band
    """Held by batch without lasting progress: restarts, checkpoints, work thrown away."""
    demand_tokens_per_second: dict[str, Band]
    recalls: tuple[Recalled, ...]

    @property
    def utilisation(self) -> Band:
        """Productive share of the Ready GPUs, 0 to 1."""
        bands = zip(self.ready, self.online_productive, self.batch_kept, strict=True)
        return tuple((online + batch) / gpus if gpus else 0.0 for gpus, online, batch in bands)

    @property
    def empty(self) -> Band:
        """GPUs of Ready nodes that nobody held."""
        bands = zip(
            self.ready,
            self.online_productive,
            self.online_idle,
            self.batch_kept,
            self.batch_lost,
            strict=True,
        )
        return tuple(max(0.0, gpus - sum(held)) for gpus, *held in bands)


class _Bins(msgspec.Struct, frozen=True):
    """Equal bins from `start` on."""

    start: float
    width: float
    count: int

    def row(self) -> Row:
        """Return a row of zeros."""
        return np.zeros(self.count)

    def widths(self, until: float) -> Row:
        """Return the width of each bin that has begun; the last may have just begun."""
        passed = max(0.0, until - self.start)
        begun = min(self.count, ceil(passed / self.width))
        return np.asarray(np.minimum(self.width, passed - self.width * np.arange(begun)))

    def spread(self, row: Row, start: float, end: float, amount: float) -> None:
        """Add `amount`, spread evenly over [start, end), to the bins; the rest falls outside."""
        if end <= start or not amount:
            return
        rate = amount / (end - start)
        low, high = max(0.0, start - self.start), min(end - self.start, self.width * self.count)
        for index in range(int(low // self.width), ceil(high / self.width)):
            left, right = index * self.width, (index + 1) * self.width
            row[index] += rate * (min(right, high) - max(left, low))


class _Level:
    """A count that changes now and then, integrated into bins."""

    def __init__(self, bins: _Bins) -> None:
        self._bins = bins
        self._row = bins.row()
        self._value = 0
        self._since = bins.start

    def set(self, value: int, t: float) -> None:
        """Let `value` hold from `t` on."""
        self._bins.spread(self._row, self._since, t, self._value * (t - self._since))
        self._value, self._since = value, max(t, self._since)

    def add(self, change: int, t: float) -> None:
        """Let the value change by `change` from `t` on."""
        self.set(self._value + change, t)

    def until(self, t: float) -> Row:
        """Return the integral up to `t`."""
        row = self._row.copy()
        self._bins.spread(row, self._since, t, self._value * (t - self._since))
        return row


class _Run(msgspec.Struct):
    """One stay of a job on GPUs: spans of (start, end, GPUs), and what holds since the last."""

    kept_before: float
    since: float
    gpus: int
    spans: list[tuple[float, float, int]] = msgspec.field(default_factory=list)


class TimelineFold:
    """Takes the events of one run in order; says its timeline so far at any time."""

    def __init__(
        self, *, step_seconds: float, start_seconds: float, end_seconds: float, bin_seconds: float
    ) -> None:
        """Cut [start, end) into bins; `step_seconds` is the width of `load` lines."""
        self._step = step_seconds
        count = max(1, ceil((end_seconds - start_seconds) / bin_seconds))
        self._bins = _Bins(start_seconds, bin_seconds, count)
        self._nodes: dict[str, int] = {}
        self._replicas: dict[str, int] = {}
        self._replica_gpus: dict[tuple[str, str], int] = {}
        self._runs: dict[str, _Run] = {}
        self._kept: dict[str, float] = {}
        self._ready = _Level(self._bins)
        self._online = _Level(self._bins)
        self._reserved = _Level(self._bins)
        self._productive = self._bins.row()
        self._batch_kept = self._bins.row()
        self._batch_held = self._bins.row()
        self._demand: dict[str, Row] = defaultdict(self._bins.row)
        self._recalls: list[Recalled] = []

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Load():
                self._take_load(event)
            case ReplicaLine():
                self._take_replica(event)
            case JobLine():
                self._take_job(event)
            case NodeLine():
                gpus = event.gpus if event.ready else 0
                self._ready.add(gpus - self._nodes.get(event.id, 0), event.t)
                self._nodes[event.id] = gpus
            case ReserveLine():
                self._reserved.set(len(event.gpus), event.t)
            case RecallLine():
                late = event.ready_t - event.need_t > event.promised_p99_seconds
                self._recalls.append(Recalled(event.ready_t, late))
            case _:
                pass

    def timeline(self, until_seconds: float) -> Timeline:
        """Return the bins that have begun by `until_seconds`."""
        widths = self._bins.widths(until_seconds)
        kept, held = self._batch(until_seconds)
        online = self._online.until(until_seconds) + self._reserved.until(until_seconds)

        def band(row: Row) -> Band:
            # A difference of equal sums may fall short of 0 by rounding.
            return tuple(float(value) for value in np.maximum(row[: len(widths)] / widths, 0.0))

        return Timeline(
            start_seconds=self._bins.start,
            bin_seconds=self._bins.width,
            ready=band(self._ready.until(until_seconds)),
            online_productive=band(self._productive),
            online_idle=band(online - self._productive),
            batch_kept=band(kept),
            batch_lost=band(held - kept),
            demand_tokens_per_second={
                model: band(row) for model, row in sorted(self._demand.items())
            },
            recalls=tuple(self._recalls),
        )

    def _take_load(self, event: Load) -> None:
        until = event.t + self._step
        self._bins.spread(self._demand[event.model], event.t, until, event.arrived)
        could = event.capacity * self._step
        if could > 0:
            gpus = event.ready * self._replica_gpus.get((event.model, event.role), 0)
            busy = gpus * min(1.0, event.served / could) * self._step
            self._bins.spread(self._productive, event.t, until, busy)

    def _take_replica(self, event: ReplicaLine) -> None:
        gpus = len(event.gpus) if event.state in _HOLDING_STATES else 0
        if gpus:
            self._replica_gpus[event.model, event.role] = gpus
        self._online.add(gpus - self._replicas.get(event.id, 0), event.t)
        self._replicas[event.id] = gpus
        if event.state == "gone":
            del self._replicas[event.id]

    def _take_job(self, event: JobLine) -> None:
        gpus = 0 if event.state == "done" else len(event.gpus)
        run = self._runs.get(event.id)
        before = self._kept.get(event.id, 0.0)
        self._kept[event.id] = event.kept_gpu_seconds
        if run is None:
            if gpus:
                self._runs[event.id] = _Run(before, event.t, gpus)
            return
        run.spans.append((run.since, event.t, run.gpus))
        run.gpus, run.since = gpus, event.t
        if not gpus:
            del self._runs[event.id]
            kept = event.kept_gpu_seconds - run.kept_before
            self._spread_run(self._batch_kept, self._batch_held, run.spans, kept)
        if event.state == "done":
            del self._kept[event.id]

    def _batch(self, until_seconds: float) -> tuple[Row, Row]:
        """Return GPU-seconds kept and held; of a run that goes on, the present is hoped kept."""
        kept, held = self._batch_kept.copy(), self._batch_held.copy()
        for job, run in self._runs.items():
            self._spread_run(kept, held, run.spans, self._kept[job] - run.kept_before)
            present = [(run.since, until_seconds, run.gpus)]
            self._spread_run(kept, held, present, (until_seconds - run.since) * run.gpus)
        return kept, held

    def _spread_run(
        self, kept_row: Row, held_row: Row, spans: list[tuple[float, float, int]], kept: float
    ) -> None:
        held = sum((end - start) * gpus for start, end, gpus in spans)
        share = min(max(0.0, kept / held), 1.0) if held > 0 else 0.0
        for start, end, gpus in spans:
            amount = (end - start) * gpus
            self._bins.spread(held_row, start, end, amount)
            self._bins.spread(kept_row, start, end, amount * share)
