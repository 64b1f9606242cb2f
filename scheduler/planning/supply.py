"""Whole GPUs a new pod may count on, node by node, after reservations.

Before packing. Online requests may count on GPUs that are being released (a draining replica,
a job under notice); batch only on GPUs that are free now. Reservations that are neither filled
nor expired are taken off both.
"""

from collections import Counter
from collections.abc import Iterable

import msgspec

from binpacking.problem import Supply
from scheduler.planning.snapshot import Job, Parts, Pod, Replica, Reservation, Snapshot

NOTICED = ("notified", "acknowledged")


def open_reservations(snapshot: Snapshot) -> tuple[Reservation, ...]:
    """Return reservations still waiting for a pod, oldest first.

    A reservation is filled when each part has a pod of its owner, bound on that node since the
    reservation was made and not counted for an older one. It is void when it expired, when its
    role or job is gone, when a job has all its pods on nodes (others than planned, where nobody
    asked Tidal), or when a node of it is gone, takes no pods, or has fewer healthy GPUs than are
    reserved there. One that nothing fills yet counts from now on: the pods seen so far belong to
    others, which will be gone from the set when it is looked at again.
    """
    healthy = {
        node.name: sum(device.healthy for device in node.devices)
        for node in snapshot.nodes
        if node.schedulable
    }
    waiting = {job.id for job in snapshot.jobs if len(job.parts) < job.pods}
    owners = waiting.union(role.key for role in snapshot.roles)
    pods = _bound_pods(snapshot)
    found = []
    for reservation in sorted(snapshot.reservations, key=lambda r: (r.created_seconds, r.id)):
        filled = _fill(reservation, pods.get(reservation.owner, []))
        expired = reservation.expires_seconds <= snapshot.now_seconds
        asked = _gpus((reservation.parts,))
        lost = any(healthy.get(node, -1) < gpus for node, gpus in asked.items())
        lost = lost or reservation.owner not in owners
        if filled == len(reservation.parts) or expired or lost:
            continue
        for node, gpus in asked.items():
            healthy[node] -= gpus
        now = snapshot.now_seconds
        found.append(
            reservation if filled else msgspec.structs.replace(reservation, created_seconds=now)
        )
    return tuple(found)


def online_supplies(snapshot: Snapshot, reserved: Iterable[Reservation]) -> tuple[Supply, ...]:
    """Return GPUs free or being released, less what is reserved."""
    releasing = _gpus(_releasing(snapshot))
    taken = _reserved(reserved)
    return tuple(
        Supply(
            node.name,
            node.gpu_model,
            node.leaf,
            max(0, node.free_gpus + releasing[node.name] - taken[node.name])
            if node.schedulable
            else 0,
            len(node.devices),
        )
        for node in snapshot.nodes
    )


def batch_supplies(
    snapshot: Snapshot, reserved: Iterable[Reservation], keep_gpus: int
) -> tuple[Supply, ...]:
    """Return GPUs free now, less what is reserved, less `keep_gpus` kept empty for online."""
    taken = _reserved(reserved)
    supplies = []
    for node in snapshot.nodes:
        free = max(0, node.free_gpus - taken[node.name])
        kept = min(free, keep_gpus)
        keep_gpus -= kept
        supplies.append(
            Supply(node.name, node.gpu_model, node.leaf, free - kept, len(node.devices))
        )
    return tuple(supplies)


def _reserved(reservations: Iterable[Reservation]) -> Counter[str]:
    return _gpus(reservation.parts for reservation in reservations)


def _gpus(many: Iterable[Parts]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for parts in many:
        for node, gpus in parts:
            counted[node] += gpus
    return counted


def _releasing(snapshot: Snapshot) -> Iterable[Parts]:
    for replica in snapshot.replicas:
        if replica.state == "draining":
            yield replica.parts
    for job in snapshot.jobs:
        if job.state == "stopping" or (job.state in NOTICED and releasable(job)):
            yield job.parts
        else:
            yield tuple((pod.node, pod.gpus) for pod in job.placed if pod.node and pod.leaving)


def releasable(job: Job) -> bool:
    """Return whether a job under notice may still be stopped; else its GPUs come free by nobody."""
    return job.preemptible and not job.held_by


def _bound_pods(snapshot: Snapshot) -> dict[str, list[Pod]]:
    pods: dict[str, list[Pod]] = {}
    for replica in snapshot.replicas:
        _collect(pods, replica.role, replica)
    for job in snapshot.jobs:
        if job.placed:
            _collect(pods, job.id, job)
    return pods


def _collect(pods: dict[str, list[Pod]], owner: str, holder: Replica | Job) -> None:
    members = holder.pods if isinstance(holder, Replica) else holder.placed
    pods.setdefault(owner, []).extend(pod for pod in members if pod.node)


def _fill(reservation: Reservation, pods: list[Pod]) -> int:
    """Take the pods that fill the reservation out of `pods`; return how many parts have one."""
    filled = 0
    for node, gpus in reservation.parts:
        for pod in pods:
            since = pod.bound_seconds
            fits = pod.node == node and pod.gpus == gpus
            if fits and since is not None and since >= reservation.created_seconds:
                pods.remove(pod)
                filled += 1
                break
    return filled
