"""Jobs that give way: each is carried along the disruption contract by what was observed of it.

The contract itself is `preemption.contract`; this module reads a job's state off the snapshot and
turns the contract's instructions into actions. A job already told to stop is Stopping in the
snapshot, so nothing is told twice. A job under notice that must not be evicted when its time has
come (its owner changed his mind, a disruption budget has no room) runs on until it may be.
"""

from collections.abc import Iterable, Iterator

from preemption.contract import (
    Acknowledgement,
    Alive,
    Notified,
    Notify,
    Running,
    State,
    StopNow,
    Stopping,
    Transition,
    Wanted,
    step,
)
from preemption.victims import Demand
from scheduler.planning.actions import NotifyJob, ResizeJob, StopJob
from scheduler.planning.snapshot import Job, Reservation, Snapshot
from scheduler.planning.supply import releasable


def due_stops(snapshot: Snapshot) -> tuple[StopJob, ...]:
    """Return a stop for every job that acknowledged its notice or let the deadline pass."""
    stops = []
    for job in snapshot.jobs:
        state = state_of(job)
        if not isinstance(state, Notified) or not releasable(job):
            continue
        seen = Acknowledgement() if job.state == "acknowledged" else Alive()
        due = step(state, seen, snapshot.now_seconds)
        if due is not None:
            stops.append(_settle(job, due, _whither(job, snapshot)))
    return tuple(stops)


def stalled(
    snapshot: Snapshot, reserved: Iterable[Reservation], after: float
) -> Iterator[StopJob | ResizeJob]:
    """Yield a stop for every gang that is not whole `after` seconds and has no place reserved.

    Its place was lost before the last pod came; what is bound of it would hold GPUs for nothing.
    It has done no work, so that it is no victim, and goes back to its queue. An elastic one goes on
    without the pods that are missing.
    """
    coming = {reservation.owner for reservation in reserved}
    for job in snapshot.jobs:
        if job.state != "starting" or not job.attempt or job.started_seconds is None:
            continue
        waits_seconds = snapshot.now_seconds - job.started_seconds
        whole = len(job.parts) >= job.pods
        if waits_seconds < after or whole or job.id in coming or not releasable(job):
            continue
        if job.min_pods <= len(job.staying) and _last_are_missing(job):
            yield _without(job)
        else:
            yield StopJob(
                job=job.id,
                expected_attempt=job.attempt,
                for_role="",
                code="stalled",
                sentence=f"{job.id} has {len(job.parts)} of {job.pods} pods after "
                f"{waits_seconds:.0f} s and no place for the others; it waits in its queue again",
            )


def _last_are_missing(job: Job) -> bool:
    """Whether the pods without a node are the last ones, so that the job can do without them."""
    there = len(job.staying)
    return job.min_pods < job.pods and job.placed[:there] == job.staying


def _without(job: Job) -> ResizeJob:
    there = len(job.staying)
    return ResizeJob(
        job=job.id,
        expected_attempt=job.attempt,
        pods=there,
        release=tuple(pod.name for pod in job.placed[there:]),
        for_role="",
        code="stalled",
        sentence=f"{job.id} has {there} of {job.pods} pods and no place for the others; it goes on "
        "without them",
    )


def state_of(job: Job) -> State:
    """Return how far a job has come that waits for nothing, read off the snapshot alone.

    One that has acknowledged and was not stopped yet is Notified still, with an acknowledgement to
    be seen: whoever gave the notice may not be there any more.
    """
    if job.state in ("notified", "acknowledged") and job.notice_deadline_seconds is not None:
        return Notified(job.notice_deadline_seconds)
    return Stopping() if job.state == "stopping" else Running()


def recall(
    job: Job, for_role: str, now_seconds: float, notice_seconds: float
) -> NotifyJob | StopJob:
    """Return what a running job is told whose GPUs are wanted."""
    told = _told(job, notice_seconds, now_seconds)
    if isinstance(told, Notify):
        return NotifyJob(
            job=job.id,
            expected_attempt=job.attempt,
            deadline_seconds=told.deadline_seconds,
            for_role=for_role,
            code="recall",
            sentence=f"{for_role} needs {job.amount} of {job.id}: "
            f"{notice_seconds:.0f} s to write a checkpoint",
        )
    write = job.checkpoint_write_seconds
    why = "writes none on notice" if write is None else f"needs {write:.0f} s for a checkpoint"
    return StopJob(
        job=job.id,
        expected_attempt=job.attempt,
        for_role=for_role,
        code="recall_now",
        sentence=f"{for_role} needs {job.amount} of {job.id} now; it {why}",
    )


def give_up(job: Job, demand: Demand, for_role: str) -> ResizeJob:
    """Return what an elastic job is told that goes on without its last pods."""
    staying = job.staying
    gone = staying[len(staying) - demand.pods :]
    return ResizeJob(
        job=job.id,
        expected_attempt=job.attempt,
        pods=len(staying) - demand.pods,
        release=tuple(pod.name for pod in gone),
        for_role=for_role,
        code="shrink",
        sentence=f"{for_role} needs {sum(pod.gpus for pod in gone)} GPUs of {job.id}: "
        f"it runs on with {len(staying) - demand.pods} of {len(staying)} pods",
    )


def move(job: Job, node: str, now_seconds: float, notice_seconds: float) -> NotifyJob | None:
    """Return the notice to a job that moves so that `node` comes free; None where it cannot."""
    told = _told(job, notice_seconds, now_seconds)
    if not isinstance(told, Notify):
        return None
    return NotifyJob(
        job=job.id,
        expected_attempt=job.attempt,
        deadline_seconds=told.deadline_seconds,
        for_role="",
        code="consolidate",
        sentence=f"{job.id} moves its {job.amount} off {node}, so that a whole node comes free",
    )


def _told(job: Job, notice_seconds: float, now_seconds: float) -> Notify | StopNow | None:
    """Return what the contract tells a running job whose GPUs are wanted."""
    due = step(Running(), Wanted(_useful_notice(job, notice_seconds)), now_seconds)
    return due.told if due else None


def _useful_notice(job: Job, notice_seconds: float) -> float:
    """Return the notice, or 0 where the job could not save its work within it."""
    write = job.checkpoint_write_seconds
    useful = write is not None and write <= notice_seconds and job.state == "running"
    return notice_seconds if useful else 0.0


def _whither(job: Job, snapshot: Snapshot) -> str:
    """Return what becomes of its GPUs; a notice is not taken back, whatever happened since."""
    if not job.notice_for:
        return "its node comes free"
    nodes = {node for node, _ in job.parts}
    kept = (one for one in snapshot.reservations if one.owner == job.notice_for)
    if any(node in nodes for one in kept for node, _ in one.parts):
        return f"its GPUs go to {job.notice_for}"
    return f"{job.notice_for} does not need its GPUs any more; it may start again"


def _settle(job: Job, due: Transition, whither: str) -> StopJob:
    acknowledged = due.cause == "acknowledged"
    what = "wrote its checkpoint" if acknowledged else "let its notice pass"
    return StopJob(
        job=job.id,
        expected_attempt=job.attempt,
        for_role=job.notice_for,
        code="acknowledged" if acknowledged else "deadline",
        sentence=f"{job.id} {what}; {whither}",
    )
