"""The virtual cluster: nodes, controllers, kube-scheduler, physics and faults on one clock.

Satisfies the ports Observer, Actuator and Clock. Time moves in whole steps. At the start of a
step, what was applied takes effect: faults strike, controllers make and remove pods, pods are
bound. Physics then runs over the step with the counts that hold in it, and at its end all that
came due inside is passed through. So `observe` shows the state at `now_seconds`, and what is
applied then acts from the next step on.

Chance comes from streams by purpose, each seeded by (seed, purpose, ...): no draw depends on how
many draws another part made. The same inputs give the same bytes of events.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from forecasting import Sample
from scheduler.planning.actions import Action
from scheduler.planning.snapshot import Reservation, Snapshot
from scheduler.ports import Outcome, WorldEndedError
from scheduler.simulation.actuation import Actuation, Fence
from scheduler.simulation.clusterfile import ClusterSpec
from scheduler.simulation.demand import Demand
from scheduler.simulation.devices import Inventory, NodeState, Pod
from scheduler.simulation.events import NodeLine, PlanLine, Sink, ViolationLine
from scheduler.simulation.faults import Change, Fault, Faults
from scheduler.simulation.jobcontrol import BatchJob, Jobs
from scheduler.simulation.jobs import JobSource
from scheduler.simulation.pods import KubeScheduler, Placer
from scheduler.simulation.recalls import Recalls
from scheduler.simulation.replica import Workload
from scheduler.simulation.replicas import Replicas
from scheduler.simulation.reporting import step_lines
from scheduler.simulation.reservations import Reservations, bound_pods
from scheduler.simulation.serving import Fleet, StepReport
from scheduler.simulation.signals import Signals
from scheduler.simulation.worldfile import World

JOB_STREAM = 1
FAULT_STREAM = 2
_SLACK = 1e-9

Check = Callable[[Snapshot], tuple[str, ...]]


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is made of; `faults` must be in `demand` already where they shift it."""

    cluster: ClusterSpec
    world: World
    demand: Demand
    workloads: tuple[Workload, ...]
    faults: tuple[Fault, ...] = ()
    seed: int = 0


def stream(seed: int, purpose: int) -> np.random.Generator:
    """Return the generator of one purpose."""
    return np.random.default_rng([seed, purpose])


def workloads(
    world: World, models: Sequence[str], gpu_models: Sequence[str]
) -> tuple[Workload, ...]:
    """Return prefill and decode of each model on the GPU models that its engine runs on."""
    return tuple(
        Workload(
            model=model,
            role=role,
            gpus_per_pod=world.engine(model).gpus_per_pod,
            pods_per_replica=world.engine(model).pods_per_replica,
            gpu_models=tuple(one for one in gpu_models if one in world.engine(model).speeds),
        )
        for model in sorted(models)
        for role in ("prefill", "decode")
    )


class VirtualCluster:
    """One run. `placer` gives the extender's verdicts, `sink` takes the events."""

    def __init__(
        self,
        setting: Setting,
        jobs: JobSource,
        placer: Placer,
        sink: Sink,
        check_invariants: Check | None = None,
    ) -> None:
        """Begin at the start of the demand, with no pod bound."""
        world, seed = setting.world, setting.seed
        self._setting = setting
        self._sink = sink
        self._check = check_invariants
        self._index = 0
        self.now_seconds = setting.demand.start_seconds
        self._inventory = Inventory(setting.cluster)
        self._scheduler = KubeScheduler(self._inventory, placer)
        self._replicas = Replicas(setting.workloads, world.starts, seed, self._scheduler, sink)
        self._jobs = Jobs(jobs, world.batch, self._scheduler, sink)
        self._recalls = Recalls(sink)
        self._reservations = Reservations(self._inventory, self._replicas.roles, sink)
        self._actuation = Actuation(self._replicas, self._jobs, self._recalls)
        self._fence = Fence()
        self._fleet = Fleet(world, setting.demand)
        self._signals = Signals(
            setting.workloads, world.step_seconds, world.observation.capacity_noise_sd, seed
        )
        self._faults = Faults(setting.faults, setting.cluster, stream(seed, FAULT_STREAM))
        self._sampled_seconds = self.now_seconds
        self._plan_seconds = 0.0
        for node in self._inventory.nodes.values():
            self._say_node(node)
        self._arrive()

    @property
    def end_seconds(self) -> float:
        """End of the run and of scored time."""
        return self._setting.demand.end_seconds

    @property
    def ended(self) -> bool:
        """True when every step of the demand was run."""
        return self._index >= self._setting.demand.steps

    # ---- Clock ---------------------------------------------------------------------------

    def advance(self, until_seconds: float) -> None:
        """Run whole steps until it is `until_seconds` or later, or the demand ends."""
        while self.now_seconds < until_seconds - _SLACK and not self.ended:
            self._step()

    def wait_until(self, seconds: float) -> None:
        """Advance to `seconds`; raise `WorldEndedError` where the demand ends before."""
        self.advance(seconds)
        if self.now_seconds < seconds - _SLACK:
            raise WorldEndedError

    def charge_planning(self, effort: str) -> None:
        """Let the time of a plan pass; a part of a step counts as a whole one."""
        costs = self._setting.world.plan_seconds
        self._plan_seconds = costs.full if effort == "full" else costs.quick
        self.advance(self.now_seconds + self._plan_seconds)

    # ---- Observer ------------------------------------------------------------------------

    def observe(self) -> Snapshot:
        """Return the state now; parts that did not change are the same objects as before."""
        now = self.now_seconds
        jobs = self._visible_jobs()
        return Snapshot(
            now_seconds=now,
            epoch=self._fence.epoch,
            nodes=self._inventory.seen(),
            roles=tuple([role.view() for role in self._replicas.roles.values()]),
            replicas=tuple([replica.view() for replica in self._replicas.all.values()]),
            jobs=tuple([job.view(now) for job in jobs]),
            loans=tuple([job.loan for job in jobs if job.loan is not None]),
            reservations=self._reservations.view(),
            signals=self._signals.roles(self._health),
            capacities=self._signals.capacities(self._health, now),
            starts=self._signals.starts(self._replicas.started, self._replicas.starts_count),
        )

    def history(self) -> tuple[Sample, ...]:
        """Return the demand known before the run, model by model."""
        demand = self._setting.demand
        return tuple(sample for model in demand.models for sample in demand.history(model))

    def samples(self) -> tuple[Sample, ...]:
        """Return the demand bins that closed since the last call."""
        since, self._sampled_seconds = self._sampled_seconds, self.now_seconds
        bins = self._setting.demand.bins_between(since, self.now_seconds)
        return tuple(self._as_scraped(one) for one in bins)

    # ---- Actuator ------------------------------------------------------------------------

    def reserve(self, reservations: tuple[Reservation, ...], epoch: int) -> None:
        """Hold these reservations alone, unless the epoch has a successor."""
        if not self._fence.admits(epoch) or self.ended:
            return
        owned = [
            (replica.role.workload.key, pod)
            for replica in self._replicas.all.values()
            for pod in replica.pods
        ]
        owned += [(job.spec.id, pod) for job in self._jobs.all.values() for pod in job.pods]
        self._reservations.replace(reservations, bound_pods(owned))
        self._scheduler.wake()

    def apply(self, actions: tuple[Action, ...], epoch: int) -> tuple[Outcome, ...]:
        """Apply in order; the controllers follow at once, pods are bound in the next step."""
        if not self._fence.admits(epoch):
            detail = f"epoch {epoch} is fenced off by {self._fence.epoch}"
            return tuple(Outcome(action, applied=False, detail=detail) for action in actions)
        if self.ended:
            detail = "the run has ended"
            return tuple(Outcome(action, applied=False, detail=detail) for action in actions)
        outcomes = tuple(self._actuation.apply(action, self.now_seconds) for action in actions)
        self._replicas.reconcile(self.now_seconds)
        return outcomes

    def planned(self, source: str, actions: int, violations: tuple[str, ...] = ()) -> None:
        """Say in the event stream that a plan was made, what it cost, and what it broke."""
        self._sink(PlanLine(self.now_seconds, source, actions, self._plan_seconds))
        self._report_violations("plan", violations)

    # ---- one step ------------------------------------------------------------------------

    def _step(self) -> None:
        self._bind()
        self._reservations.pass_time(self.now_seconds)
        replicas = self._replicas
        report = self._fleet.step(
            self._index, replicas.ready, replicas.draining, replicas.take_lost()
        )
        self._index += 1
        self._account(report)
        self.now_seconds = self._setting.demand.time(self._index)
        self._pass_time(report)
        self._arrive()
        if abs(self.now_seconds) < _SLACK or self.ended:
            self._census()
        if self._check is not None:
            self._report_violations("world", self._check(self.observe()))

    def _bind(self) -> None:
        now = self.now_seconds
        for pod in self._scheduler.cycle(now):
            if pod.holder in self._replicas.all:
                self._replicas.bound(pod, now)
                self._reservations.fill(self._replicas.all[pod.holder].role.workload.key, pod)
            else:
                self._jobs.bound(pod, now)
                self._reservations.fill(pod.holder, pod)

    def _account(self, report: StepReport) -> None:
        """Emit what physics says of the step that began at `now_seconds`."""
        now, sink = self.now_seconds, self._sink
        for line in step_lines(now, report, self._fleet.flush() if self.ended else {}):
            sink(line)
        self._signals.take(report)
        waiting = self._recalls.roles
        if waiting:
            step = self._setting.world.step_seconds
            self._recalls.need(_short(report, waiting, step), (now, now + step))

    def _pass_time(self, report: StepReport) -> None:
        """Pass through all that came due inside the step."""
        now = self.now_seconds
        for pool, flow in report.flows.items():
            if flow.drained:
                self._replicas.drained(pool, flow.drained, now)
        for replica in self._replicas.advance(now):
            self._recalls.ready(replica, now)
        self._jobs.advance(now)
        self._recalls.pass_time(now)

    def _arrive(self) -> None:
        """Faults strike, controllers make up for what is gone, jobs are submitted."""
        now = self.now_seconds
        for change in self._faults.due(now):
            self._strike(change)
        self._replicas.reconcile(now)
        self._jobs.submit(now)

    def _strike(self, change: Change) -> None:
        node = self._inventory.nodes[change.node]
        match change.what:
            case "lost" | "back":
                node.set_cordoned(cordoned=False)
                node.set_ready(ready=change.what == "back")
                self._say_node(node)
                for pod in list(node.pods):
                    self._lose(pod)
            case "cordoned":
                node.set_cordoned(cordoned=True)
            case "sick" | "well":
                node.set_healthy(change.index, healthy=change.what == "well")

    def _lose(self, pod: Pod) -> None:
        if pod.node is None:
            return
        if pod.holder in self._replicas.all:
            self._replicas.tear_away(pod.holder, self.now_seconds)
        else:
            self._jobs.lose(pod, self.now_seconds)

    # ---- what is seen --------------------------------------------------------------------

    def _visible_jobs(self) -> list[BatchJob]:
        """Return all jobs that run, and the first of those that wait."""
        room = self._setting.world.batch.backlog
        seen = []
        for job in self._jobs.all.values():
            if job.spec.id in self._jobs.waiting:
                room -= 1
                if room < 0:
                    continue
            seen.append(job)
        return seen

    def _health(self, role: str) -> str:
        return self._faults.health(role, self.now_seconds)

    def _as_scraped(self, sample: Sample) -> Sample:
        model = sample.key.partition("/")[0]
        until = sample.start_seconds + sample.width_seconds
        if sample.valid and self._faults.blind(model, sample.start_seconds, until):
            return msgspec.structs.replace(sample, valid=False)
        return sample

    def _say_node(self, node: NodeState) -> None:
        self._sink(NodeLine(self.now_seconds, node.name, node.spec.gpus, node.ready))

    def _census(self) -> None:
        """Say the state of everything, so that totals can be subtracted."""
        now = self.now_seconds
        if self.ended:
            self._recalls.finish(now)
        for node in self._inventory.nodes.values():
            self._say_node(node)
        for replica in self._replicas.all.values():
            self._sink(replica.line(now))
        for job in self._jobs.all.values():
            self._sink(job.line(now))

    def _report_violations(self, invariant: str, violations: tuple[str, ...]) -> None:
        for text in violations:
            self._sink(ViolationLine(self.now_seconds, invariant, text))


def _short(report: StepReport, roles: frozenset[str], step_seconds: float) -> list[str]:
    """Return which of `roles` had more to do in the step than its ready replicas can serve."""
    short = []
    for key in sorted(roles):
        arrived = waiting = could = 0.0
        for (model, role, _), flow in report.flows.items():
            if f"{model}/{role}" == key:
                arrived += flow.arrived
                waiting += flow.waiting
                could += flow.capacity * step_seconds
        if max(arrived, waiting) > could:
            short.append(key)
    return short
