"""What a new pod may count on, node by node, after reservations.

Before packing. Online requests may count on GPUs that are being released (a draining replica,
a job under notice); batch only on GPUs that are free now. Reservations that are neither filled
nor expired are taken off both.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from binpacking.problem import Supply
from binpacking.shares import NO_SHARE, Held
from scheduler.planning.admission import admits
from scheduler.planning.beside import left
from scheduler.planning.sharers import (
    NONE_LEAVES,
    Backing,
    Leaving,
    cards_of,
    held_by,
    leaving_shares,
)
from scheduler.planning.snapshot import Job, Parts, Pod, Replica, Reservation, Role, Snapshot

NOTICED = ("notified", "acknowledged")

Told = Mapping[str, int]
"""Job -> pods that it was told to go on with, where the snapshot does not show it yet."""
NOBODY: Told = {}


def open_reservations(snapshot: Snapshot, told: Told = NOBODY) -> tuple[Reservation, ...]:
    """Return reservations still waiting for a pod, oldest first.

    A reservation is filled when each part has a pod of its owner, bound on that node since the
    reservation was made and not counted for an older one. It is void when it expired, when its
    role or job is gone, when a job has all its pods on nodes (others than planned, where nobody
    asked Tidal), when a node of it is gone, takes no pods or none of the owner's, or when its GPUs
    are neither free nor coming free: they broke, somebody took them, or whoever held them was not
    told to go after all. One that nothing fills yet counts from now on: the pods seen so far belong
    to others, which will be gone from the set when it is looked at again.
    """
    coming = _gpus(_releasing(snapshot, told))
    backing = Backing(snapshot, coming, _shares_leaving(snapshot, told))
    waiting = {job.id for job in snapshot.jobs if len(job.parts) < job.pods}
    owners = waiting.union(role.key for role in snapshot.roles)
    closed = _closed(snapshot)
    pods = _bound_pods(snapshot)
    found = []
    for reservation in sorted(snapshot.reservations, key=lambda r: (r.created_seconds, r.id)):
        unfilled = _unfilled(reservation, pods.get(reservation.owner, []))
        expired = reservation.expires_seconds <= snapshot.now_seconds
        shut = closed.get(reservation.owner, frozenset())
        gone = any(node not in backing.gpus or node in shut for node, _ in reservation.parts)
        void = not unfilled or expired or gone or reservation.owner not in owners
        if void or not backing.take(unfilled, reservation.share):
            continue
        now = snapshot.now_seconds
        begun = len(unfilled) < len(reservation.parts)
        found.append(
            reservation if begun else msgspec.structs.replace(reservation, created_seconds=now)
        )
    return tuple(found)


def _closed(snapshot: Snapshot) -> dict[str, frozenset[str]]:
    """Return the nodes that do not take an owner's pods, of those who meet any."""
    owners: dict[str, Role | Job] = {role.key: role for role in snapshot.roles if role.shut}
    owners |= {job.id: job for job in snapshot.jobs if job.shut}
    return {
        key: frozenset(node.name for node in snapshot.nodes if not admits(node, owner))
        for key, owner in owners.items()
    }


def online_supplies(
    snapshot: Snapshot, reserved: Iterable[Reservation], told: Told = NOBODY
) -> tuple[Supply, ...]:
    """Return GPUs free or being released, less what is reserved."""
    reserved = tuple(reserved)
    releasing, taken = _gpus(_releasing(snapshot, told)), _reserved(reserved)
    beside = left(snapshot, reserved, _leaving(snapshot, told))
    cards = cards_of(snapshot, reserved, _shares_leaving(snapshot, told))
    return tuple(
        Supply(
            node.name,
            node.variety,
            node.packing_leaf,
            max(0, node.free_gpus + releasing[node.name] - taken[node.name] + cards.whole(node))
            if node.schedulable
            else 0,
            len(node.devices),
            *beside.get(node.name, (None, None)),
            *cards.of(node),
        )
        for node in snapshot.nodes
    )


def batch_supplies(
    snapshot: Snapshot, reserved: Iterable[Reservation], keep_gpus: int
) -> tuple[Supply, ...]:
    """Return GPUs free now, less what is reserved, less `keep_gpus` kept empty for online."""
    reserved = tuple(reserved)
    taken, beside = _reserved(reserved), left(snapshot, reserved)
    cards = cards_of(snapshot, reserved)
    supplies = []
    for node in snapshot.nodes:
        free = max(0, node.free_gpus - taken[node.name] + cards.whole(node))
        kept = min(free, keep_gpus)
        keep_gpus -= kept
        supplies.append(
            Supply(
                node.name,
                node.variety,
                node.packing_leaf,
                free - kept,
                len(node.devices),
                *beside.get(node.name, (None, None)),
                *cards.of(node),
            )
        )
    return tuple(supplies)


def shares_held(
    snapshot: Snapshot, told: Told = NOBODY
) -> Callable[[Iterable[Pod]], tuple[Held, ...]]:
    """Return what tells the parts of cards that pods hold, by the cards of `online_supplies`."""
    return held_by(snapshot, _shares_leaving(snapshot, told))


def _reserved(reservations: Iterable[Reservation]) -> Counter[str]:
    return _gpus(reservation.parts for reservation in reservations)


def _gpus(many: Iterable[Parts]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for parts in many:
        for node, gpus in parts:
            counted[node] += gpus
    return counted


def _releasing(snapshot: Snapshot, told: Told) -> Iterable[Parts]:
    useless = barren(snapshot)
    return (usable(pods, useless) for _, pods in _leaving(snapshot, told))


def _leaving(snapshot: Snapshot, told: Told) -> Iterator[tuple[str, tuple[Pod, ...]]]:
    """Yield owners and those of their pods that are on their way out, or were told to go."""
    for replica in snapshot.replicas:
        if replica.state == "draining":
            yield replica.role, replica.pods
    for job in snapshot.jobs:
        if job.state == "stopping" or (job.state in NOTICED and releasable(job)):
            yield job.id, job.placed
            continue
        yield job.id, tuple(pod for pod in job.placed if pod.leaving)
        if job.id in told and job.state not in NOTICED:
            yield job.id, job.staying[told[job.id] :]


def _shares_leaving(snapshot: Snapshot, told: Told) -> Leaving:
    if not any(node.sharing == "parts" for node in snapshot.nodes):
        return NONE_LEAVES
    return leaving_shares(_leaving(snapshot, told))


class Barren(msgspec.Struct, frozen=True):
    """What serves nobody after the pod that has it."""

    nodes: frozenset[str]
    """That take no pods."""
    devices: frozenset[tuple[str, int]]
    """(node, index) of those that are not healthy."""


def barren(snapshot: Snapshot) -> Barren:
    """Return the nodes and devices that nobody else can use."""
    return Barren(
        frozenset(node.name for node in snapshot.nodes if not node.schedulable),
        frozenset(
            (node.name, device.index)
            for node in snapshot.nodes
            for device in node.devices
            if not device.healthy
        ),
    )


def usable(pods: Iterable[Pod], useless: Barren) -> Parts:
    """Return the GPUs of bound pods that others can have once they are gone, pod by pod."""
    return tuple(
        (
            pod.node,
            0
            if pod.node in useless.nodes
            else max(0, pod.gpus - sum((pod.node, n) in useless.devices for n in pod.devices)),
        )
        for pod in pods
        if pod.node
    )


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


def _unfilled(reservation: Reservation, pods: list[Pod]) -> Parts:
    """Take the pods that fill the reservation out of `pods`; return the parts that have none.

    A part of a card may be all of a smaller one.
    """
    left = []
    for node, gpus in reservation.parts:
        for pod in pods:
            since = pod.bound_seconds
            fits = pod.node == node and (pod.gpus == gpus or reservation.share != NO_SHARE)
            if fits and since is not None and since >= reservation.created_seconds:
                pods.remove(pod)
                break
        else:
            left.append((node, gpus))
    return tuple(left)
