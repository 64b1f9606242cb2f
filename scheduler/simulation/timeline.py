"""Folds the event stream of one run into GPUs over time: who held them, and what it was good for.

Made for pictures: figures of a run come from `score`. One pass; time is cut into equal bins, and
every band is a mean over its bin. Progress of a batch run is known only from its lines, so what
a run kept is spread evenly over the time in which it held GPUs.
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
    """Mean GPUs per bin of scored time, and tokens per second demanded of each model."""

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


class _Level:
    """A count that changes now and then, integrated into bins."""

    def __init__(self, bins: "_Bins") -> None:
        self._bins = bins
        self.row = bins.row()
        self._value = 0
        self._since = 0.0

    def set(self, value: int, t: float) -> None:
        """Let `value` hold from `t` on."""
        self._bins.spread(self.row, self._since, t, self._value * (t - self._since))
        self._value, self._since = value, max(t, self._since)

    def add(self, change: int, t: float) -> None:
        """Let the value change by `change` from `t` on."""
        self.set(self._value + change, t)


class _Bins(msgspec.Struct, frozen=True):
    """Equal bins over [0, end)."""

    width: float
    count: int

    def row(self) -> Row:
        """Return a row of zeros."""
        return np.zeros(self.count)

    def spread(self, row: Row, start: float, end: float, amount: float) -> None:
        """Add `amount`, spread evenly over [start, end), to the bins; the rest falls outside."""
        if end <= start or not amount:
            return
        rate = amount / (end - start)
        low, high = max(0.0, start), min(end, self.width * self.count)
        for index in range(int(low // self.width), ceil(high / self.width)):
            left, right = index * self.width, (index + 1) * self.width
            row[index] += rate * (min(right, high) - max(left, low))


class _Run(msgspec.Struct):
    """One stay of a job on GPUs."""

    kept_before: float
    spans: list[tuple[float, float, int]] = msgspec.field(default_factory=list)
    gpus: int = 0
    since: float = 0.0


class TimelineFold:
    """Takes the events of one run in order, then says its timeline."""

    def __init__(self, step_seconds: float, end_seconds: float, bin_seconds: float) -> None:
        """Cut [0, end) into bins; `step_seconds` is the width of `load` lines."""
        self._step = step_seconds
        self._end = end_seconds
        self._bins = _Bins(bin_seconds, max(1, ceil(end_seconds / bin_seconds)))
        self._nodes: dict[str, int] = {}
        self._replicas: dict[str, int] = {}
        self._replica_gpus: dict[tuple[str, str], int] = {}
        self._runs: dict[str, _Run] = {}
        self._ready = _Level(self._bins)
        self._online = _Level(self._bins)
        self._reserved = _Level(self._bins)
        self._productive = self._bins.row()
        self._batch_kept = self._bins.row()
        self._batch_held = self._bins.row()
        self._kept: dict[str, float] = {}
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
            case RecallLine() if event.t >= 0:
                late = event.ready_t - event.need_t > event.promised_p99_seconds
                self._recalls.append(Recalled(event.ready_t, late))
            case _:
                pass

    def timeline(self) -> Timeline:
        """Return the whole of [0, end)."""
        for level in (self._ready, self._online, self._reserved):
            level.add(0, self._end)
        for job, run in sorted(self._runs.items()):
            self._close(run, self._end, self._kept[job])
        self._runs.clear()
        width = self._bins.width
        held = (self._online.row + self._reserved.row) / width
        productive = self._productive / width
        return Timeline(
            bin_seconds=width,
            ready=_band(self._ready.row / width),
            online_productive=_band(productive),
            online_idle=_band(held - productive),
            batch_kept=_band(self._batch_kept / width),
            batch_lost=_band((self._batch_held - self._batch_kept) / width),
            demand_tokens_per_second={
                model: _band(row / width) for model, row in sorted(self._demand.items())
            },
            recalls=tuple(self._recalls),
        )

    def _take_load(self, event: Load) -> None:
        step = self._step
        self._bins.spread(self._demand[event.model], event.t, event.t + step, event.arrived)
        could = event.capacity * step
        if could > 0:
            gpus = event.ready * self._replica_gpus.get((event.model, event.role), 0)
            busy = gpus * min(1.0, event.served / could) * step
            self._bins.spread(self._productive, event.t, event.t + step, busy)

    def _take_replica(self, event: ReplicaLine) -> None:
        gpus = len(event.gpus) if event.state in _HOLDING_STATES else 0
        if gpus:
            self._replica_gpus[event.model, event.role] = gpus
        self._online.add(gpus - self._replicas.get(event.id, 0), event.t)
        self._replicas[event.id] = gpus
        if event.state == "gone":
            del self._replicas[event.id]

    def _take_job(self, event: JobLine) -> None:
        run = self._runs.get(event.id)
        if run is None and event.gpus:
            run = self._runs[event.id] = _Run(self._kept.get(event.id, 0.0))
            run.since = event.t
        self._kept[event.id] = event.kept_gpu_seconds
        if run is None:
            return
        if run.gpus:
            run.spans.append((run.since, event.t, run.gpus))
        run.gpus, run.since = len(event.gpus), event.t
        if not event.gpus or event.state == "done":
            run.gpus = 0
            del self._runs[event.id]
            self._close(run, event.t, event.kept_gpu_seconds)

    def _close(self, run: _Run, t: float, kept_gpu_seconds: float) -> None:
        spans = [*run.spans, (run.since, t, run.gpus)]
        held = sum((end - start) * gpus for start, end, gpus in spans)
        kept = min(max(0.0, kept_gpu_seconds - run.kept_before), held)
        for start, end, gpus in spans:
            amount = (end - start) * gpus
            self._bins.spread(self._batch_held, start, end, amount)
            self._bins.spread(self._batch_kept, start, end, amount * kept / held if held else 0.0)


def _band(row: Row) -> Band:
    """Return the row as floats; sums of shares may fall short of 0 by rounding."""
    return tuple(float(value) for value in np.maximum(row, 0.0))
