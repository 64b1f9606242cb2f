"""Runs of Jobs: started, warned, stopped and resized by guarded patches of the Job.

A start and a stop change `suspend` together with Tidal's annotations. A run is named by its
attempt, which each patch tests, so an action meant for an earlier run is refused. What Kueue or a
JobSet suspends is theirs: they would set it back within milliseconds, after the pods are lost.
"""

import threading
from collections.abc import Callable

import msgspec

from scheduler.adapters.cluster.batchjobs import asked, is_ours
from scheduler.adapters.cluster.drivers.gangs import Gangs, leaving, name_of, pod_path
from scheduler.adapters.cluster.drivers.writing import (
    ANNOTATIONS,
    PASSING,
    Cluster,
    DroppedError,
    Operation,
    annotated,
    changed,
    fence,
    pointer,
    same,
    test,
    write,
)
from scheduler.adapters.cluster.events import Reference
from scheduler.adapters.cluster.eviction import Evictions
from scheduler.adapters.cluster.grouping import INDEX
from scheduler.adapters.cluster.jobmarks import Declared, declared, noted
from scheduler.adapters.cluster.observed import Observed
from scheduler.adapters.cluster.optouts import opt_out
from scheduler.apiserver.client import FIELD_MANAGER, ApiError, ApiUnreachableError
from scheduler.apiserver.objects import Job, Pod
from scheduler.apiserver.times import text
from scheduler.planning import marks
from scheduler.planning.actions import NotifyJob, ResizeJob, StartJob, StopJob

JOBS = "jobs.batch"
KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"
NOTICE = (marks.NOTICE_DEADLINE, marks.NOTICE_FOR)

JobAction = StartJob | NotifyJob | StopJob | ResizeJob


class Jobs:
    """Applies actions to Jobs; each raises DroppedError and ApiUnreachableError."""

    def __init__(self, cluster: Cluster, evictions: Evictions) -> None:
        self._cluster = cluster
        self._evictions = evictions
        self._lock = threading.Lock()
        self._untold: dict[str, tuple[Pod, dict[str, str | None]]] = {}

    def apply(self, action: JobAction, observed: Observed, gangs: Gangs, epoch: int) -> str:
        """Apply one action; return what is to be said beyond the action's sentence."""
        job = _found(observed, action.job)
        try:
            match action:
                case StartJob():
                    return self._start(action, job, gangs.pods(action.job), epoch)
                case NotifyJob():
                    return self._notify(action, job, gangs.pods(action.job), epoch)
                case StopJob():
                    return self._stop(action, job, observed, gangs.pods(action.job), epoch)
                case ResizeJob():
                    return self._resize(action, job, gangs.pods(action.job), epoch)
        except DroppedError as dropped:
            if dropped.reason:
                self._cluster.tell(_about(job), "Warning", dropped.reason, str(dropped))
            raise

    # ---- the four ------------------------------------------------------------------------------

    def _start(self, action: StartJob, job: Job, pods: tuple[Pod, ...], epoch: int) -> str:
        if action.loan.job != action.job:
            raise DroppedError(f"the loan is for {action.loan.job}")
        if pods:
            raise DroppedError(f"{len(pods)} pods of the run before are still there")

        def operations(now: Job) -> list[Operation]:
            said = _checked(now, action.expected_attempt, epoch)
            if not now.spec.suspend:
                raise DroppedError("it is not suspended")
            values = {
                marks.ATTEMPT: str(said.attempt + 1),
                marks.LOAN: msgspec.json.encode(action.loan).decode(),
                marks.EPOCH: str(epoch),
                **dict.fromkeys((*NOTICE, marks.ACKNOWLEDGED), None),
            }
            return [
                *_guards(now),
                *changed("/spec/suspend", before=True, after=False),
                *_sized(now, said, action.pods),
                *annotated(now.metadata.annotations, values),
            ]

        self._write(job, operations)
        self._cluster.tell(_about(job), "Normal", "Loaned", action.sentence)
        return ""

    def _notify(self, action: NotifyJob, job: Job, pods: tuple[Pod, ...], epoch: int) -> str:
        told: dict[str, str | None] = {
            marks.NOTICE_DEADLINE: text(action.deadline_seconds),
            marks.NOTICE_FOR: action.for_role,
        }

        def operations(now: Job) -> list[Operation]:
            _running(now, _checked(now, action.expected_attempt, epoch))
            if marks.NOTICE_DEADLINE in now.metadata.annotations:
                raise DroppedError("it has had its notice")
            values = {**told, marks.STOPS: self._noted(now), marks.EPOCH: str(epoch)}
            return [*_guards(now), *annotated(now.metadata.annotations, values)]

        self._write(job, operations)
        self._cluster.tell(_about(job), "Normal", "Notice", action.sentence)
        staying = tuple(pod for pod in pods if not leaving(pod))
        missed = [pod for pod in staying if not self._told(pod, told)]
        with self._lock:
            self._untold |= {pod.metadata.uid: (pod, told) for pod in missed}
        return f"not told yet: {', '.join(map(name_of, missed))}" if missed else ""

    def _told(self, pod: Pod, values: dict[str, str | None]) -> bool:
        """Put the notice where the pod's downward API shows it; the Job carries it in any case."""
        body = {"metadata": {"uid": pod.metadata.uid, "annotations": values}}
        try:
            self._cluster.api.patch(pod_path(pod), body, "merge", fieldManager=FIELD_MANAGER)
        except ApiError as error:
            return error.status not in PASSING  # else the pod is gone
        except ApiUnreachableError:
            return False
        return True

    def retry(self) -> None:
        """Tell pods that a notice did not reach; what the server does not take now waits on."""
        with self._lock:
            untold = dict(self._untold)
        for uid, (pod, values) in untold.items():
            if not self._told(pod, values):
                return
            with self._lock:
                self._untold.pop(uid, None)

    def _stop(
        self, action: StopJob, job: Job, observed: Observed, pods: tuple[Pod, ...], epoch: int
    ) -> str:
        def operations(now: Job) -> list[Operation]:
            said = _checked(now, action.expected_attempt, epoch)
            _running(now, said)
            values: dict[str, str | None] = {marks.LOAN: None, marks.EPOCH: str(epoch)}
            told = marks.NOTICE_DEADLINE in now.metadata.annotations  # and noted then
            if not told and action.code != "stalled":
                values[marks.STOPS] = self._noted(now)
            return [
                *_guards(now),
                *changed("/spec/suspend", before=False, after=True),
                *annotated(now.metadata.annotations, values),
            ]

        operations(job)  # what speaks against it shall be known before a budget is asked
        staying = tuple(pod for pod in pods if not leaving(pod))
        with self._evictions.rehearsed(action.job, staying, observed.budgets):
            self._write(job, operations)
        self._cluster.tell(_about(job), "Normal", "Preempted", action.sentence)
        return self._evictions.evict(staying)

    def _resize(self, action: ResizeJob, job: Job, pods: tuple[Pod, ...], epoch: int) -> str:
        def operations(now: Job) -> list[Operation]:
            said = _checked(now, action.expected_attempt, epoch)
            _running(now, said)
            sized = _sized(now, said, action.pods)
            if not sized:
                raise DroppedError(f"nothing to do: it has {action.pods} pods")
            values = {marks.EPOCH: str(epoch)}
            if action.code == "shrink":
                values[marks.STOPS] = self._noted(now, action.pods)
            return [*_guards(now), *sized, *annotated(now.metadata.annotations, values)]

        staying = (pod for pod in pods if not leaving(pod))
        doomed = {pod.metadata.name for pod in staying if _index(pod) >= action.pods}
        if doomed != set(action.release):
            raise DroppedError(f"its highest indices go: {', '.join(sorted(doomed)) or 'none'}")
        self._write(job, operations)
        self._cluster.tell(_about(job), "Normal", "Resized", action.sentence)
        return ""

    def _noted(self, now: Job, pods: int = 0) -> str:
        """Return the stops of the Job with this one: whoever plans after a restart counts them."""
        return noted(declared(now), pods, self._cluster.now_seconds())

    def _write(self, job: Job, operations: Callable[[Job], list[Operation]]) -> None:
        path = self._cluster.path(JOBS, job.metadata.namespace, job.metadata.name)
        write(self._cluster, path, job, operations, lambda: self._cluster.read(path, Job))


def _found(observed: Observed, name: str) -> Job:
    for job in observed.jobs:
        if f"{job.metadata.namespace}/{job.metadata.name}" == name:
            return job
    raise DroppedError(f"there is no job {name}")


def _about(job: Job) -> Reference:
    return Reference.of("batch/v1", "Job", job.metadata)


def _checked(job: Job, attempt: int, epoch: int) -> Declared:
    """Return what the Job declares; raise DroppedError where it is not Tidal's to change."""
    meta, said = job.metadata, declared(job)
    fence(meta.annotations, epoch)
    if not is_ours(job):
        raise DroppedError(f"it is finished, or has no label {marks.QUEUE}")
    if KUEUE_QUEUE in meta.labels:
        raise DroppedError(f"Kueue suspends and resumes it: remove the label {KUEUE_QUEUE}")
    if meta.controller.kind == "JobSet":
        raise DroppedError(f"it belongs to JobSet {meta.controller.name}, which would undo it")
    if said.attempt != attempt:
        raise DroppedError(f"expected attempt {attempt}, it is at {said.attempt}")
    return said


def _running(job: Job, said: Declared) -> None:
    if job.spec.suspend:
        raise DroppedError("it is suspended")
    if said.class_ == "protected":
        raise DroppedError(f"its {marks.CLASS} is protected")
    kept = opt_out(((job.metadata.labels, job.metadata.annotations),))
    if kept:
        raise DroppedError(f"its {kept}")


def _guards(job: Job) -> list[Operation]:
    """Guard against another Job of the name, another run and another queue."""
    seen = job.metadata.annotations
    path = ANNOTATIONS + pointer(marks.ATTEMPT)
    attempt = [test(path, seen.get(marks.ATTEMPT))] if seen else []
    queue = test("/metadata/labels" + pointer(marks.QUEUE), job.metadata.labels[marks.QUEUE])
    return [same(job.metadata.uid), queue, *attempt]


def _sized(job: Job, said: Declared, pods: int) -> list[Operation]:
    """Return what gives the Job this many pods: nothing where it has them already.

    Only an Indexed Job with as many completions as parallelism changes its size, and both
    together: then the highest indices go. Other Jobs lose index 0, or any pods.
    """
    spec, missing = job.spec, asked(job)
    if pods == missing:
        return []
    if not said.min_pods <= pods <= said.max_pods:
        raise DroppedError(
            f"{pods} pods asked, it takes "
            + (
                str(missing)
                if said.min_pods == said.max_pods
                else f"{said.min_pods} to {said.max_pods}"
            )
        )
    return [
        *changed("/spec/parallelism", spec.parallelism, pods),
        *changed("/spec/completions", spec.completions, pods),
    ]


def _index(pod: Pod) -> int:
    index = pod.metadata.labels.get(INDEX, "")
    return int(index) if index.isdecimal() else -1
