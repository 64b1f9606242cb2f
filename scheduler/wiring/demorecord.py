"""The record of a demonstration on a real cluster: figures, timeline, and counts of what was done.

Figures and timeline come from the event stream, as for any run. What Tidal did is counted in the
daemon's ledger, what kube-scheduler asked by the extender itself, and pods are the API server's.
"""

from collections import Counter

import msgspec

from scheduler.adapters.cluster.observed import Observed
from scheduler.adapters.ledger import open_ledger
from scheduler.apiserver.client import Api, ApiError, ApiUnreachableError
from scheduler.extender.counts import Told
from scheduler.planning.actions import Action, ScaleRole
from scheduler.simulation.events import Event
from scheduler.simulation.score import Score
from scheduler.simulation.timeline import TimelineFold
from scheduler.wiring.demovalues import ClusterDemo, Counts, Played

BINS = 120
REJECTED = "UnexpectedAdmissionError"


class Record:
    """What is known so far."""

    def __init__(self, demo: ClusterDemo) -> None:
        demand = demo.demand
        self._demo = demo
        self._extender = Api.plain(demo.extender_url)
        self._score = Score(demand.step_seconds, demand.end_seconds)
        self._fold = TimelineFold(
            step_seconds=demand.step_seconds,
            start_seconds=demand.start_seconds,
            end_seconds=demand.end_seconds,
            bin_seconds=(demand.end_seconds - demand.start_seconds) / BINS,
        )
        self._bound: set[str] = set()
        self._rejected: set[str] = set()
        self._told: Told | None = None

    def take(self, event: Event) -> None:
        """Take one event."""
        self._score(event)
        self._fold(event)

    def see(self, observed: Observed) -> None:
        """Count pods."""
        for pod in observed.pods:
            if pod.spec.node_name:
                self._bound.add(pod.metadata.uid)
            if pod.status.reason == REJECTED:
                self._rejected.add(pod.metadata.uid)

    def ask_extender(self) -> bool:
        """Read the extender's counters, or keep the former ones; return whether it answered."""
        try:
            self._told = msgspec.json.decode(self._extender.get("/v1/extender"), type=Told)
        except (ApiError, ApiUnreachableError, msgspec.DecodeError):
            return False
        return True

    @property
    def filter_calls(self) -> int:
        """How often kube-scheduler has asked for a node."""
        return self._told.verbs["filter"].calls if self._told else 0

    def played(
        self, now_seconds: float, finished: int, wall_seconds: float, *, complete: bool
    ) -> Played:
        """Return the whole, once the daemon has closed its ledger."""
        return Played(
            figures=self._score.figures(),
            timeline=self._fold.timeline(now_seconds),
            counts=self._counts(finished),
            wall_seconds=wall_seconds,
            complete=complete,
        )

    def close(self) -> None:
        """Close the connection to the extender."""
        self._extender.close()

    def _counts(self, finished: int) -> Counts:
        done: Counter[str] = Counter()
        with open_ledger(self._demo.ledger) as ledger:
            lines = ledger.ticks(0, ledger.next_number())
            for line in lines:
                tick = ledger.tick(line.number)
                done["violations"] += len(tick.violations)
                for one in tick.outcomes:
                    done[_kind(one.action) if one.applied else "dropped"] += 1
        filters = self._told.verbs["filter"] if self._told else None
        return Counts(
            scaled_up=done["up"],
            scaled_down=done["down"],
            jobs_started=done["StartJob"],
            jobs_preempted=done["StopJob"],
            jobs_finished=finished,
            dropped_actions=done["dropped"],
            ticks=len(lines),
            violations=done["violations"],
            pods_bound=len(self._bound),
            filter_calls=filters.calls if filters else 0,
            filter_passed=filters.calls - filters.refused - filters.errors if filters else 0,
            preempt_calls=self._told.verbs["preempt"].calls if self._told else 0,
            rejected_pods=len(self._rejected),
        )


def _kind(action: Action) -> str:
    if isinstance(action, ScaleRole):
        return "up" if action.replicas > action.expected_replicas else "down"
    return type(action).__name__
