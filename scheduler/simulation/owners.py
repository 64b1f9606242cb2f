"""The owners of batch Jobs on a real cluster: what their processes would do, and what they made.

Nothing runs in a fake kubelet's pod. Here each Job has the life of `batch.Run`, led by what
snapshots show of it: bound, noticed, stopped. From that life come the annotations that a job's
own agent would write (checkpoints, acknowledgements), how long its pods run, and its progress.
One owner for all Jobs; the caller writes what it asks for.
"""

from collections.abc import Iterator, Mapping
from copy import copy
from typing import Literal

import msgspec

from scheduler.planning.snapshot import Job
from scheduler.simulation.batch import Run
from scheduler.simulation.chronicle import gpus_of
from scheduler.simulation.events import JobLine
from scheduler.simulation.jobs import JobSpec
from scheduler.simulation.worldfile import Batch


class Course(msgspec.Struct, frozen=True):
    """What a pod of the next run does where nobody interferes."""

    start_seconds: float
    run_seconds: float


class Told(msgspec.Struct, frozen=True):
    """What the job's agent tells now; None: nothing new."""

    job: str
    last_checkpoint_seconds: float | None = None
    acknowledged_seconds: float | None = None
    """The deadline that is acknowledged."""
    course: Course | None = None
    """Of the next run; the Job is suspended."""


class _Life:
    """One Job."""

    def __init__(self, spec: JobSpec, batch: Batch) -> None:
        self.run = Run(spec, batch)
        self.spec = spec
        self.checkpoint_told: float | None = None
        self.acknowledged = False
        self.attempts = 0
        """Runs whose course stands on the Job."""
        self.line: JobLine | None = None


def course(run: Run) -> Course:
    """Return the course of the next run; `run` is left as it is."""
    trial = copy(run)
    trial.start(trial.spec.pods, 0.0)
    starts = at = trial.wakes_seconds
    while trial.phase != "done":
        at = trial.wakes_seconds
        trial.advance(at)
    return Course(starts, at - starts)


class Owners:
    """All Jobs of one run; times are those of the snapshots."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._lives: dict[str, _Life] = {}
        self.finished = 0

    def submit(self, job: str, spec: JobSpec) -> Course:
        """Take a new Job, `namespace/name`; return what its pods do."""
        life = self._lives[job] = _Life(spec, self._batch)
        return course(life.run)

    def withdraw(self, job: str) -> None:
        """Forget a Job that could not be made."""
        del self._lives[job]

    @property
    def waiting(self) -> int:
        """How many Jobs wait, those included that no snapshot has shown yet."""
        lines = (life.line for life in self._lives.values())
        return sum(1 for line in lines if line is None or line.state == "queued")

    def look(
        self, jobs: Mapping[str, Job], now_seconds: float, *, census: bool = False
    ) -> Iterator[Told | JobLine]:
        """Follow the Jobs of a snapshot; yield what is told and what has changed, in order.

        A Job that ran and is in no snapshot any more has finished. A census yields a line for each.
        """
        for name, life in list(self._lives.items()):
            job = jobs.get(name)
            if job is not None:
                yield from self._followed(life, job, now_seconds, census=census)
            elif life.line is not None:
                yield self._ended(name, life, now_seconds)

    def _followed(
        self, life: _Life, job: Job, now: float, *, census: bool
    ) -> Iterator[Told | JobLine]:
        run = life.run
        run.advance(now)
        if job.state in ("queued", "stopping"):
            run.terminate(now)
        elif run.phase == "idle" and len(job.parts) == job.pods:
            life.attempts += 1
            life.acknowledged = False
            run.start(job.pods, now)
        elif job.notice_deadline_seconds is not None and not run.noticed:
            run.notify(job.notice_deadline_seconds, now)
        told = _told(life, job)
        if told is not None:
            yield told
        line = _line(life, job, now)
        if census or life.line is None or _changed(life.line, line):
            life.line = line
            yield line

    def _ended(self, name: str, life: _Life, now: float) -> JobLine:
        """Pods ended when their course did; between two looks nobody knows better."""
        del self._lives[name]
        self.finished += 1
        lost = life.run.lost_gpu_seconds(now)
        return JobLine(now, name, life.spec.tenant, "done", (), life.spec.work_gpu_seconds, lost)


def _told(life: _Life, job: Job) -> Told | None:
    run = life.run
    saved, deadline = run.last_checkpoint_seconds, job.notice_deadline_seconds
    told = Told(job.id)
    if saved != life.checkpoint_told:
        life.checkpoint_told = saved
        told = msgspec.structs.replace(told, last_checkpoint_seconds=saved)
    if run.phase == "paused" and deadline is not None and not life.acknowledged:
        life.acknowledged = True
        told = msgspec.structs.replace(told, acknowledged_seconds=deadline)
    if job.state == "queued" and run.phase == "idle" and life.attempts:
        life.attempts = 0
        told = msgspec.structs.replace(told, course=course(run))
    return None if told == Told(job.id) else told


def _line(life: _Life, job: Job, now: float) -> JobLine:
    run = life.run
    return JobLine(
        now,
        job.id,
        life.spec.tenant,
        _STATES[job.state],
        gpus_of(job.placed),
        run.kept_gpu_seconds(now),
        run.lost_gpu_seconds(now),
    )


_STATES: dict[str, Literal["queued", "running", "notified", "stopped"]] = {
    "queued": "queued",
    "starting": "running",
    "running": "running",
    "notified": "notified",
    "acknowledged": "notified",
    "stopping": "stopped",
}


def _changed(before: JobLine, now: JobLine) -> bool:
    """True where state or GPUs are new; progress alone is told with the next change."""
    return before.state != now.state or before.gpus != now.gpus
