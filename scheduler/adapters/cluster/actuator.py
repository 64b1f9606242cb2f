"""Applies plans to a real cluster; checks each precondition again, and never raises.

An action that cannot be applied becomes an outcome that says why. Actions on different objects
run side by side, those on one object in order. What reaches out beyond one call (an eviction that
was refused, a notice that a pod missed, a gate not lifted yet) is tried again in the next ones.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

from scheduler.adapters.cluster.drivers.gangs import Gangs
from scheduler.adapters.cluster.drivers.jobs import Jobs
from scheduler.adapters.cluster.drivers.scaling import Scaling
from scheduler.adapters.cluster.drivers.writing import Cluster, DroppedError
from scheduler.adapters.cluster.eviction import Evictions
from scheduler.adapters.cluster.gates import Gates
from scheduler.adapters.cluster.observed import Observed
from scheduler.adapters.cluster.overrides import new_overrides
from scheduler.adapters.cluster.waking import Waking
from scheduler.apiserver.client import ApiError, ApiUnreachableError
from scheduler.apiserver.objects import Pod
from scheduler.planning.actions import Action, ScaleRole, Unplaced
from scheduler.planning.snapshot import Reservation
from scheduler.planning.targets import Target, Targets
from scheduler.ports import Outcome

THREADS = 8
UNREACHABLE_TRIES = 2
"""Failures to reach the server after which a call's other actions are not tried."""


class KubernetesActuator:
    """`ports.Actuator` of a real cluster; for one thread."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._evictions = Evictions(cluster)
        self._scaling = Scaling(cluster)
        self._jobs = Jobs(cluster, self._evictions)
        self._gates = Gates(cluster)
        self._waking = Waking(cluster)
        self._pool = ThreadPoolExecutor(THREADS, "actuator")
        self._epoch = 0
        self._known: tuple[tuple[Pod, ...], tuple[tuple[str, Target], ...], Gangs] | None = None
        self.problems: tuple[str, ...] = ()
        """What the last `reserve` could not do, a sentence for each."""

    def blocked(self, now_seconds: float) -> dict[str, str]:
        """Return the jobs that must not be stopped now, and why."""
        return self._evictions.blocked(now_seconds)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    # ---- actions -------------------------------------------------------------------------------

    def apply(self, actions: tuple[Action, ...], epoch: int) -> tuple[Outcome, ...]:
        """Apply; outcomes are in the order of the actions."""
        if self._fenced(epoch):
            why = f"epoch {epoch} is fenced off by {self._epoch}"
            return tuple(Outcome(one, applied=False, detail=why) for one in actions)
        self._again()
        if not actions:
            return ()
        observed = self._cluster.observed()
        call = _Call(epoch, observed, self._gangs(observed))
        lines: dict[str, list[int]] = {}
        for index, action in enumerate(actions):
            lines.setdefault(self._line(action), []).append(index)

        def run(line: list[int]) -> list[tuple[int, Outcome]]:
            return [(index, self._outcome(actions[index], call)) for index in line]

        found = dict(one for line in self._pool.map(run, lines.values()) for one in line)
        return tuple(found[index] for index in range(len(actions)))

    def _line(self, action: Action) -> str:
        """Return the object that is written, so that its actions are kept in order."""
        if not isinstance(action, ScaleRole):
            return f"Job {action.job}"
        target = dict(self._cluster.policy().targets()).get(action.role)
        return f"{target.kind} {target.namespace}/{target.name}" if target else action.role

    def _outcome(self, action: Action, call: "_Call") -> Outcome:
        if call.unreachable >= UNREACHABLE_TRIES:
            return Outcome(action, applied=False, detail="API server unreachable: not tried")
        world = call.observed, call.gangs, call.epoch
        try:
            if isinstance(action, ScaleRole):
                said = self._scaling.scale(action, *world)
            else:
                said = self._jobs.apply(action, *world)
        except DroppedError as dropped:
            return Outcome(action, applied=False, detail=str(dropped))
        except ApiUnreachableError as error:
            call.missed()
            return Outcome(action, applied=False, detail=f"API server unreachable: {error}")
        return Outcome(action, applied=True, detail=said)

    def note_overrides(self, epoch: int) -> None:
        """Write how long counts that somebody else wrote are left alone; say where others scale."""
        observed = self._cluster.observed()
        self._scaling.tell_refusals(observed)
        now = self._cluster.now_seconds()
        problems = []
        for one in new_overrides(observed, self._cluster.policy(), now):
            try:
                self._scaling.note(one, observed, epoch)
            except (DroppedError, ApiUnreachableError) as error:
                problems.append(f"{one.role}: {error}")
        self.problems += tuple(problems)

    def tell_shortages(self, unplaced: tuple[Unplaced, ...]) -> None:
        """Say on workloads that no GPUs were found for replicas they lack."""
        self._scaling.tell_shortages(unplaced, self._cluster.observed())

    # ---- reservations --------------------------------------------------------------------------

    def reserve(self, reservations: tuple[Reservation, ...], epoch: int) -> None:
        """Note new edits, lift gates of gangs with a place, wake who waits for a new one."""
        self.problems = ()
        if self._fenced(epoch):
            self.problems = (f"epoch {epoch} is fenced off by {self._epoch}",)
            return
        self._again()
        try:
            self.note_overrides(epoch)
            observed = self._cluster.observed()
            gangs = self._gangs(observed)
            self._gates.lift(reservations, observed, gangs)
            self._waking.wake(reservations, gangs)
        except (ApiError, ApiUnreachableError) as error:
            self.problems += (f"reservations: {error}",)
        self.problems += self._gates.problems

    # ---- both ----------------------------------------------------------------------------------

    def _fenced(self, epoch: int) -> bool:
        """Return whether a later planner has acted in this process already."""
        self._epoch = max(self._epoch, epoch)
        return epoch < self._epoch

    def _again(self) -> None:
        """Try again what earlier calls left."""
        self._evictions.begin()
        self._evictions.retry()
        self._jobs.retry()

    def _gangs(self, observed: Observed) -> Gangs:
        """Return the pods by owner; made once for as long as pods and targets are the same."""
        targets = tuple(self._cluster.policy().targets())
        if self._known is None or self._known[0] is not observed.pods or self._known[1] != targets:
            self._known = (observed.pods, targets, Gangs(observed.pods, Targets(targets)))
        return self._known[2]


class _Call:
    """One call of `apply`: what all its actions see, and whether the server answers."""

    def __init__(self, epoch: int, observed: Observed, gangs: Gangs) -> None:
        self.epoch = epoch
        self.observed = observed
        self.gangs = gangs
        self.unreachable = 0
        self._lock = threading.Lock()

    def missed(self) -> None:
        """Count a failure to reach the server."""
        with self._lock:
            self.unreachable += 1
