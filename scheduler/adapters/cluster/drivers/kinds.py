"""One driver per kind: which object holds a role's count, where, and who goes when it falls.

A driver reads from what was observed and, when a guard failed, from the server; both readings go
through the same `workloads`, so the observer and the actuator mean the same count.
"""

from collections.abc import Callable
from typing import Generic, Literal, Protocol, TypeVar

import msgspec

from scheduler.adapters.cluster.drivers.writing import (
    Cluster,
    DroppedError,
    Operation,
    free_of_masters,
    test,
)
from scheduler.adapters.cluster.observed import Observed
from scheduler.adapters.cluster.workloads import ADAPTER, ROLE_WORKLOAD, Workload, workloads
from scheduler.apiserver import objects
from scheduler.planning.targets import Kind, Target

GROUPS = "rolebasedgroups.workloads.x-k8s.io"
ADAPTERS = "rolebasedgroupscalingadapters.workloads.x-k8s.io"


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """A role's count as it stands, and how it is written."""

    workload: Workload
    api_version: str
    path: str
    """Of the object."""
    member: str = "/spec/replicas"
    """JSON Pointer of the count inside it."""
    guards: tuple[Operation, ...] = ()
    order: Literal["pod", "instance", "last"]
    """Who goes first: by a cost on pods, by one on role instances, or the highest ordinals."""
    first: int = 0
    """The lowest ordinal."""


class Driver(Protocol):
    """Knows one kind of workload. Each method raises DroppedError where it must not be scaled."""

    def seen(self, target: Target, observed: Observed) -> Observed:
        """Return of all that was observed only the objects of the target."""
        ...

    def fresh(self, target: Target, seen: Observed, cluster: Cluster) -> Observed:
        """Return the same objects as they are now."""
        ...

    def count(self, target: Target, seen: Observed, cluster: Cluster) -> Count:
        """Return the count that these objects hold."""
        ...


class _Named(Protocol):
    @property
    def metadata(self) -> objects.Meta: ...


T = TypeVar("T", bound=_Named)


class Plain(Generic[T]):
    """A kind whose objects hold one count each, in spec.replicas."""

    def __init__(
        self,
        resource: str,
        shape: type[T],
        every: Callable[[Observed], tuple[T, ...]],
        alone: Callable[[T], Observed],
        order: Literal["pod", "last"],
    ) -> None:
        """`every` takes the kind's objects out of what was observed, `alone` is its inverse."""
        self._resource = resource
        self._shape = shape
        self._every = every
        self._alone = alone
        self._order = order

    def seen(self, target: Target, observed: Observed) -> Observed:
        """Return only the target's object."""
        return self._alone(_found(target, self._every(observed)))

    def fresh(self, target: Target, seen: Observed, cluster: Cluster) -> Observed:
        """Return the object as it is now."""
        path = cluster.path(self._resource, target.namespace, target.name)
        return self._alone(cluster.read(path, self._shape))

    def count(self, target: Target, seen: Observed, cluster: Cluster) -> Count:
        """Return the object's count."""
        (found,) = self._every(seen)
        free_of_masters(target.kind, found.metadata)
        return Count(
            workload=_workload(target, seen),
            api_version=_version(cluster, self._resource),
            path=cluster.path(self._resource, target.namespace, target.name),
            order=self._order,
            first=_first(found),
        )


class RoleBasedGroup:
    """A role of a group: its scaling adapter holds the count once bound, else the group itself.

    An edit of the group under a bound adapter kills instances before it is reverted, or stays
    there as a wrong number, so the group is written only where the role has no adapter. Its list
    of roles is patched by index, with tests on the role's name and on the whole spec's generation.
    """

    def seen(self, target: Target, observed: Observed) -> Observed:
        """Return the group and the role's adapter."""
        group = _found(target, observed.role_based_groups)
        name = (target.namespace, f"{target.name}-{target.role}")
        own = (one for one in observed.scaling_adapters if _name(one) == name)
        return Observed(role_based_groups=(group,), scaling_adapters=tuple(own))

    def fresh(self, target: Target, seen: Observed, cluster: Cluster) -> Observed:
        """Return both as they are now."""
        path = cluster.path(GROUPS, target.namespace, target.name)
        group = cluster.read(path, objects.RoleBasedGroup)
        adapters: tuple[objects.ScalingAdapter, ...] = ()
        if _adapted(_role(target, group)[1]):
            name = f"{target.name}-{target.role}"
            path = cluster.path(ADAPTERS, target.namespace, name)
            adapters = (cluster.read(path, objects.ScalingAdapter),)
        return Observed(role_based_groups=(group,), scaling_adapters=adapters)

    def count(self, target: Target, seen: Observed, cluster: Cluster) -> Count:
        """Return the count of the adapter, or of the role in its group."""
        (group,) = seen.role_based_groups
        free_of_masters(target.kind, group.metadata)
        index, role = _role(target, group)
        workload = _workload(target, seen)
        bound = workload.kind == ADAPTER
        if bound != _adapted(role):
            raise DroppedError(
                f"the scaling adapter of {target.name}/{target.role} is not bound, or not gone yet"
            )
        resource = ADAPTERS if bound else GROUPS
        here = f"/spec/roles/{index}"
        guards = (
            test("/metadata/generation", group.metadata.generation),
            test(f"{here}/name", target.role),
        )
        return Count(
            workload=workload,
            api_version=_version(cluster, resource),
            path=cluster.path(resource, target.namespace, workload.name),
            member="/spec/replicas" if bound else f"{here}/replicas",
            guards=() if bound else guards,
            order=_order(workload, role),
        )


def _found(target: Target, every: tuple[T, ...]) -> T:
    name = (target.namespace, target.name)
    found = next((one for one in every if _name(one) == name), None)
    if found is None:
        raise DroppedError(f"there is no {target.kind} {target.namespace}/{target.name}")
    return found


def _name(one: _Named) -> tuple[str, str]:
    return one.metadata.namespace, one.metadata.name


def _workload(target: Target, seen: Observed) -> Workload:
    found = workloads(seen, [("", target)], ()).get("")
    if found is None:
        raise DroppedError(f"there is no {target.kind} {target.namespace}/{target.name}")
    return found


def _role(target: Target, group: objects.RoleBasedGroup) -> tuple[int, objects.GroupRole]:
    for index, role in enumerate(group.spec.roles):
        if role.name == target.role:
            return index, role
    raise DroppedError(f"RoleBasedGroup {target.name} has no role {target.role}")


def _adapted(role: objects.GroupRole) -> bool:
    return role.scaling_adapter is not None and role.scaling_adapter.enable


def _order(workload: Workload, role: objects.GroupRole) -> Literal["pod", "instance", "last"]:
    """A role that is a Deployment lets pods be chosen, whatever its pattern says."""
    if workload.removable == "last":
        return "last"
    kind = role.annotations.get(ROLE_WORKLOAD, "").rpartition("/")[2]
    return "pod" if "Deployment" in (kind, role.workload and role.workload.kind) else "instance"


def _version(cluster: Cluster, resource: str) -> str:
    return cluster.versions().get(resource, "").removeprefix("/apis/")


def _first(found: object) -> int:
    if isinstance(found, objects.Replicated) and found.spec.ordinals is not None:
        return found.spec.ordinals.start
    return 0


DRIVERS: dict[Kind, Driver] = {
    "Deployment": Plain(
        "deployments.apps",
        objects.Replicated,
        lambda observed: observed.deployments,
        lambda one: Observed(deployments=(one,)),
        "pod",
    ),
    "StatefulSet": Plain(
        "statefulsets.apps",
        objects.Replicated,
        lambda observed: observed.stateful_sets,
        lambda one: Observed(stateful_sets=(one,)),
        "last",
    ),
    "LeaderWorkerSet": Plain(
        "leaderworkersets.leaderworkerset.x-k8s.io",
        objects.LeaderWorkerSet,
        lambda observed: observed.leader_worker_sets,
        lambda one: Observed(leader_worker_sets=(one,)),
        "last",
    ),
    "RoleBasedGroup": RoleBasedGroup(),
}
