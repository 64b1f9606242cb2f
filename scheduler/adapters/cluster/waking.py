"""Wakes pods that wait for a plan: kube-scheduler tries a pod again once it is changed.

A pod that the extender refused is looked at again only when something happens in the cluster that
kube-scheduler thinks may help; a new plan is no such thing. So pods that wait get an annotation
that changes with the reservations of their owner: a digest of them, and the minute.

The minute wakes who still waits once more. An extender takes a plan in a moment after it was sent
or shared, so kube-scheduler may have asked one that did not know it yet, and looks by itself only
after five minutes. A pod that was woken for its plan in this minute is not patched again, also not
by the next planner.
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
"""Pods patched in one call, those with a new plan first; the others follow in the next."""
AGAIN_SECONDS = 60


class Waking:
    """Patches waiting pods."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def wake(self, reservations: tuple[Reservation, ...], gangs: Gangs) -> None:
        """Wake the pods whose owners' reservations are new to them.

        Raises ApiUnreachableError.
        """
        minute = int(self._cluster.now_seconds() // AGAIN_SECONDS)
        for pod, told in to_wake(reservations, gangs, minute)[:MOST_WOKEN]:
            self._wake(pod, told)

    def _wake(self, pod: Pod, told: str) -> None:
        body = {"metadata": {"uid": pod.metadata.uid, "annotations": {marks.PLAN: told}}}
        with contextlib.suppress(ApiError):  # gone, or tried again in the next call
            self._cluster.api.patch(pod_path(pod), body, "merge", fieldManager=FIELD_MANAGER)


def to_wake(
    reservations: tuple[Reservation, ...], gangs: Gangs, minute: int
) -> tuple[tuple[Pod, str], ...]:
    """Return the pods that wait and were not woken for their owner's reservations in this minute,
    with what they are told.
    """
    kept: dict[str, list[Reservation]] = {}
    for one in sorted(reservations, key=lambda one: one.id):
        kept.setdefault(one.owner, []).append(one)
    found = (
        (pod, f"{digest}.{minute}")
        for owner, digest in sorted((owner, _digest(own)) for owner, own in kept.items())
        for pod in gangs.pods(owner)
        if _waits(pod) and _known(pod) != f"{digest}.{minute}"
    )
    return tuple(sorted(found, key=_new_plans_first))


def _new_plans_first(one: tuple[Pod, str]) -> tuple[bool, str, str]:
    """Order by whether the pod knows the plan from an earlier minute, then the oldest first."""
    pod, told = one
    again = _known(pod).partition(".")[0] == told.partition(".")[0]
    return again, pod.metadata.creation_timestamp or "", name_of(pod)


def _known(pod: Pod) -> str:
    return pod.metadata.annotations.get(marks.PLAN, "")


def _waits(pod: Pod) -> bool:
    return not (pod.spec.node_name or pod.spec.scheduling_gates or leaving(pod))


def _digest(reservations: list[Reservation]) -> str:
    """What changes a verdict: which GPUs are kept. A renewed time does not."""
    kept = [(one.id, one.parts) for one in reservations]
    return hashlib.sha256(msgspec.json.encode(kept)).hexdigest()[:16]
