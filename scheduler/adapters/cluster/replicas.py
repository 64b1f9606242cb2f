"""Replicas of the roles, from their pods alone.

No status of a workload is believed: groups report Ready while their pods terminate, a group that
comes back adopts pods that are on their way out, and labels with an instance's index are wrong on
pods created together. What counts is which pods exist, and what each of them is doing.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from scheduler.adapters.cluster.around import Around
from scheduler.adapters.cluster.podfacts import PodFacts
from scheduler.adapters.cluster.workloads import Workload
from scheduler.apiserver.sharing import per_pod
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import Pod, Replica, Role


def role_of(
    key: str,
    policy: Policy,
    workload: Workload,
    scaler: str,
    override_until_seconds: float | None,
    around: Around,
) -> Role:
    """Return the role as its workload states it; `scaler` is the autoscaler on it, in words."""
    model, _, name = key.partition("/")
    declared = policy.models[model].roles[name]
    target, shape = declared.target, workload.shape
    gpus, share = per_pod(shape.gpus or declared.gpus_per_pod, shape.part, around.card_memory_mib)
    return Role(
        key=key,
        model=model,
        role=name,
        kind=target.kind if target else workload.kind,
        replicas=workload.replicas,
        pods_per_replica=workload.shape.pods or declared.pods_per_replica,
        gpus_per_pod=gpus,
        share_per_pod=share,
        cpu_milli_per_pod=workload.shape.cpu_milli,
        memory_mib_per_pod=workload.shape.memory_mib,
        shut=dict(around.shut.get(shape.terms, {})),
        apart=shape.apart,
        scaled_by_other=scaler,
        override_until_seconds=override_until_seconds,
        removable=workload.removable,
    )


def replica_of(
    role: Role, facts: Sequence[PodFacts], pods: tuple[Pod, ...], gpu_model: str
) -> Replica:
    """Return one replica; `facts` are all its pods that are not over, `pods` the same as values."""
    key = facts[0].group
    state = _state(role, facts)
    ready = [one.ready_seconds for one in facts if one.ready_seconds is not None]
    return Replica(
        id=key,
        role=role.key,
        state=state,
        pods=pods,
        gpu_model=gpu_model,
        created_seconds=min(one.created_seconds for one in facts),
        ready_seconds=max(ready) if state == "ready" else None,
        ordinal=_ordinal(key) if role.removable == "last" else 0,
    )


def _state(
    role: Role, facts: Iterable[PodFacts]
) -> Literal["pending", "starting", "ready", "draining"]:
    pods = tuple(facts)
    if any(one.terminating for one in pods):
        return "draining"
    if len(pods) < role.pods_per_replica or not all(one.node for one in pods):
        return "pending"
    return "ready" if all(one.ready_seconds is not None for one in pods) else "starting"


def _ordinal(key: str) -> int:
    """The number that ends a replica's id is its place, in every kind that counts replicas."""
    last = key.rpartition("-")[2]
    return int(last) if last.isdecimal() else 0
