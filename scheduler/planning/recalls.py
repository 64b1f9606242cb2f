"""Jobs under notice: carries each one step along the disruption contract.

Uses `preemption.contract` for what comes next. A job that acknowledged, or whose deadline
passed, is told to stop, once per attempt.
"""

from scheduler.planning.actions import NotifyJob, StopJob
from scheduler.planning.snapshot import Job, Snapshot


def due_stops(snapshot: Snapshot) -> tuple[StopJob, ...]:
    """Return a stop for every job that acknowledged its notice or let the deadline pass."""
    stops = []
    for job in snapshot.jobs:
        if job.state == "acknowledged":
            stops.append(_stop(job, "acknowledged", f"{job.id} wrote its checkpoint"))
        elif job.state == "notified" and _overdue(job, snapshot.now_seconds):
            stops.append(_stop(job, "deadline", f"{job.id} let its notice pass"))
    return tuple(stops)


def recall(
    job: Job, for_role: str, now_seconds: float, notice_seconds: float
) -> NotifyJob | StopJob:
    """Return a notice where there is time and the job can use it, else a stop."""
    write = job.checkpoint_write_seconds
    if write is not None and 0 < write <= notice_seconds and job.state == "running":
        return NotifyJob(
            job=job.id,
            expected_attempt=job.attempt,
            deadline_seconds=now_seconds + notice_seconds,
            for_role=for_role,
            code="recall",
            sentence=f"{for_role} needs {job.gpus} GPUs of {job.id}: "
            f"{notice_seconds:.0f} s to write a checkpoint",
        )
    why = "writes none on notice" if write is None else f"needs {write:.0f} s for a checkpoint"
    return StopJob(
        job=job.id,
        expected_attempt=job.attempt,
        for_role=for_role,
        code="recall_now",
        sentence=f"{for_role} needs {job.gpus} GPUs of {job.id} now; it {why}",
    )


def _overdue(job: Job, now_seconds: float) -> bool:
    return job.notice_deadline_seconds is not None and job.notice_deadline_seconds <= now_seconds


def _stop(job: Job, code: str, sentence: str) -> StopJob:
    return StopJob(
        job=job.id,
        expected_attempt=job.attempt,
        for_role=job.notice_for,
        code="acknowledged" if code == "acknowledged" else "deadline",
        sentence=f"{sentence}; its GPUs go to {job.notice_for or 'online'}",
    )
