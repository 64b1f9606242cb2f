"""Folds the event stream of one run into its figures; the only place where figures are computed.

One pass; per event the work does not grow with the run. Scored time is [0, end). Definitions,
where the stream leaves a choice:

- Batch progress counts by difference: kept at the end less kept at 0 (the last line at or before
  0), summed over jobs. Progress made before 0 and thrown away later counts negative.
- Lost likewise. Online progress of a step is the GPUs of ready replicas of (model, role, GPU
  model) x min(1, served / (capacity x step)) x step.
- A start is counted when the replica gets ready in scored time; its seconds run from the
  replica's creation.
- An eviction is a job that enters `stopped`. A move is a job that runs again on other GPUs than
  it last held. A scale change is a (model, role, t) at which replicas are created or retired.
- A recall is late when `ready_t - need_t` exceeds what the loan promised.
"""

from collections import defaultdict

import msgspec
import numpy as np

from scheduler.simulation.events import (
    Event,
    JobLine,
    Load,
    LoanLine,
    NodeLine,
    PlanLine,
    RecallLine,
    ReplicaLine,
    ReserveLine,
    Slo,
    ViolationLine,
)

_HOUR = 3600.0
_HOLDING_STATES = ("starting", "ready", "draining")

PoolKey = tuple[str, str, str]
"""Model, role, GPU model."""


class Starts(msgspec.Struct, frozen=True):
    """Time to ready of the replicas of one tier; None where there were none."""

    count: int
    p50_seconds: float | None
    p99_seconds: float | None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The record of one run; GPU-hours unless the name says otherwise."""

    productive_utilisation: float
    allocated_utilisation: float
    slo_attainment: float
    slo_attainment_worst_model: float
    gpu_hours: float
    """Of all Ready nodes."""
    online_productive_gpu_hours: float
    batch_productive_gpu_hours: float
    wasted_gpu_hours: float
    online_gpu_hours: float
    standby_host_gib_hours: float
    batch_gpu_hours_lendable: float
    batch_gpu_hours_lent: float
    batch_gpu_hours_lost: float
    loans: int
    recalls: int
    late_recalls: int
    starts: dict[str, Starts]
    """Tier -> its starts; `all` is every tier together."""
    moves: int
    evictions: int
    scale_changes: int
    plans: int
    actions: int
    tokens_demanded: float
    tokens_served: float
    """By ready replicas."""
    tokens_served_draining: float
    tokens_refused: float
    violations: int

    def record(self) -> dict[str, float | int | None]:
        """Return one figure a field, the starts spread out."""
        flat: dict[str, float | int | None] = {
            name: value for name, value in msgspec.structs.asdict(self).items() if name != "starts"
        }
        for tier, starts in self.starts.items():
            suffix = "" if tier == "all" else f"_{tier}"
            flat[f"starts{suffix}"] = starts.count
            flat[f"start_seconds_p50{suffix}"] = starts.p50_seconds
            flat[f"start_seconds_p99{suffix}"] = starts.p99_seconds
        return flat


class _Replica(msgspec.Struct):
    key: PoolKey
    tier: str
    created: float
    gpus: int = 0
    state: str = ""


class _Job(msgspec.Struct):
    gpus: int = 0
    state: str = ""
    kept: float = 0.0
    lost: float = 0.0
    last_held: tuple[str, ...] = ()


class Score:
    """Takes the events of one run in order, then says its figures.

    `step_seconds` is the width of `load` and `slo` lines, `end_seconds` the end of scored time.
    """

    def __init__(self, step_seconds: float, end_seconds: float) -> None:
        self._step = step_seconds
        self._end = end_seconds
        self._t = 0.0
        self._nodes: dict[str, int] = {}
        self._replicas: dict[str, _Replica] = {}
        self._jobs: dict[str, _Job] = {}
        self._ready_gpus: dict[PoolKey, int] = defaultdict(int)
        self._gpus = {"node": 0, "online": 0, "batch": 0, "reserve": 0}
        self._gpu_seconds = dict.fromkeys(self._gpus, 0.0)
        self._online_productive = self._kept = self._lost = 0.0
        self._demanded = self._served = self._served_draining = self._refused = 0.0
        self._due: dict[str, float] = defaultdict(float)
        self._met: dict[str, float] = defaultdict(float)
        self._starts: dict[str, list[float]] = defaultdict(list)
        self._counts: dict[str, int] = defaultdict(int)
        self._scaled_at: dict[tuple[str, str], float] = {}

    def __call__(self, event: Event) -> None:
        """Take one event."""
        self._pass_time(event.t)
        match event:
            case Load():
                self._take_load(event)
            case Slo():
                self._take_slo(event)
            case JobLine():
                self._take_job(event)
            case ReplicaLine():
                self._take_replica(event)
            case NodeLine():
                gpus = event.gpus if event.ready else 0
                self._gpus["node"] += gpus - self._nodes.get(event.id, 0)
                self._nodes[event.id] = gpus
            case ReserveLine():
                self._gpus["reserve"] = len(event.gpus)
            case _:
                self._take_decision(event)

    def figures(self) -> Figures:
        """Return the figures of [0, end)."""
        self._pass_time(self._end)
        hours = {name: seconds / _HOUR for name, seconds in self._gpu_seconds.items()}
        online_productive, batch_productive = self._online_productive / _HOUR, self._kept / _HOUR
        online = hours["online"] + hours["reserve"]
        productive = online_productive + batch_productive
        everything = [seconds for tier in sorted(self._starts) for seconds in self._starts[tier]]
        return Figures(
            productive_utilisation=_share(productive, hours["node"]),
            allocated_utilisation=_share(hours["online"] + hours["batch"], hours["node"]),
            slo_attainment=_share(sum(self._met.values()), sum(self._due.values()), empty=1.0),
            slo_attainment_worst_model=min(
                (_share(self._met[name], due, empty=1.0) for name, due in self._due.items()),
                default=1.0,
            ),
            gpu_hours=hours["node"],
            online_productive_gpu_hours=online_productive,
            batch_productive_gpu_hours=batch_productive,
            wasted_gpu_hours=hours["node"] - productive,
            online_gpu_hours=online,
            # No replica of this world sleeps; the field stands for those that let one.
            standby_host_gib_hours=0.0,
            batch_gpu_hours_lendable=hours["node"] - online,
            batch_gpu_hours_lent=hours["batch"],
            batch_gpu_hours_lost=self._lost / _HOUR,
            loans=self._counts["loans"],
            recalls=self._counts["recalls"],
            late_recalls=self._counts["late_recalls"],
            starts={
                "all": _starts(everything),
                **{tier: _starts(self._starts[tier]) for tier in sorted(self._starts)},
            },
            moves=self._counts["moves"],
            evictions=self._counts["evictions"],
            scale_changes=self._counts["scale_changes"],
            plans=self._counts["plans"],
            actions=self._counts["actions"],
            tokens_demanded=self._demanded,
            tokens_served=self._served,
            tokens_served_draining=self._served_draining,
            tokens_refused=self._refused,
            violations=self._counts["violations"],
        )

    def _pass_time(self, t: float) -> None:
        until = min(t, self._end)
        if until > self._t:
            for name, gpus in self._gpus.items():
                self._gpu_seconds[name] += gpus * (until - self._t)
            self._t = until

    def _count(self, name: str, t: float, by: int = 1) -> None:
        if 0 <= t <= self._end:
            self._counts[name] += by

    def _take_decision(self, event: LoanLine | RecallLine | PlanLine | ViolationLine) -> None:
        match event:
            case LoanLine():
                self._count("loans", event.t)
            case RecallLine():
                late = event.ready_t - event.need_t > event.promised_p99_seconds
                self._count("recalls", event.t)
                self._count("late_recalls", event.t, late)
            case PlanLine():
                self._count("plans", event.t)
                self._count("actions", event.t, event.actions)
            case ViolationLine():
                # One before the scored time says as much about the run as one inside it.
                self._counts["violations"] += 1

    def _take_load(self, event: Load) -> None:
        if not 0 <= event.t < self._end:
            return
        self._demanded += event.arrived
        self._served += event.served
        self._served_draining += event.served_draining
        self._refused += event.refused
        could = event.capacity * self._step
        if could > 0:
            gpus = self._ready_gpus[event.model, event.role, event.gpu_model]
            self._online_productive += gpus * min(1.0, event.served / could) * self._step

    def _take_slo(self, event: Slo) -> None:
        if 0 <= event.t < self._end:
            self._due[event.model] += event.tokens_due
            self._met[event.model] += event.tokens_met

    def _take_job(self, event: JobLine) -> None:
        job = self._jobs.setdefault(event.id, _Job())
        if event.t > 0:
            self._kept += event.kept_gpu_seconds - job.kept
            self._lost += event.lost_gpu_seconds - job.lost
        if event.state == "stopped" != job.state:
            self._count("evictions", event.t)
        resumed = event.gpus and not job.gpus and job.last_held
        if resumed and set(event.gpus) != set(job.last_held):
            self._count("moves", event.t)
        self._gpus["batch"] += len(event.gpus) - job.gpus
        job.gpus, job.state = len(event.gpus), event.state
        job.kept, job.lost = event.kept_gpu_seconds, event.lost_gpu_seconds
        job.last_held = event.gpus or job.last_held
        if event.state == "done":
            del self._jobs[event.id]

    def _take_replica(self, event: ReplicaLine) -> None:
        key = (event.model, event.role, event.gpu_model)
        replica = self._replicas.get(event.id)
        if replica is None:
            replica = self._replicas[event.id] = _Replica(key, event.tier, event.t)
            self._scaled(event)
        elif _retired(event, replica):
            self._scaled(event)
        if replica.state == "ready":
            self._ready_gpus[replica.key] -= replica.gpus
        elif event.state == "ready" and 0 <= event.t <= self._end:
            self._starts[event.tier].append(event.t - replica.created)
        gpus = len(event.gpus) if event.state in _HOLDING_STATES else 0
        self._gpus["online"] += gpus - replica.gpus
        replica.key, replica.gpus, replica.state = key, gpus, event.state
        if event.state == "ready":
            self._ready_gpus[key] += gpus
        elif event.state == "gone":
            del self._replicas[event.id]

    def _scaled(self, event: ReplicaLine) -> None:
        key = (event.model, event.role)
        if self._scaled_at.get(key) != event.t:
            self._scaled_at[key] = event.t
            self._count("scale_changes", event.t)


def _retired(event: ReplicaLine, before: _Replica) -> bool:
    """True when it begins to drain, or is taken back before it was bound."""
    if event.state == "draining":
        return before.state != "draining"
    return event.state == "gone" and before.gpus == 0


def _share(part: float, whole: float, *, empty: float = 0.0) -> float:
    return part / whole if whole > 0 else empty


def _starts(seconds: list[float]) -> Starts:
    if not seconds:
        return Starts(0, None, None)
    p50, p99 = np.quantile(seconds, (0.5, 0.99))
    return Starts(len(seconds), float(p50), float(p99))
