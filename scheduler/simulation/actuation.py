"""Carries out actions on the virtual cluster, each only where its precondition still holds.

The checks are those of an API server with optimistic locking: what was expected must be what is
there. So an action applied twice is dropped the second time, and says why.
"""

from scheduler.planning.actions import (
    Action,
    NotifyJob,
    ResizeJob,
    ScaleRole,
    StartJob,
    StopJob,
)
from scheduler.ports import Outcome
from scheduler.simulation.devices import Pod
from scheduler.simulation.jobcontrol import BatchJob, Jobs
from scheduler.simulation.recalls import Recalls
from scheduler.simulation.replicas import Replicas

_RUNNING = ("starting", "running")
_STOPPABLE = ("starting", "running", "notified", "acknowledged")


class DroppedError(Exception):
    """The precondition of an action does not hold; the message says which."""


class Fence:
    """Refuses those who act with an epoch that another has succeeded."""

    def __init__(self) -> None:
        self.epoch = 0

    def admits(self, epoch: int) -> bool:
        """Return whether this epoch may act; a higher one is the new highest."""
        self.epoch = max(self.epoch, epoch)
        return epoch == self.epoch


class Actuation:
    """Applies actions to the replicas and jobs of one cluster."""

    def __init__(self, replicas: Replicas, jobs: Jobs, recalls: Recalls) -> None:
        self._replicas = replicas
        self._jobs = jobs
        self._recalls = recalls

    def apply(self, action: Action, now_seconds: float) -> Outcome:
        """Apply one action, or drop it and say why."""
        try:
            match action:
                case ScaleRole():
                    self._scale(action, now_seconds)
                case StartJob():
                    self._start(action, now_seconds)
                case NotifyJob():
                    self._notify(action, now_seconds)
                case StopJob():
                    self._stop(action, now_seconds)
                case ResizeJob():
                    self._resize(action, now_seconds)
        except DroppedError as reason:
            return Outcome(action, applied=False, detail=str(reason))
        return Outcome(action, applied=True)

    def _scale(self, action: ScaleRole, now_seconds: float) -> None:
        role = self._replicas.roles.get(action.role)
        if role is None:
            raise DroppedError(f"there is no role {action.role}")
        if role.replicas != action.expected_replicas:
            raise DroppedError(f"expected {action.expected_replicas}, spec has {role.replicas}")
        if action.replicas < 0:
            raise DroppedError(f"replicas must not be negative, not {action.replicas}")
        gone = [name for name in action.retire if name not in role.live]
        if gone or len(set(action.retire)) < len(action.retire):
            raise DroppedError(f"cannot retire {', '.join(gone or action.retire)}: not there")
        if action.replicas == role.replicas and not action.retire:
            raise DroppedError("nothing to do: spec has that count")
        self._replicas.scale(action.role, action.replicas, action.retire, now_seconds)

    def _start(self, action: StartJob, now_seconds: float) -> None:
        job = self._job(action.job, action.expected_attempt, ("queued",))
        spec = job.spec
        if not spec.min_pods <= action.pods <= spec.max_pods:
            raise DroppedError(f"pods must lie in {spec.min_pods} to {spec.max_pods}")
        if action.loan.job != action.job:
            raise DroppedError(f"the loan is for {action.loan.job}")
        self._jobs.start(job, action.pods, action.loan, now_seconds)

    def _notify(self, action: NotifyJob, now_seconds: float) -> None:
        job = self._job(action.job, action.expected_attempt, _RUNNING)
        self._watch(job, action.for_role, job.held())
        self._jobs.notify(job, action.deadline_seconds, action.for_role, now_seconds)

    def _stop(self, action: StopJob, now_seconds: float) -> None:
        job = self._job(action.job, action.expected_attempt, _STOPPABLE)
        self._watch(job, action.for_role, job.held())
        self._jobs.stop(job, now_seconds)

    def _resize(self, action: ResizeJob, now_seconds: float) -> None:
        job = self._job(action.job, action.expected_attempt, ("running",))
        spec = job.spec
        if not spec.min_pods <= action.pods <= spec.max_pods:
            raise DroppedError(f"pods must lie in {spec.min_pods} to {spec.max_pods}")
        if action.pods == len(job.pods):
            raise DroppedError(f"nothing to do: it has {action.pods} pods")
        unknown = set(action.release) - {pod.name for pod in job.pods}
        if unknown:
            raise DroppedError(f"cannot release {', '.join(sorted(unknown))}: not there")
        before = job.held()
        self._jobs.resize(job, action.pods, action.release, now_seconds)
        released = [pod for pod in before if pod not in job.pods]
        self._watch(job, action.for_role, released)

    def _watch(self, job: BatchJob, for_role: str, pods: list[Pod]) -> None:
        if for_role and job.loan is not None and pods:
            self._recalls.open(job.loan, for_role, pods)

    def _job(self, name: str, attempt: int, states: tuple[str, ...]) -> BatchJob:
        job = self._jobs.all.get(name)
        if job is None:
            raise DroppedError(f"there is no job {name}")
        if job.run.attempt != attempt:
            raise DroppedError(f"expected attempt {attempt}, it is at {job.run.attempt}")
        if job.state not in states:
            raise DroppedError(f"it is {job.state}, not {' or '.join(states)}")
        return job
