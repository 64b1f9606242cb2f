"""A pod as the snapshot needs it: whose it is, what it holds, how far it has come.

First step from objects to a snapshot. A pod whose phase is Succeeded or Failed holds nothing and
is `over`; a terminating one holds its GPUs until its object is gone, whatever its conditions say.
"""

from collections.abc import Iterable
from functools import lru_cache

import msgspec

from scheduler.apiserver import objects
from scheduler.apiserver.requests import cpu_and_memory, gpus_of, part_asked
from scheduler.apiserver.sharing import Part, Taken, taken_of
from scheduler.apiserver.times import seconds
from scheduler.planning.targets import Identity, Marks, Targets

RESOLUTION_SECONDS = 1.0
BEFORE_SECONDS = 0.001


class PodFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One pod; all that is derived from its object alone."""

    uid: str
    name: str
    namespace: str
    owner: str
    """Role key or job id, empty for a stranger."""
    group: str
    """Replica or job id."""
    gpus: int
    """Whole cards; one where it asks a part of it."""
    part: Part | None = None
    """Of one card."""
    taken: tuple[Taken, ...] = ()
    """What it holds of which cards, where that is told."""
    cpu_milli: int
    memory_mib: int
    node: str
    created_seconds: float
    bound_seconds: float | None
    bound_by_seconds: float | None
    """Latest time at which it can have been bound: the API counts whole seconds, and a pod must not
    look older than the reservation that it fills."""
    ready_seconds: float | None
    """Since when the pod is Ready; None while it is not, or is on its way out."""
    first_ready_seconds: float | None
    """When it was seen Ready first; a later container restart does not move it."""
    running: bool
    terminating: bool
    over: bool
    labels: dict[str, str]
    annotations: dict[str, str]

    @property
    def holds(self) -> bool:
        """Whether the pod holds devices of its node."""
        return bool(self.node) and not self.over and self.gpus > 0


def marks_of(meta: objects.Meta) -> Marks:
    """Return what of a pod's metadata says whose it is."""
    controller = meta.controller
    return Marks(
        namespace=meta.namespace,
        name=meta.name,
        labels=meta.labels,
        annotations=meta.annotations,
        controller_kind=controller.kind,
        controller_name=controller.name,
    )


def facts_of(
    pod: objects.Pod,
    targets: Targets,
    resources: Iterable[str],
    now_seconds: float,
    before: PodFacts | None = None,
) -> PodFacts:
    """Return the facts; `before` are those of an earlier version of the same pod."""
    meta, status = pod.metadata, pod.status
    resource, gpus = gpus_of(pod.spec, resources)
    cpu_milli, memory_mib = cpu_and_memory(pod.spec)
    owner = targets.identify(marks_of(meta))
    ready = None if meta.deletion_timestamp else moment(status.conditions, "Ready")
    known = before.first_ready_seconds if before else None
    return PodFacts(
        uid=meta.uid,
        name=meta.name,
        namespace=meta.namespace,
        owner=owner.owner,
        group=_group(meta, owner),
        gpus=gpus,
        part=part_asked(pod.spec, resource),
        taken=taken_of(meta.annotations),
        cpu_milli=cpu_milli,
        memory_mib=memory_mib,
        node=pod.spec.node_name,
        created_seconds=time_of(meta.creation_timestamp) or 0.0,
        bound_seconds=_bound(pod),
        bound_by_seconds=_bound_by(pod, now_seconds, before),
        ready_seconds=ready,
        first_ready_seconds=ready if known is None else known,
        running=status.phase == "Running",
        terminating=meta.deletion_timestamp is not None,
        over=status.phase in ("Succeeded", "Failed"),
        labels=meta.labels,
        annotations=meta.annotations,
    )


@lru_cache(maxsize=65536)
def time_of(text: str | None) -> float | None:
    """Return Unix seconds of a time that the API server wrote."""
    return seconds(text) if text else None


def moment(conditions: Iterable[objects.Condition], kind: str) -> float | None:
    """Return since when the condition is True; None where it is not."""
    for one in conditions:
        if one.type == kind:
            return (time_of(one.last_transition_time) or 0.0) if one.status == "True" else None
    return None


def _group(meta: objects.Meta, owner: Identity) -> str:
    return owner.group or f"{meta.namespace}/{meta.name}"


def _bound_by(pod: objects.Pod, now_seconds: float, before: PodFacts | None) -> float | None:
    """Return the end of the second in which it was bound, or when it was first seen so."""
    if before is not None and before.bound_by_seconds is not None:
        return before.bound_by_seconds
    at = _bound(pod)
    return None if at is None else min(at + RESOLUTION_SECONDS, now_seconds - BEFORE_SECONDS)


def _bound(pod: objects.Pod) -> float | None:
    """A bound pod whose conditions are not written yet counts from its creation."""
    if not pod.spec.node_name:
        return None
    scheduled = moment(pod.status.conditions, "PodScheduled")
    if scheduled is not None:
        return scheduled
    return time_of(pod.status.start_time) or time_of(pod.metadata.creation_timestamp)
