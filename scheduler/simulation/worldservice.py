"""The virtual world as others may drive it: one cluster, one lock, and time that waits.

Time moves only when the planner asks. A planner that has called once and then stays silent for
`quiet_seconds` of wall time counts as gone: time runs on without it, at about the pace of the
demo, until it calls again. At the end of the demand the event stream is complete, and `report`
says what the run came to.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

from forecasting import Sample
from scheduler.planning.snapshot import Snapshot
from scheduler.simulation.cluster import VirtualCluster
from scheduler.simulation.events import Event, JobLine, Sink, Slo, ViolationLine, tee
from scheduler.simulation.extenderplacer import Binding, ExtenderPlacer
from scheduler.simulation.run import Setup
from scheduler.simulation.score import Score
from scheduler.simulation.timeline import TimelineFold
from scheduler.simulation.worldwire import (
    Advance,
    After,
    Applied,
    Apply,
    Bins,
    ExtenderAt,
    Moved,
    Planned,
    Reserve,
    RoleCount,
    WorldProgress,
    WorldReport,
)

QUIET_SECONDS = 10.0
PACE_SECONDS_PER_SECOND = 800.0
"""At most; a day and a warm-up of six hours then take a little over two minutes."""
LOOKS_PER_QUIET = 20
TIMELINE_BIN_SECONDS = 300.0

_SLACK = 1e-9
_T = TypeVar("_T")


class NotEndedError(LookupError):
    """The run is not over, so there is no report yet."""

    def __init__(self, now_seconds: float, end_seconds: float) -> None:
        super().__init__(
            f"report: the world is at {now_seconds:.0f} s of {end_seconds:.0f} s; ask at its end"
        )


class Tally:
    """Counts what only a live display and the end of a run want to know."""

    def __init__(self) -> None:
        self.stops = 0
        self.violations: list[str] = []
        self._states: dict[str, str] = {}
        self._due: dict[str, float] = defaultdict(float)
        self._met: dict[str, float] = defaultdict(float)

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case JobLine():
                if event.state == "stopped" != self._states.get(event.id):
                    self.stops += 1
                self._states[event.id] = event.state
                if event.state == "done":
                    del self._states[event.id]
            case Slo() if event.t >= 0:
                self._due[event.model] += event.tokens_due
                self._met[event.model] += event.tokens_met
            case ViolationLine():
                self.violations.append(f"{event.invariant}: {event.detail}")
            case _:
                pass

    @property
    def attained(self) -> tuple[float, float] | tuple[None, None]:
        """SLO attainment so far, over all tokens and of the worst model."""
        shares = [self._met[model] / due for model, due in self._due.items() if due > 0]
        if not shares:
            return None, None
        return sum(self._met.values()) / sum(self._due.values()), min(shares)


class WorldService:
    """The calls of `worldwire`, each safe from any thread."""

    def __init__(
        self,
        setup: Setup,
        seed: int,
        sinks: Sequence[Sink] = (),
        quiet_seconds: float = QUIET_SECONDS,
    ) -> None:
        """Make the cluster at the start of its demand; raises `DemandError` where none fits."""
        setting = setup.setting(seed)
        demand = setting.demand
        self._score = Score(demand.step_seconds, demand.end_seconds)
        self._timeline = TimelineFold(
            step_seconds=demand.step_seconds,
            start_seconds=demand.start_seconds,
            end_seconds=demand.end_seconds,
            bin_seconds=TIMELINE_BIN_SECONDS,
        )
        self._tally = Tally()
        self._start_seconds = demand.start_seconds
        self._quiet_seconds = quiet_seconds
        self._placer = ExtenderPlacer(self._seen)
        sink = tee(self._score, self._timeline, self._tally, *sinks)
        self._cluster = VirtualCluster(setting, setup.job_source(seed), self._placer, sink)
        self._bins: list[Sample] = list(self._cluster.history())
        self._lock = threading.Lock()
        self._calls = 0
        self._unplanned = False
        self._unplanned_seconds = 0.0

    # ---- what the planner calls ------------------------------------------------------------

    def observe(self) -> Snapshot:
        """Return the newest state."""
        return self._heard(self._seen)

    def samples(self, after: After) -> Bins:
        """Return all demand bins after a cursor, those of the history first."""
        return self._heard(lambda: self._bins_after(after.cursor))

    def reserve(self, ask: Reserve) -> None:
        """Hold these reservations alone."""
        self._heard(lambda: self._cluster.reserve(ask.reservations, ask.epoch))

    def apply(self, ask: Apply) -> Applied:
        """Apply actions in order."""
        return self._heard(lambda: Applied(self._cluster.apply(ask.actions, ask.epoch)))

    def planned(self, plan: Planned) -> None:
        """Write down that a plan was made."""
        self._heard(lambda: self._plan_made(plan))

    def advance(self, ask: Advance) -> Moved:
        """Let time pass up to what is asked; a time that has passed moves nothing."""
        return self._heard(lambda: self._moved(ask))

    def register(self, extender: ExtenderAt) -> None:
        """Place pods through this extender from now on."""
        self._heard(lambda: self._placer.register(extender.url))

    # ---- what others call ------------------------------------------------------------------

    def offer_binding(self, uid: str, node: str) -> Binding:
        """Take a Binding of the extender's; it does not wait for the time that asked for it."""
        return self._placer.offer_binding(uid, node)

    def progress(self) -> WorldProgress:
        """Return how far the world is."""
        with self._lock:
            seen, now = self._cluster.observe(), self._cluster.now_seconds
            timeline = self._timeline.timeline(now)
            attained, worst = self._tally.attained
        return WorldProgress(
            now_seconds=now,
            start_seconds=self._start_seconds,
            end_seconds=self._cluster.end_seconds,
            ended=self._cluster.ended,
            unplanned=self._unplanned,
            loans=len(seen.loans),
            stops=self._tally.stops,
            slo_attainment=attained,
            slo_attainment_worst_model=worst,
            roles=_role_counts(seen),
            timeline=timeline,
            placed_by_extender=self._placer.by_extender,
            placed_by_default=self._placer.by_default,
        )

    def report(self) -> WorldReport:
        """Return what the run came to; raise `NotEndedError` before its end."""
        with self._lock:
            end = self._cluster.end_seconds
            if not self._cluster.ended:
                raise NotEndedError(self._cluster.now_seconds, end)
            return WorldReport(
                figures=self._score.figures(),
                timeline=self._timeline.timeline(end),
                violations=tuple(self._tally.violations),
                unplanned_seconds=self._unplanned_seconds,
                placed_by_extender=self._placer.by_extender,
                placed_by_default=self._placer.by_default,
            )

    def run_on(self, closing: threading.Event) -> None:
        """Watch for a planner that is gone, and let time pass without it; ends with `closing`."""
        look_seconds = self._quiet_seconds / LOOKS_PER_QUIET
        seen, looks = 0, 0
        while not closing.wait(look_seconds):
            with self._lock:  # a call that lasts is waited for, and then it counts
                calls = self._calls
            looks = looks + 1 if calls and calls == seen else 0
            seen = calls
            self._unplanned = looks >= LOOKS_PER_QUIET
            if self._unplanned:
                self._pass_without_planner(look_seconds * PACE_SECONDS_PER_SECOND)

    # ---- inside ----------------------------------------------------------------------------

    def _heard(self, do: Callable[[], _T]) -> _T:
        """Carry a planner's call out, and count it."""
        with self._lock:
            self._calls += 1
            self._unplanned = False
            return do()

    def _seen(self) -> Snapshot:
        """Return the newest state, to whoever holds the lock already."""
        return self._cluster.observe()

    def _bins_after(self, cursor: int) -> Bins:
        self._bins.extend(self._cluster.samples())
        return Bins(tuple(self._bins[cursor:]), len(self._bins))

    def _plan_made(self, plan: Planned) -> None:
        if not self._cluster.ended:
            self._cluster.planned(plan.source, plan.actions, plan.violations)

    def _moved(self, ask: Advance) -> Moved:
        cluster = self._cluster
        if not ask.effort:
            cluster.advance(ask.seconds)
        elif cluster.now_seconds <= ask.seconds + _SLACK:
            cluster.charge_planning(ask.effort)
        return Moved(cluster.now_seconds, cluster.ended)

    def _pass_without_planner(self, seconds: float) -> None:
        with self._lock:
            before = self._cluster.now_seconds
            self._cluster.advance(before + seconds)
            self._unplanned_seconds += self._cluster.now_seconds - before


def _role_counts(seen: Snapshot) -> tuple[RoleCount, ...]:
    counts = Counter((replica.role, replica.state) for replica in seen.replicas)
    return tuple(
        RoleCount(
            role=role.key,
            ready=counts[role.key, "ready"],
            coming=counts[role.key, "pending"] + counts[role.key, "starting"],
            draining=counts[role.key, "draining"],
        )
        for role in seen.roles
    )
