"""Jobs that give way: each is carried along the disruption contract by what was observed of it.

The contract itself is `preemption.contract`; this module reads a job's state off the snapshot and
turns the contract's instructions into actions. A job already told to stop is Stopping in the
snapshot, so nothing is told twice.
"""

from preemption.contract import (
    Acknowledgement,
    Alive,
    Notified,
    Notify,
    Running,
    StopNow,
    Wanted,
    step,
)
from scheduler.planning.actions import NotifyJob, StopJob
from scheduler.planning.snapshot import Job, Snapshot


def due_stops(snapshot: Snapshot) -> tuple[StopJob, ...]:
    """Return a stop for every job that acknowledged its notice or let the deadline pass."""
    stops = []
    for job in snapshot.jobs:
        if job.state not in ("notified", "acknowledged") or job.notice_deadline_seconds is None:
            continue
        done = job.state == "acknowledged"
        seen = Acknowledgement() if done else Alive()
        _, told = step(Notified(job.notice_deadline_seconds), seen, snapshot.now_seconds)
        if isinstance(told, StopNow):
            stops.append(_settle(job, acknowledged=done))
    return tuple(stops)


def recall(
    job: Job, for_role: str, now_seconds: float, notice_seconds: float
) -> NotifyJob | StopJob:
    """Return what a running job is told whose GPUs are wanted."""
    _, told = step(Running(), Wanted(_useful_notice(job, notice_seconds)), now_seconds)
    if isinstance(told, Notify):
        return NotifyJob(
            job=job.id,
            expected_attempt=job.attempt,
            deadline_seconds=told.deadline_seconds,
            for_role=for_role,
            code="recall",
            sentence=f"{for_role} needs {job.gpus} GPUs of {job.id}: "
            f"{notice_seconds:.0f} s to write a checkpoint",
        )
    write = job.checkpoint_write_seconds
    why = "writes none on notice" if write is None else f"needs {write:.0f} s for a checkpoint"
    return StopJob(
        job=job.id,
        expected_attempt=job.attempt,
        for_role=for_role,
        code="recall_now",
        sentence=f"{for_role} needs {job.gpus} GPUs of {job.id} now; it {why}",
    )


def move(job: Job, node: str, now_seconds: float, notice_seconds: float) -> NotifyJob | None:
    """Return the notice to a job that moves so that `node` comes free; None where it cannot."""
    _, told = step(Running(), Wanted(_useful_notice(job, notice_seconds)), now_seconds)
    if not isinstance(told, Notify):
        return None
    return NotifyJob(
        job=job.id,
        expected_attempt=job.attempt,
        deadline_seconds=told.deadline_seconds,
        for_role="",
        code="consolidate",
        sentence=f"{job.id} moves its {job.gpus} GPUs off {node}, so that a whole node comes free",
    )


def _useful_notice(job: Job, notice_seconds: float) -> float:
    """Return the notice, or 0 where the job could not save its work within it."""
    write = job.checkpoint_write_seconds
    useful = write is not None and write <= notice_seconds and job.state == "running"
    return notice_seconds if useful else 0.0


def _settle(job: Job, *, acknowledged: bool) -> StopJob:
    what = "wrote its checkpoint" if acknowledged else "let its notice pass"
    whither = f"its GPUs go to {job.notice_for}" if job.notice_for else "its node comes free"
    return StopJob(
        job=job.id,
        expected_attempt=job.attempt,
        for_role=job.notice_for,
        code="acknowledged" if acknowledged else "deadline",
        sentence=f"{job.id} {what}; {whither}",
    )
