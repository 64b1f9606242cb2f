"""One simulated run: a contender on the virtual cluster, without wall time.

The daemon's own tick drives it; only the ports differ. The extender's verdicts place the pods,
in this process. A run is a function of `Setup`, contender and seed, so runs may be spread over
processes and come out the same.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from scheduler.daemon.forecast import SeriesForecaster
from scheduler.daemon.tick import Shell, first, next_tick_seconds, tick
from scheduler.planning.actions import Plan
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import Snapshot
from scheduler.planning.standing import PodAsk, standing_of
from scheduler.ports import Tick, WorldEndedError
from scheduler.simulation.bound import SLOT_SECONDS, totals
from scheduler.simulation.capacity import ROLES, tokens_per_second
from scheduler.simulation.cluster import JOB_STREAM, Setting, VirtualCluster, stream, workloads
from scheduler.simulation.clusterfile import ClusterSpec
from scheduler.simulation.contenders import Contender
from scheduler.simulation.demand import Demand, build
from scheduler.simulation.demandfile import Trace
from scheduler.simulation.events import Sink, tee
from scheduler.simulation.faults import Fault, shifted
from scheduler.simulation.jobs import DrawnJobs, JobSource, JobSpec, ListedJobs
from scheduler.simulation.score import Figures, Score
from scheduler.simulation.startpolicy import mean_lengths, start_policy
from scheduler.simulation.worldfile import World
from scheduler.view import View


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """Everything but contender and seed."""

    world: World
    cluster: ClusterSpec
    traces: dict[str, Trace]
    history_seconds: float
    days: float | None
    peak_share: float
    demand_shares: dict[str, float]
    jobs: tuple[JobSpec, ...] | None
    """None: an unlimited backlog, drawn by seed."""
    faults: tuple[Fault, ...] = ()
    policy: Policy | None = None
    """None: the start policy of the seed."""

    def demand(self, seed: int) -> Demand:
        """Return the demand of a run with this seed, faults applied."""
        made = build(
            self.world,
            self.traces,
            history_seconds=self.history_seconds,
            days=self.days,
            total_gpus_by_model=self.gpus_by_model,
            peak_share=self.peak_share,
            demand_shares=self.demand_shares,
            seed=seed,
        )
        return shifted(made, self.faults)

    def setting(self, seed: int) -> Setting:
        """Return what the virtual cluster of a run with this seed is made of."""
        demand = self.demand(seed)
        return Setting(
            cluster=self.cluster,
            world=self.world,
            demand=demand,
            workloads=workloads(self.world, tuple(demand.models), tuple(self.gpus_by_model)),
            faults=self.faults,
            seed=seed,
        )

    def check(self) -> None:
        """Raise ValueError, naming the option, where no run could be made of this."""
        self.demand(0)
        policy = self.policy_for(0)
        for model in self.traces:
            for role in ROLES:
                if policy.role(f"{model}/{role}") is None:
                    raise ValueError(
                        f"--policy: models.{model}.roles.{role} is missing, and {model} has demand"
                    )

    def policy_for(self, seed: int) -> Policy:
        """Return the policy given, or the start policy of the seed."""
        if self.policy is not None:
            return self.policy
        models = tuple(self.gpus_by_model)
        return start_policy(self.world, self.traces, self.history_seconds, models, seed)

    @property
    def gpus_by_model(self) -> dict[str, int]:
        """GPU model -> GPUs, in order of name."""
        models = sorted({node.gpu_model for node in self.cluster.nodes})
        return {
            model: sum(node.gpus for node in self.cluster.nodes if node.gpu_model == model)
            for model in models
        }

    def job_source(self, seed: int) -> JobSource:
        """Return where jobs come from in a run with this seed."""
        if self.jobs is not None:
            return ListedJobs(self.jobs)
        return DrawnJobs(self.world.batch, self.cluster, stream(seed, JOB_STREAM))


class ViewPlacer:
    """The extender's verdicts without HTTP: filter, prioritise, remember the bind."""

    def __init__(self, view: View) -> None:
        """Answer from `view`; `now_seconds` is set before each cycle by whoever owns the clock."""
        self._view = view
        self.now: Callable[[], float] = lambda: 0.0

    def place(self, pod: PodAsk, feasible: tuple[str, ...]) -> str | None:
        """Return the best-scored node that passes, the first by name on a tie."""
        if self._view.standing is None:
            return None
        now = self.now()
        passed = self._view.filter(pod, feasible, now).passed
        if not passed:
            return None
        scores = self._view.prioritise(pod, passed, now)
        chosen = min(scores, key=lambda item: (-item[1], item[0]))[0]
        self._view.bound(pod, chosen, now)
        return chosen


class Unrecorded:
    """A ledger that keeps nothing: a simulated run is its own evidence."""

    def record(self, tick: Tick) -> None:
        """Keep nothing."""

    def next_number(self) -> int:
        """Every run starts at 0."""
        return 0


def run(
    setup: Setup,
    contender: Contender,
    seed: int,
    sinks: Sequence[Sink] = (),
    on_share: Callable[[float], None] = lambda _: None,
) -> Figures:
    """Run one contender over the whole demand and return its figures.

    `on_share` is told the share of the run that is done, 0 to 1, after each tick.
    """
    setting = setup.setting(seed)
    demand = setting.demand
    policy = contender.adapted(setup.policy_for(seed))
    score = Score(demand.step_seconds, demand.end_seconds)
    sink = tee(score, *sinks)
    view = View()
    placer = ViewPlacer(view)
    cluster = VirtualCluster(setting, setup.job_source(seed), placer, sink)
    placer.now = lambda: cluster.now_seconds

    def publish(snapshot: Snapshot, plan: Plan) -> None:
        view.publish(standing_of(snapshot, plan, policy))

    shell = Shell(
        observer=cluster,
        actuator=cluster,
        clock=cluster,
        ledger=Unrecorded(),
        forecaster=SeriesForecaster(policy.forecast.members),
        planner=contender.planner(peaks_milli(setup, demand, policy)),
        policy=lambda: policy,
        publish=publish,
    )
    length = demand.end_seconds - demand.start_seconds
    _drive(
        shell,
        cluster,
        lambda: on_share((cluster.now_seconds - demand.start_seconds) / length),
    )
    return score.figures()


def _drive(shell: Shell, cluster: VirtualCluster, on_tick: Callable[[], None]) -> None:
    """Tick until the world ends; every plan, and what it broke, becomes an event."""
    progress = first(shell)
    while True:
        progress = tick(shell, progress)
        on_tick()
        if progress.last is not None:
            made = progress.last.plan
            cluster.planned(made.source, len(made.actions), progress.last.violations)
        try:
            cluster.wait_until(next_tick_seconds(shell, progress))
        except WorldEndedError:
            return


def peaks_milli(setup: Setup, demand: Demand, policy: Policy) -> dict[str, int]:
    """Return the true need of each role in its highest scored slot, in reference replicas."""
    peaks = {}
    for model in demand.models:
        lengths = mean_lengths(setup.traces[model])
        for role in ROLES:
            profile = policy.role(f"{model}/{role}")
            if profile is None:
                continue
            reference = next(iter(profile.capacity_tokens_per_second))
            field = "prompt_tokens" if role == "prefill" else "generated_tokens"
            peak = float(np.max(totals(demand, model, field))) / SLOT_SECONDS
            capacity = float(tokens_per_second(setup.world, model, role, reference, lengths))
            peaks[f"{model}/{role}"] = round(1000 * peak / capacity)
    return peaks
