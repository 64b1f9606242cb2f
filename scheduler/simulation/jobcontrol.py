"""The job controller: queues jobs, makes and removes their pods, and tells their runs.

A job is queued, suspended, until it is resumed with a number of pods; it begins when all of them
are bound. A stop suspends it and sends SIGTERM; its pods hold their devices until they are gone,
then it is queued again. Between those, `batch.Run` says how the work goes.
"""

import heapq
from math import inf
from typing import Literal

from scheduler.planning import snapshot
from scheduler.simulation.batch import Run
from scheduler.simulation.devices import Pod
from scheduler.simulation.events import JobLine, LoanLine, Sink
from scheduler.simulation.jobs import JobSource, JobSpec
from scheduler.simulation.pods import KubeScheduler, Waiting
from scheduler.simulation.worldfile import Batch

State = Literal["queued", "starting", "running", "notified", "acknowledged", "stopping"]
_LINE_STATES: dict[State, Literal["queued", "running", "notified", "stopped"]] = {
    "queued": "queued",
    "starting": "running",
    "running": "running",
    "notified": "notified",
    "acknowledged": "notified",
    "stopping": "stopped",
}


class BatchJob:
    """One job: its run, its pods, the loan it runs on, and whom it gives way to."""

    def __init__(self, spec: JobSpec, batch: Batch) -> None:
        """Begin queued."""
        self.spec = spec
        self.run = Run(spec, batch)
        self.pods: list[Pod] = []
        self.made_pods = 0
        """In this attempt; names are not used twice."""
        self.leaving: list[tuple[float, Pod]] = []
        """Pods that got SIGTERM apart from the gang, and when they are gone."""
        self.loan: snapshot.Loan | None = None
        self.suspended = True
        self.notice_for = ""
        self.started_seconds: float | None = None
        self._placed: tuple[snapshot.Pod, ...] | None = ()
        self._queued: snapshot.Job | None = None

    @property
    def state(self) -> State:
        """The state as a snapshot names it."""
        if self.suspended:
            return "stopping" if self.held() else "queued"
        match self.run.phase:
            case "idle" | "starting":
                return "notified" if self.run.noticed else "starting"
            case "paused":
                return "acknowledged"
            case _:
                return "notified" if self.run.noticed else "running"

    def held(self) -> list[Pod]:
        """Return the pods that hold devices."""
        return [pod for pod in (*self.pods, *(pod for _, pod in self.leaving)) if pod.node]

    def changed(self) -> None:
        """Forget what snapshots showed."""
        self._placed = None
        self._queued = None

    def line(self, now_seconds: float) -> JobLine:
        """Return its line of the event stream."""
        names = tuple(name for pod in self.held() for name in pod.gpu_names())
        state: Literal["queued", "running", "notified", "stopped", "done"]
        state = _LINE_STATES[self.state] if names else "queued"
        if self.run.phase == "done":
            state, names = "done", ()
        return JobLine(
            now_seconds,
            self.spec.id,
            self.spec.tenant,
            state,
            names,
            self.run.kept_gpu_seconds(now_seconds),
            self.run.lost_gpu_seconds(now_seconds),
        )

    def view(self, now_seconds: float) -> snapshot.Job:
        """Return the job as a snapshot shows it; while it is queued, always the same object."""
        if self._queued is not None:
            return self._queued
        if self._placed is None:
            pods = (*self.pods, *(pod for _, pod in self.leaving))
            gone = {id(pod) for _, pod in self.leaving}
            self._placed = tuple([pod.seen(leaving=id(pod) in gone) for pod in pods])
        seen = self._view(self._placed, now_seconds)
        if seen.state == "queued":
            self._queued = seen
        return seen

    def _view(self, placed: tuple[snapshot.Pod, ...], now_seconds: float) -> snapshot.Job:
        spec, run = self.spec, self.run
        return snapshot.Job(
            id=spec.id,
            tenant=spec.tenant,
            queue=spec.tenant,
            priority=spec.priority,
            state=self.state,
            pods=spec.pods,
            gpus_per_pod=spec.gpus_per_pod,
            min_pods=spec.min_pods,
            max_pods=spec.max_pods,
            gpu_models=spec.gpu_models,
            submitted_seconds=spec.submitted_seconds,
            started_seconds=self.started_seconds,
            attempt=run.attempt,
            expected_remaining_seconds=run.remaining_seconds(now_seconds),
            last_checkpoint_seconds=run.last_checkpoint_seconds,
            checkpoint_interval_seconds=spec.checkpoint_interval_seconds,
            checkpoint_write_seconds=(
                spec.checkpoint_write_seconds if spec.writes_on_notice else None
            ),
            restart_seconds=spec.restart_seconds,
            preemptible=spec.preemptible,
            checkpoint_started_seconds=run.writing_since_seconds,
            notice_deadline_seconds=run.deadline_seconds,
            notice_for=self.notice_for,
            placed=placed,
        )


class Jobs:
    """All jobs that are waiting or running."""

    def __init__(
        self, source: JobSource, batch: Batch, scheduler: KubeScheduler, sink: Sink
    ) -> None:
        self.all: dict[str, BatchJob] = {}
        """In order of submission."""
        self.waiting: dict[str, BatchJob] = {}
        self._source = source
        self._batch = batch
        self._scheduler = scheduler
        self._sink = sink
        self._wakes: list[tuple[float, str]] = []

    def submit(self, now_seconds: float) -> None:
        """Queue the jobs that are due."""
        for spec in self._source.due(now_seconds, len(self.waiting)):
            job = BatchJob(spec, self._batch)
            self.all[spec.id] = self.waiting[spec.id] = job
            self._sink(job.line(now_seconds))

    def start(self, job: BatchJob, pods: int, loan: snapshot.Loan, now_seconds: float) -> None:
        """Resume a queued job with `pods` pods, as a loan."""
        del self.waiting[job.spec.id]
        job.suspended = False
        job.loan = loan
        job.started_seconds = now_seconds
        job.run.attempt += 1
        job.made_pods = 0
        self._sink(LoanLine(now_seconds, loan.id, loan.gpus, loan.return_by_seconds))
        self._add_pods(job, pods, now_seconds)

    def notify(self, job: BatchJob, deadline: float, for_role: str, now_seconds: float) -> None:
        """Give notice to a job whose pods are bound, or will be."""
        job.notice_for = for_role
        job.run.notify(deadline, now_seconds)
        self._changed(job, now_seconds)

    def stop(self, job: BatchJob, now_seconds: float) -> None:
        """Suspend the job and send SIGTERM to its pods."""
        job.suspended = True
        self._scheduler.remove(job.pods)
        job.pods = [pod for pod in job.pods if pod.node]
        job.run.terminate(now_seconds)
        if job.run.phase == "idle":
            # The gang was not whole yet; what is bound of it leaves pod by pod.
            self._send_away(job, list(job.pods), now_seconds)
        self._changed(job, now_seconds)
        if not job.held():
            self._requeue(job, now_seconds)

    def resize(
        self, job: BatchJob, pods: int, release: tuple[str, ...], now_seconds: float
    ) -> None:
        """Change the number of pods of a running gang; the pods named go first."""
        named = [pod for pod in job.pods if pod.name in release]
        others = [pod for pod in reversed(job.pods) if pod not in named]
        surplus = max(0, len(job.pods) - pods)
        self._send_away(job, (named + others)[:surplus], now_seconds)
        if pods > len(job.pods):
            self._add_pods(job, pods - len(job.pods), now_seconds)
        job.run.resize(sum(1 for pod in job.pods if pod.node), now_seconds)
        self._changed(job, now_seconds)

    def bound(self, pod: Pod, now_seconds: float) -> None:
        """Take note that a pod was bound; the gang begins with its last pod."""
        job = self.all[pod.holder]
        there = sum(1 for one in job.pods if one.node)
        if job.run.phase != "idle":
            job.run.resize(there, now_seconds)
        elif there == len(job.pods):
            job.run.start(there, now_seconds)
        self._changed(job, now_seconds)

    def advance(self, now_seconds: float) -> None:
        """Pass through what is due by now."""
        while self._wakes and self._wakes[0][0] <= now_seconds:
            due, name = heapq.heappop(self._wakes)
            job = self.all.get(name)
            if job is not None and due == self._wakes_seconds(job):
                self._pass(job, now_seconds)

    def lose(self, pod: Pod, now_seconds: float) -> None:
        """A pod is torn away: the whole gang goes with it, a pod that was leaving goes alone."""
        job = self.all[pod.holder]
        if pod in job.pods:
            self._scheduler.remove(job.pods)
            job.run.tear_away(now_seconds)
            self._requeue(job, now_seconds)
        elif pod.node:
            job.leaving = [(at, one) for at, one in job.leaving if one is not pod]
            _release([pod])
            if job.suspended and not job.held():
                self._requeue(job, now_seconds)
            else:
                self._changed(job, now_seconds)

    def _pass(self, job: BatchJob, now_seconds: float) -> None:
        before = job.state
        job.run.advance(now_seconds)
        gone = [pod for at, pod in job.leaving if at <= now_seconds]
        job.leaving = [(at, pod) for at, pod in job.leaving if at > now_seconds]
        _release(gone)
        if job.run.phase == "done":
            self._finish(job, now_seconds)
        elif job.suspended and job.run.phase == "idle" and not job.leaving:
            self._requeue(job, now_seconds)
        elif gone or job.state != before:
            self._changed(job, now_seconds)
        else:
            self._wake(job)

    def _finish(self, job: BatchJob, now_seconds: float) -> None:
        self._scheduler.remove(job.pods)
        _release(job.held())
        job.loan = None
        self._sink(job.line(now_seconds))
        del self.all[job.spec.id]

    def _requeue(self, job: BatchJob, now_seconds: float) -> None:
        _release(job.held())
        job.pods, job.leaving, job.loan = [], [], None
        job.suspended, job.notice_for, job.started_seconds = True, "", None
        self.waiting[job.spec.id] = job
        self._changed(job, now_seconds)

    def _add_pods(self, job: BatchJob, count: int, now_seconds: float) -> None:
        spec = job.spec
        prefix = f"{spec.id}-{job.run.attempt}"
        pods = [
            Pod(f"{prefix}-{index}", spec.id, spec.gpus_per_pod)
            for index in range(job.made_pods, job.made_pods + count)
        ]
        job.pods += pods
        job.made_pods += count
        job.changed()
        self._scheduler.add(
            Waiting.of(pod, spec.id, spec.priority, spec.gpu_models, now_seconds) for pod in pods
        )

    def _send_away(self, job: BatchJob, pods: list[Pod], now_seconds: float) -> None:
        self._scheduler.remove(pods)
        job.pods = [pod for pod in job.pods if pod not in pods]
        gone_seconds = now_seconds + self._batch.exit_seconds
        job.leaving += [(gone_seconds, pod) for pod in pods if pod.node]

    def _changed(self, job: BatchJob, now_seconds: float) -> None:
        job.changed()
        self._sink(job.line(now_seconds))
        self._wake(job)

    def _wake(self, job: BatchJob) -> None:
        due = self._wakes_seconds(job)
        if due < inf:
            heapq.heappush(self._wakes, (due, job.spec.id))

    def _wakes_seconds(self, job: BatchJob) -> float:
        return min([job.run.wakes_seconds, *(at for at, _ in job.leaving)])


def _release(pods: list[Pod]) -> None:
    for pod in pods:
        if pod.node:
            pod.node.release(pod)
