"""The workloads that the policy's roles target, whichever kind they are, in one shape.

The desired count of a RoleBasedGroup's role stands in its scaling adapter once that is bound: the
group's own number may then be wrong for as long as nobody touches the adapter. What is written
for a role (its count and Tidal's annotations) goes to the same object that is read here.

Pods are counted by template: one that asks for no GPU is not observed, so a leader without GPUs
is no pod of its replica here.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import msgspec

from scheduler.adapters.cluster.budgets import matches
from scheduler.adapters.cluster.inventory import HOSTNAME
from scheduler.adapters.cluster.observed import Observed
from scheduler.apiserver import objects
from scheduler.apiserver.nodeterms import NodeTerms, node_terms
from scheduler.apiserver.requests import cpu_and_memory, gpus_of, part_asked
from scheduler.apiserver.sharing import Part
from scheduler.planning.targets import Target

ROLE_PATTERN = "rbg.workloads.x-k8s.io/role-instance-pattern"
ROLE_WORKLOAD = "rbg.workloads.x-k8s.io/role-workload-type"
ADAPTER = "RoleBasedGroupScalingAdapter"


class Shape(msgspec.Struct, frozen=True):
    """GPU pods of one replica; 0 where the template does not tell."""

    pods: int = 0
    gpus: int = 0
    part: Part | None = None
    """Of one GPU, which each pod asks."""
    cpu_milli: int = 0
    """Of each pod, as `memory_mib`."""
    memory_mib: int = 0
    terms: NodeTerms | None = None
    """Of the pods that ask most, where a leader's differ from its workers'."""
    apart: bool = False
    """No two of these pods may be on one node."""


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """One target as it stands, and the object that holds its count."""

    kind: str
    """Kind of the object that is written: the target's own, or a scaling adapter."""
    namespace: str
    name: str
    uid: str
    replicas: int
    annotations: Mapping[str, str]
    suffix: str = ""
    """Ends Tidal's annotation keys where several roles share the object."""
    shape: Shape = Shape()
    removable: Literal["any", "last"] = "last"

    @property
    def path(self) -> str:
        """The object in words."""
        return f"{self.kind} {self.namespace}/{self.name}"


def workloads(
    observed: Observed, targets: Iterable[tuple[str, Target]], resources: tuple[str, ...]
) -> dict[str, Workload]:
    """Return role key -> workload; a role whose workload does not exist is left out."""
    sources = {
        "Deployment": {_id(one.metadata): one for one in observed.deployments},
        "StatefulSet": {_id(one.metadata): one for one in observed.stateful_sets},
    }
    leaders = {_id(one.metadata): one for one in observed.leader_worker_sets}
    groups = {_id(one.metadata): one for one in observed.role_based_groups}
    adapters = dict(_adapters(observed.scaling_adapters))
    found: dict[str, Workload] = {}
    for key, target in targets:
        here = (target.namespace, target.name)
        one: Workload | None = None
        match target.kind:
            case "Deployment" | "StatefulSet" if here in sources[target.kind]:
                one = _replicated(target.kind, sources[target.kind][here], resources)
            case "LeaderWorkerSet" if here in leaders:
                one = _leader_worker_set(leaders[here], resources)
            case "RoleBasedGroup" if here in groups:
                adapter = adapters.get((*here, target.role))
                one = _group_role(groups[here], target.role, adapter, resources)
            case _:
                pass
        if one is not None:
            found[key] = one
    return found


class Scalers:
    """Autoscalers by what they scale. One that KEDA made is named as its ScaledObject."""

    def __init__(self, observed: Observed) -> None:
        self._names: dict[tuple[str, str, str], str] = {}
        for kind, each, absent in (
            ("ScaledObject", observed.scaled_objects, "Deployment"),
            ("HorizontalPodAutoscaler", observed.autoscalers, ""),
        ):
            for one in sorted(each, key=lambda one: _id(one.metadata)):
                self._add(kind, one, absent)

    def _add(self, kind: str, scaler: objects.Autoscaler, absent: str) -> None:
        meta, target = scaler.metadata, scaler.spec.scale_target_ref
        made = next((one for one in meta.owner_references if one.kind == "ScaledObject"), None)
        shown = f"ScaledObject {meta.namespace}/{made.name}" if made else ""
        key = (meta.namespace, target.kind or absent, target.name)
        self._names.setdefault(key, shown or f"{kind} {meta.namespace}/{meta.name}")

    def of(self, target: Target) -> str:
        """Return the autoscaler of the target, in words; empty where there is none."""
        kind, name = target.kind, target.name
        if kind == "RoleBasedGroup":
            return self._names.get((target.namespace, ADAPTER, f"{name}-{target.role}"), "")
        return self._names.get((target.namespace, kind, name), "")


def _id(meta: objects.Meta) -> tuple[str, str]:
    return meta.namespace, meta.name


def _adapters(
    adapters: Iterable[objects.ScalingAdapter],
) -> Iterator[tuple[tuple[str, str, str], objects.ScalingAdapter]]:
    """Bound adapters by group and role; one that no group owns is ignored by the controller."""
    for one in adapters:
        ref = one.spec.scale_target_ref
        owned = any(
            owner.kind == "RoleBasedGroup" and owner.name == ref.name
            for owner in one.metadata.owner_references
        )
        if owned and one.status.phase == "Bound" and one.spec.replicas is not None:
            yield (one.metadata.namespace, ref.name, ref.role), one


def _replicated(
    kind: Literal["Deployment", "StatefulSet"],
    found: objects.Replicated,
    resources: tuple[str, ...],
) -> Workload:
    return Workload(
        kind=kind,
        namespace=found.metadata.namespace,
        name=found.metadata.name,
        uid=found.metadata.uid,
        replicas=found.spec.replicas,
        annotations=found.metadata.annotations,
        shape=_alone(found.spec.template, resources),
        removable="any" if kind == "Deployment" else "last",
    )


def _leader_worker_set(found: objects.LeaderWorkerSet, resources: tuple[str, ...]) -> Workload:
    parts = found.spec.leader_worker_template
    workers = parts.worker_template
    return Workload(
        kind="LeaderWorkerSet",
        namespace=found.metadata.namespace,
        name=found.metadata.name,
        uid=found.metadata.uid,
        replicas=found.spec.replicas,
        annotations=found.metadata.annotations,
        shape=_shape(parts.leader_template or workers, workers, parts.size, resources),
    )


def _shape(
    leader: objects.PodTemplate, worker: objects.PodTemplate, size: int, resources: tuple[str, ...]
) -> Shape:
    """Count the pods with GPUs; where no template has any, all pods, of unknown size."""
    every = [_alone(one, resources) for one in (leader, *[worker] * (size - 1))]
    with_gpus = [one for one in every if one.gpus]
    largest = max(with_gpus, key=lambda one: one.gpus, default=Shape())
    part = largest.part if len({one.part for one in with_gpus}) == 1 else None
    return msgspec.structs.replace(largest, pods=len(with_gpus) or size, part=part)


def _alone(template: objects.PodTemplate, resources: tuple[str, ...]) -> Shape:
    resource, gpus = gpus_of(template.spec, resources)
    part = part_asked(template.spec, resource)
    terms = node_terms(template.spec) if template.spec.containers else None
    return Shape(1, gpus, part, *cpu_and_memory(template.spec), terms, _apart(template))


def _apart(template: objects.PodTemplate) -> bool:
    """Return whether the pods' required anti-affinity keeps them off each other's nodes."""
    affinity = template.spec.affinity
    against = affinity.pod_anti_affinity if affinity else None
    terms = against.required_during_scheduling_ignored_during_execution if against else None
    return any(
        one.topology_key == HOSTNAME and matches(one.label_selector, template.metadata)
        for one in terms or ()
    )


def _group_role(
    group: objects.RoleBasedGroup,
    name: str,
    adapter: objects.ScalingAdapter | None,
    resources: tuple[str, ...],
) -> Workload | None:
    role = next((one for one in group.spec.roles if one.name == name), None)
    if role is None:
        return None
    meta = group.metadata if adapter is None else adapter.metadata
    wanted = None if adapter is None else adapter.spec.replicas
    return Workload(
        kind="RoleBasedGroup" if adapter is None else ADAPTER,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        replicas=role.replicas if wanted is None else wanted,
        annotations=meta.annotations,
        suffix=f".{name}" if adapter is None else "",
        shape=_role_shape(role, resources),
        removable="any" if _stateless(role) else "last",
    )


def _role_shape(role: objects.GroupRole, resources: tuple[str, ...]) -> Shape:
    leading = role.leader_worker_pattern or role.leader_worker_set
    if leading is not None:
        template = leading.template or role.template or objects.PodTemplate()
        return _shape(template, template, leading.size, resources)
    alone = role.standalone_pattern
    if alone is None and role.template is None:
        return Shape()
    template = alone.template if alone else role.template or objects.PodTemplate()
    return _alone(template, resources)


def _stateless(role: objects.GroupRole) -> bool:
    workload = role.annotations.get(ROLE_WORKLOAD, "")
    kind = workload.rpartition("/")[2] or (role.workload.kind if role.workload else "")
    return kind == "Deployment" or role.annotations.get(ROLE_PATTERN) == "Stateless"
