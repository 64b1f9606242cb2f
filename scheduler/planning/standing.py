"""What the extender answers from: the newest snapshot and plan, reduced to what a verdict needs.

The daemon makes a `Standing` after each observation and sends it to every process that answers
kube-scheduler; `verdicts` reads it. It is small, carries its own times, and is complete: nothing
in an answer comes from anywhere else, except binds that are newer than it.

The contract with the planner: a reservation in the plan means that its replica or job is not
wholly bound in the snapshot. Where some of its pods are bound, `bound` names them.
"""

from collections.abc import Iterator

import msgspec

from scheduler.planning.actions import Plan, ResizeJob, ScaleRole, StopJob
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import Job, Pod, Replica, Reservation, Snapshot

OWNER_ANNOTATION = "tidal.dev/owner"
"""Role key or job id of a pod; an annotation, because a label's value may hold no slash."""
GROUP_ANNOTATION = "tidal.dev/group"
"""Replica or job id that a pod shares with its siblings; absent where a replica is one pod."""

BIND_MEMORY_SECONDS = 120.0
"""How long a bind that no snapshot shows is believed."""


class PodAsk(msgspec.Struct, frozen=True, kw_only=True):
    """A pod that kube-scheduler asks about."""

    uid: str
    name: str
    namespace: str = "default"
    owner: str = ""
    """Role key or job id; empty for a pod that Tidal does not know."""
    group: str = ""
    gpus: int
    resource: str = "nvidia.com/gpu"
    priority: int = 0
    nominated: str = ""
    """Node that kube-scheduler freed for this pod by preemption."""


class Bind(msgspec.Struct, frozen=True, kw_only=True):
    """A pod on its node; `at_seconds` says since when, as far as the extender knows."""

    uid: str
    owner: str
    group: str
    node: str
    gpus: int
    at_seconds: float


class Sibling(msgspec.Struct, frozen=True, array_like=True):
    """A bound pod of a group of which other pods still wait."""

    uid: str
    owner: str
    group: str
    node: str
    gpus: int
    fills: bool
    """Whether it stands in a reserved part; pods of a running job that grows do not."""


class Place(msgspec.Struct, frozen=True, array_like=True):
    """One node, in whole GPUs."""

    name: str
    leaf: tuple[str, ...]
    resource: str
    free: int
    releasing: int
    """Held by pods that the plan sends away; kube-scheduler knows first when they are gone."""
    total: int
    schedulable: bool


class Victim(msgspec.Struct, frozen=True, array_like=True):
    """A pod of a job that the plan stops or shrinks; no other pod may be evicted."""

    uid: str
    node: str
    gpus: int


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """All that verdicts depend on, at `now_seconds`."""

    now_seconds: float
    planned_at_seconds: float
    epoch: int = 0
    plan_stale_seconds: float
    heuristic_stale_seconds: float
    nodes: tuple[Place, ...]
    reservations: tuple[Reservation, ...] = ()
    bound: tuple[Sibling, ...] = ()
    victims: tuple[Victim, ...] = ()
    seen: tuple[str, ...] = ()
    """Uids of bound pods that an extender may still remember as its own bind."""


def standing_of(snapshot: Snapshot, plan: Plan, policy: Policy) -> Standing:
    """Return what the extender answers from until the next observation."""
    leaving = tuple(_leaving(snapshot, plan))
    return Standing(
        now_seconds=snapshot.now_seconds,
        planned_at_seconds=plan.at_seconds,
        epoch=snapshot.epoch,
        plan_stale_seconds=policy.extender.plan_stale_seconds,
        heuristic_stale_seconds=policy.extender.heuristic_stale_seconds,
        nodes=_places(snapshot, (*leaving, *_retiring(snapshot, plan))),
        reservations=plan.reservations,
        bound=(*_replica_siblings(snapshot), *_job_siblings(snapshot)),
        victims=tuple(Victim(pod.uid, pod.node, pod.gpus) for pod in leaving),
        seen=tuple(_seen(snapshot)),
    )


def _leaving(snapshot: Snapshot, plan: Plan) -> Iterator[Pod]:
    """Bound pods of jobs that stop, and pods that a shrinking job releases."""
    stopped = {action.job for action in plan.actions if isinstance(action, StopJob)}
    resized = (action for action in plan.actions if isinstance(action, ResizeJob))
    released = {(action.job, pod) for action in resized for pod in action.release}
    for job in snapshot.jobs:
        whole = job.state == "stopping" or job.id in stopped
        for pod in job.placed:
            if pod.node and (whole or (job.id, pod.name) in released):
                yield pod


def _retiring(snapshot: Snapshot, plan: Plan) -> Iterator[Pod]:
    """Bound pods of replicas that drain, or that the plan retires."""
    scaled = (action for action in plan.actions if isinstance(action, ScaleRole))
    retired = {replica for action in scaled for replica in action.retire}
    for replica in snapshot.replicas:
        if replica.state == "draining" or replica.id in retired:
            yield from (pod for pod in replica.pods if pod.node)


def _places(snapshot: Snapshot, going: tuple[Pod, ...]) -> tuple[Place, ...]:
    releasing: dict[str, int] = {}
    for pod in going:
        releasing[pod.node] = releasing.get(pod.node, 0) + pod.gpus
    return tuple(
        Place(
            name=node.name,
            leaf=node.leaf,
            resource=node.resource_name,
            free=node.free_gpus,
            releasing=releasing.get(node.name, 0),
            total=len(node.devices),
            schedulable=node.schedulable,
        )
        for node in snapshot.nodes
    )


def _replica_siblings(snapshot: Snapshot) -> Iterator[Sibling]:
    for replica in snapshot.replicas:
        if any(not pod.node for pod in replica.pods):
            for pod in replica.pods:
                if pod.node:
                    yield Sibling(pod.uid, replica.role, replica.id, pod.node, pod.gpus, fills=True)


def _job_siblings(snapshot: Snapshot) -> Iterator[Sibling]:
    for job in snapshot.jobs:
        bound = tuple(pod for pod in job.placed if pod.node)
        if len(bound) < max(job.pods, len(job.placed)):
            starts = job.state in {"queued", "starting"}
            for pod in bound:
                yield Sibling(pod.uid, job.id, job.id, pod.node, pod.gpus, fills=starts)


def _seen(snapshot: Snapshot) -> Iterator[str]:
    """Uids of pods that may have been bound within the memory of binds, and of strangers."""
    since = snapshot.now_seconds - 2 * BIND_MEMORY_SECONDS  # a job may start before its last bind
    for replica in snapshot.replicas:
        if _fresh_replica(replica, since):
            yield from (pod.uid for pod in replica.pods if pod.node)
    for job in snapshot.jobs:
        if _fresh_job(job, since):
            yield from (pod.uid for pod in job.placed if pod.node)
    known = {replica.id for replica in snapshot.replicas} | {job.id for job in snapshot.jobs}
    for node in snapshot.nodes:
        for device in node.devices:
            yield from (holder.owner for holder in device.holders if holder.owner not in known)


def _fresh_replica(replica: Replica, since: float) -> bool:
    return replica.ready_seconds is None or replica.ready_seconds >= since


def _fresh_job(job: Job, since: float) -> bool:
    elastic = job.min_pods != job.max_pods
    return elastic or job.started_seconds is None or job.started_seconds >= since
