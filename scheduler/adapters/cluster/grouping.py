"""Pods by whom they count for: replicas of roles, jobs, and the devices of nodes.

A pod counts for its replica or job only while that is in the snapshot: pods of a deleted workload
or of a finished Job are strangers that hold their devices under their own uid.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable

import msgspec

from scheduler.adapters.cluster.podfacts import PodFacts

INDEX = "batch.kubernetes.io/job-completion-index"

Held = tuple[tuple[PodFacts, str], ...]
"""Pods with devices on one node, and the holder that each counts for."""


class Grouped(msgspec.Struct, frozen=True):
    """All pods that are not over."""

    replicas: dict[tuple[str, str], tuple[PodFacts, ...]]
    """(role, replica) -> pods in order of name."""
    jobs: dict[str, tuple[PodFacts, ...]]
    nodes: dict[str, Held]


def group(pods: Iterable[PodFacts], roles: Collection[str], jobs: Collection[str]) -> Grouped:
    """Return the pods by replica, job and node."""
    replicas: dict[tuple[str, str], list[PodFacts]] = defaultdict(list)
    gangs: dict[str, list[PodFacts]] = defaultdict(list)
    nodes: dict[str, list[tuple[PodFacts, str]]] = defaultdict(list)
    for pod in pods:
        if pod.over:
            continue
        holder = pod.group
        if pod.owner == pod.group and pod.owner in jobs:  # a job's key may read like a role's
            gangs[pod.owner].append(pod)
        elif pod.owner in roles:
            replicas[pod.owner, pod.group].append(pod)
        else:
            holder = pod.uid
        if pod.holds:
            nodes[pod.node].append((pod, holder))
    return Grouped(
        {key: _by_name(each) for key, each in sorted(replicas.items())},
        {key: _by_name(each) for key, each in gangs.items()},
        {key: tuple(each) for key, each in nodes.items()},
    )


def _by_name(pods: list[PodFacts]) -> tuple[PodFacts, ...]:
    return tuple(pods if len(pods) == 1 else sorted(pods, key=lambda one: (one.name, one.uid)))


def in_order(pods: tuple[PodFacts, ...]) -> tuple[PodFacts, ...]:
    """Return a job's pods by completion index: when it shrinks, the highest indices go."""
    return pods if len(pods) == 1 else tuple(sorted(pods, key=_index))


def _index(pod: PodFacts) -> int:
    index = pod.labels.get(INDEX, "")
    return int(index) if index.isdecimal() else -1
