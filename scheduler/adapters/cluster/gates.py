"""Lifts Tidal's scheduling gate of gangs whose nodes are kept, and pins each pod to its node.

A gated pod is not looked at by kube-scheduler, so a gang waits whole also while no Tidal runs.
Once all its pods exist and a reservation of its owner fits them, each pod gets a node selector
and loses the gate in one patch, all of which the server has accepted in a dry run before. The
pods carry the reservation's id: it says which gang has taken which reservation, also to the next
planner, and an interrupted gang goes on with its own. Without that reservation nothing is lifted.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from binpacking.shares import NO_SHARE
from scheduler.adapters.cluster.batchjobs import asked
from scheduler.adapters.cluster.drivers.gangs import Gangs, name_of, pod_path
from scheduler.adapters.cluster.drivers.writing import (
    Cluster,
    DroppedError,
    Operation,
    annotated,
    pointer,
    put,
    refused,
    remove,
    same,
    test,
)
from scheduler.adapters.cluster.inventory import HOSTNAME
from scheduler.adapters.cluster.observed import Observed
from scheduler.adapters.cluster.workloads import workloads
from scheduler.apiserver.client import FIELD_MANAGER, ApiError
from scheduler.apiserver.objects import Pod
from scheduler.apiserver.requests import gpus_of, part_asked
from scheduler.planning import marks
from scheduler.planning.snapshot import Reservation

SELECTOR = "/spec/nodeSelector"
MOST_GANGS = 100
"""Gangs lifted in one call."""


class Lift(msgspec.Struct, frozen=True):
    """One gang, its reservation, and the node of each pod."""

    gang: str
    reservation: str
    pods: tuple[tuple[Pod, str], ...]


class Fit(msgspec.Struct, frozen=True):
    """What a pod's fit to a part depends on: names of GPU resources, and each node's host name."""

    resources: tuple[str, ...]
    hosts: dict[str, str]


class Gates:
    """Lifts gates; what fails is tried again in the next call, since nothing is remembered."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.problems: tuple[str, ...] = ()
        """Why gangs of the last call were not lifted."""

    def lift(self, reservations: tuple[Reservation, ...], observed: Observed, gangs: Gangs) -> None:
        """Lift what can be lifted. Raises ApiUnreachableError."""
        sizes = _sizes(self._cluster, observed)
        hosts = {
            node.metadata.name: node.metadata.labels.get(HOSTNAME, node.metadata.name)
            for node in observed.nodes
        }
        fit = Fit(self._cluster.policy().kubernetes.gpu_resources, hosts)
        problems: list[str] = []
        for one in tuple(lifts(reservations, gangs, sizes, fit))[:MOST_GANGS]:
            try:
                self._lift(one, hosts)
            except DroppedError as dropped:
                problems.append(f"{one.gang}: {dropped}")
        self.problems = tuple(problems)

    def _lift(self, lift: Lift, hosts: Mapping[str, str]) -> None:
        gated = [(pod, node) for pod, node in lift.pods if _gate(pod) is not None]
        for dry_run in (True, False):
            for pod, node in gated:
                self._patch(pod, hosts.get(node, node), lift.reservation, dry_run=dry_run)

    def _patch(self, pod: Pod, host: str, reservation: str, *, dry_run: bool) -> None:
        """Patch the pod as it is now: what was observed lacks annotations that are not Tidal's."""
        path = pod_path(pod)
        now = self._cluster.read(path, Pod)
        if now.metadata.uid != pod.metadata.uid:
            raise DroppedError(f"{name_of(pod)} is another pod by now")
        query = {"dryRun": "All"} if dry_run else {}
        operations = ungated(now, host, reservation)
        try:
            self._cluster.api.patch(path, operations, "json", fieldManager=FIELD_MANAGER, **query)
        except ApiError as error:
            raise refused(error, path) from error


def lifts(
    reservations: tuple[Reservation, ...],
    gangs: Gangs,
    sizes: Mapping[str, int],
    fit: Fit,
) -> Iterator[Lift]:
    """Yield the gangs to lift; `sizes` are pods of a replica or job, by owner."""
    by_owner: dict[str, list[Reservation]] = {}
    for one in sorted(reservations, key=lambda one: (one.created_seconds, one.id)):
        by_owner.setdefault(one.owner, []).append(one)
    for owner, kept in sorted(by_owner.items()):
        groups = gangs.staying(owner)
        taken = {_taken(pod) for pods in groups.values() for pod in pods}
        for gang, pods in groups.items():
            if len(pods) < sizes.get(owner, 1):
                continue
            for one in _open_to(pods, kept, taken):
                nodes = _nodes(pods, one, fit)
                if nodes:
                    yield Lift(gang, one.id, nodes)
                    taken.add(one.id)
                    break


def _open_to(
    pods: Sequence[Pod], kept: Sequence[Reservation], taken: set[str]
) -> list[Reservation]:
    """Return the reservations that the gang may take: the one it has begun, else any free one."""
    gated = [_gate(pod) is not None for pod in pods]
    begun = next((_taken(pod) for pod in pods if _taken(pod)), "")
    if not any(gated) or not (begun or all(gated)):
        return []  # lifted already, or by somebody else
    return [one for one in kept if (one.id == begun if begun else one.id not in taken)]


def ungated(pod: Pod, host: str, reservation: str) -> list[Operation]:
    """Return the patch that pins the pod and takes Tidal's gate, and no other, away."""
    index = _gate(pod)
    if index is None:
        raise DroppedError(f"{name_of(pod)} has no gate any more")
    selector = pod.spec.node_selector or {}
    if selector.get(HOSTNAME, host) != host:
        raise DroppedError(f"{name_of(pod)} selects node {selector[HOSTNAME]}, not {host}")
    gate = f"/spec/schedulingGates/{index}"
    return [
        same(pod.metadata.uid),
        test(f"{gate}/name", marks.GATE),
        remove(gate),
        *_pinned(selector, host),
        *annotated(pod.metadata.annotations, {marks.RESERVATION: reservation}),
    ]


def _pinned(selector: Mapping[str, str], host: str) -> list[Operation]:
    if not selector:
        return [test(SELECTOR, None), put(SELECTOR, {HOSTNAME: host})]
    path = SELECTOR + pointer(HOSTNAME)
    return [test(path, selector.get(HOSTNAME)), put(path, host)]


def _nodes(
    pods: tuple[Pod, ...], reservation: Reservation, fit: Fit
) -> tuple[tuple[Pod, str], ...]:
    """Return each pod's node: a part of as many GPUs; nothing where they do not fit one to one.

    Where parts of cards are reserved, a pod that asks such a part has no whole GPU.

    A pod that was lifted before keeps its node.
    """
    parts = list(reservation.parts)
    found: list[tuple[Pod, str]] = []
    lifted_first = sorted(pods, key=lambda pod: (_gate(pod) is not None, name_of(pod)))
    for pod in lifted_first:
        resource, gpus = gpus_of(pod.spec, fit.resources)
        if reservation.share != NO_SHARE and part_asked(pod.spec, resource) is not None:
            gpus = 0
        pinned = (pod.spec.node_selector or {}).get(HOSTNAME) if _gate(pod) is None else None
        fits = (
            one
            for one in parts
            if one[1] == gpus and pinned in (None, fit.hosts.get(one[0], one[0]))
        )
        part = next(fits, None)
        if part is None:
            return ()
        parts.remove(part)
        found.append((pod, part[0]))
    return () if parts else tuple(found)


def _gate(pod: Pod) -> int | None:
    """Return where Tidal's gate stands among the pod's gates."""
    for index, gate in enumerate(pod.spec.scheduling_gates):
        if gate.name == marks.GATE:
            return index
    return None


def _taken(pod: Pod) -> str:
    return pod.metadata.annotations.get(marks.RESERVATION, "")


def _sizes(cluster: Cluster, observed: Observed) -> dict[str, int]:
    """Return pods with GPUs per replica of each role, and per job."""
    policy = cluster.policy()
    rules = policy.kubernetes
    sizes = {f"{job.metadata.namespace}/{job.metadata.name}": asked(job) for job in observed.jobs}
    for role, one in workloads(observed, policy.targets(), rules.gpu_resources).items():
        known = policy.role(role)
        sizes[role] = one.shape.pods or (known.pods_per_replica if known else 1)
    return sizes
