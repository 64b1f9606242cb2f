"""Wakes pods that wait for a plan: kube-scheduler tries a pod again once it is changed.

A pod that the extender refused is looked at again only when something happens in the cluster that
kube-scheduler thinks may help; a new plan is no such thing. So pods that wait get an annotation
that changes with the reservations of their owner. It is a digest of them, so a pod that has been
woken for a plan is not patched again, also not by the next planner.
"""

import contextlib
import hashlib

import msgspec

from scheduler.adapters.cluster.drivers.gangs import Gangs, leaving, name_of, pod_path
from scheduler.adapters.cluster.drivers.writing import Cluster
from scheduler.apiserver.client import FIELD_MANAGER, ApiError
from scheduler.apiserver.objects import Pod
from scheduler.planning import marks
from scheduler.planning.snapshot import Reservation

MOST_WOKEN = 200
"""Pods patched in one call; the others follow in the next."""


class Waking:
    """Patches waiting pods."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def wake(self, reservations: tuple[Reservation, ...], gangs: Gangs) -> None:
        """Wake the pods whose owners' reservations are new to them.

        Raises ApiUnreachableError.
        """
        for pod, digest in to_wake(reservations, gangs)[:MOST_WOKEN]:
            self._wake(pod, digest)

    def _wake(self, pod: Pod, digest: str) -> None:
        body = {"metadata": {"uid": pod.metadata.uid, "annotations": {marks.PLAN: digest}}}
        with contextlib.suppress(ApiError):  # gone, or tried again in the next call
            self._cluster.api.patch(pod_path(pod), body, "merge", fieldManager=FIELD_MANAGER)


def to_wake(reservations: tuple[Reservation, ...], gangs: Gangs) -> tuple[tuple[Pod, str], ...]:
    """Return the pods that wait and do not know their owner's reservations, with the digest."""
    kept: dict[str, list[Reservation]] = {}
    for one in sorted(reservations, key=lambda one: one.id):
        kept.setdefault(one.owner, []).append(one)
    found = (
        (pod, digest)
        for owner, digest in sorted((owner, _digest(own)) for owner, own in kept.items())
        for pod in gangs.pods(owner)
        if _waits(pod) and pod.metadata.annotations.get(marks.PLAN) != digest
    )
    return tuple(sorted(found, key=_oldest_first))


def _oldest_first(one: tuple[Pod, str]) -> tuple[str, str]:
    return one[0].metadata.creation_timestamp or "", name_of(one[0])


def _waits(pod: Pod) -> bool:
    return not (pod.spec.node_name or pod.spec.scheduling_gates or leaving(pod))


def _digest(reservations: list[Reservation]) -> str:
    """What changes a verdict: which GPUs are kept. A renewed time does not."""
    kept = [(one.id, one.parts) for one in reservations]
    return hashlib.sha256(msgspec.json.encode(kept)).hexdigest()[:16]
