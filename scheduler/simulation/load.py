"""Physics as signals: what engines would report that serve a generated demand on a real cluster.

`ports.Signals` of a demonstration whose pods run no engine. The observer says how many replicas
are ready; the fluid queues of `serving` run up to now with them, and what they report is what the
planner sees. Counts hold from one look to the next. A replica that is no longer ready drains for
as long as its pod takes to end, then it is gone. For one thread.
"""

from collections.abc import Sequence
from math import floor

import msgspec

from forecasting import Sample
from scheduler.planning.snapshot import CapacitySignal, RoleSignal
from scheduler.ports import Ready
from scheduler.simulation.demand import Demand
from scheduler.simulation.events import Sink
from scheduler.simulation.replica import Workload
from scheduler.simulation.reporting import step_lines
from scheduler.simulation.serving import Fleet, Key
from scheduler.simulation.signals import Signals
from scheduler.simulation.worldfile import World

_SLACK = 1e-6


class LoadSignals:
    """The demand of one run, from `begins_seconds` of the cluster's time line on."""

    problem = ""

    def __init__(
        self,
        world: World,
        demand: Demand,
        workloads: tuple[Workload, ...],
        *,
        begins_seconds: float,
        drain_seconds: float,
        seed: int,
        sink: Sink,
    ) -> None:
        """`sink` gets Load and Slo lines, in the demand's own time."""
        self._demand = demand
        self._shift = begins_seconds - demand.start_seconds
        self._drain_seconds = drain_seconds
        self._sink = sink
        self._fleet = Fleet(world, demand)
        self._keys = frozenset(self._fleet.keys)
        noise = world.observation.capacity_noise_sd
        self._signals = Signals(workloads, world.step_seconds, noise, seed)
        self._ready: dict[Key, int] = {}
        self._leaving: dict[Key, list[float]] = {}
        """When those end that drain, oldest first."""
        self._index = 0
        self._sampled_seconds = demand.start_seconds

    def history(self, now_seconds: float) -> Sequence[Sample]:
        """Return the demand known before the run."""
        models = self._demand.models
        return [self._moved(one) for model in models for one in self._demand.history(model)]

    def samples(self, now_seconds: float) -> Sequence[Sample]:
        """Return the bins that closed since the last call."""
        since, now = self._sampled_seconds, now_seconds - self._shift
        self._sampled_seconds = max(since, now)
        return [self._moved(one) for one in self._demand.bins_between(since, now)]

    def roles(self, now_seconds: float, ready: Ready) -> tuple[RoleSignal, ...]:
        """Return the last minute of each role."""
        self._pass_time(now_seconds, ready)
        return self._signals.roles(_live)

    def capacities(self, now_seconds: float, ready: Ready) -> tuple[CapacitySignal, ...]:
        """Return the measured capacity of the pools that have ready replicas."""
        self._pass_time(now_seconds, ready)
        return self._signals.capacities(_live, now_seconds - self._shift)

    # ---- physics ---------------------------------------------------------------------------

    def _pass_time(self, now_seconds: float, ready: Ready) -> None:
        """Run all steps that ended by now, then let the new counts hold."""
        demand, now = self._demand, now_seconds - self._shift
        due = floor((now - demand.start_seconds) / demand.step_seconds + _SLACK)
        while self._index < min(due, demand.steps):
            self._step()
        self._hold(ready, now)

    def _step(self) -> None:
        at = self._demand.time(self._index)
        draining = {
            key: sum(1 for ends in leaving if ends > at) for key, leaving in self._leaving.items()
        }
        report = self._fleet.step(self._index, self._ready, draining, {})
        self._index += 1
        self._signals.take(report)
        ended = self._index == self._demand.steps
        for line in step_lines(at, report, self._fleet.flush() if ended else {}):
            self._sink(line)

    def _hold(self, ready: Ready, now: float) -> None:
        counts = {(*_split(role), gpu_model): count for (role, gpu_model), count in ready.items()}
        counts = {key: count for key, count in counts.items() if key in self._keys}
        for key, before in self._ready.items():
            gone = before - counts.get(key, 0)
            if gone > 0:
                ends = [now + self._drain_seconds] * gone
                left = [one for one in self._leaving.get(key, ()) if one > now]
                self._leaving[key] = left + ends
        self._ready = counts

    def _moved(self, sample: Sample) -> Sample:
        return msgspec.structs.replace(sample, start_seconds=sample.start_seconds + self._shift)


def _live(_role: str) -> str:
    return "live"


def _split(role: str) -> tuple[str, str]:
    model, _, name = role.partition("/")
    return model, name
