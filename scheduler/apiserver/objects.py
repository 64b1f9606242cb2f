"""Kubernetes objects as they stand on the wire, with only the fields that somebody reads.

Decoded from raw bytes; unknown fields are skipped, absent ones take their default, so the same
struct reads every served version. Collections that the API may send as null are optional.
Quantities stay text, times stay RFC 3339; `times` and the readers turn them into numbers.
"""

import msgspec


class _Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """Base: camelCase on the wire. Values are trees, so the cycle collector need not visit them."""


class OwnerReference(_Wire, frozen=True):
    """Who made the object."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class Meta(_Wire, frozen=True):
    """metadata."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()

    @property
    def controller(self) -> OwnerReference:
        """The owner that controls the object, or an empty one."""
        return next((one for one in self.owner_references if one.controller), OwnerReference())


class Condition(_Wire, frozen=True):
    """One entry of status.conditions."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class Requirement(_Wire, frozen=True):
    """One expression of a label selector."""

    key: str
    operator: str
    values: tuple[str, ...] | None = None


class Selector(_Wire, frozen=True):
    """A label selector."""

    match_labels: dict[str, str] | None = None
    match_expressions: tuple[Requirement, ...] | None = None


# ---- nodes -----------------------------------------------------------------------------------


class Taint(_Wire, frozen=True):
    """A taint of a node."""

    key: str
    effect: str
    value: str = ""


class NodeSpec(_Wire, frozen=True):
    """spec of a Node."""

    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class NodeImage(_Wire, frozen=True):
    """An image on a node; names are by digest and by tag."""

    names: tuple[str, ...] | None = None
    size_bytes: int = 0


class NodeStatus(_Wire, frozen=True):
    """status of a Node."""

    capacity: dict[str, str] = {}
    allocatable: dict[str, str] = {}
    conditions: tuple[Condition, ...] = ()
    images: tuple[NodeImage, ...] = ()


class Node(_Wire, frozen=True):
    """v1 Node."""

    metadata: Meta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


# ---- pods ------------------------------------------------------------------------------------


class Resources(_Wire, frozen=True):
    """Requests and limits of a container; extended resources are equal in both."""

    requests: dict[str, str] | None = None
    limits: dict[str, str] | None = None


class Container(_Wire, frozen=True):
    """A container, as far as its resources go."""

    name: str = ""
    image: str = ""
    resources: Resources = Resources()
    restart_policy: str | None = None
    """`Always` makes an init container a sidecar."""


class Gate(_Wire, frozen=True):
    """A scheduling gate."""

    name: str


class PodSpec(_Wire, frozen=True):
    """spec of a Pod, or of a pod template."""

    node_name: str = ""
    priority: int | None = None
    priority_class_name: str = ""
    scheduler_name: str = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] | None = None
    scheduling_gates: tuple[Gate, ...] = ()
    termination_grace_period_seconds: int | None = None
    node_selector: dict[str, str] | None = None


class PodStatus(_Wire, frozen=True):
    """status of a Pod."""

    phase: str = ""
    reason: str = ""
    start_time: str | None = None
    nominated_node_name: str = ""
    conditions: tuple[Condition, ...] = ()


class Pod(_Wire, frozen=True):
    """v1 Pod."""

    metadata: Meta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class TemplateMeta(_Wire, frozen=True):
    """Labels and annotations that pods of a template get."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class PodTemplate(_Wire, frozen=True):
    """The template of a workload; its metadata has no name."""

    metadata: TemplateMeta = TemplateMeta()
    spec: PodSpec = PodSpec()


# ---- workloads -------------------------------------------------------------------------------


class Ordinals(_Wire, frozen=True):
    """How a StatefulSet numbers its pods."""

    start: int = 0


class ReplicatedSpec(_Wire, frozen=True):
    """spec of a Deployment or StatefulSet; absent replicas mean 1."""

    replicas: int = 1
    ordinals: Ordinals | None = None
    template: PodTemplate = PodTemplate()


class Replicated(_Wire, frozen=True):
    """apps/v1 Deployment or StatefulSet."""

    metadata: Meta
    spec: ReplicatedSpec = ReplicatedSpec()


class LeaderWorkerTemplate(_Wire, frozen=True):
    """What one group of a LeaderWorkerSet is made of."""

    size: int = 1
    worker_template: PodTemplate = PodTemplate()
    leader_template: PodTemplate | None = None


class LeaderWorkerSpec(_Wire, frozen=True):
    """spec of a LeaderWorkerSet; absent replicas mean 1."""

    replicas: int = 1
    leader_worker_template: LeaderWorkerTemplate = LeaderWorkerTemplate()


class LeaderWorkerSet(_Wire, frozen=True):
    """leaderworkerset.x-k8s.io LeaderWorkerSet."""

    metadata: Meta
    spec: LeaderWorkerSpec = LeaderWorkerSpec()


class CrossReference(_Wire, frozen=True):
    """A workload by kind and name, such as scaleTargetRef of an autoscaler."""

    kind: str = ""
    name: str = ""


class Enable(_Wire, frozen=True):
    """A part that is switched on or off."""

    enable: bool = False


class StandalonePattern(_Wire, frozen=True):
    """A role whose replicas are single pods."""

    template: PodTemplate = PodTemplate()


class LeaderWorkerPattern(_Wire, frozen=True):
    """A role whose replicas are several pods."""

    size: int = 1
    template: PodTemplate | None = None


class GroupRole(_Wire, frozen=True):
    """One role of a RoleBasedGroup; absent replicas mean 1."""

    name: str
    replicas: int = 1
    annotations: dict[str, str] = {}
    scaling_adapter: Enable | None = None
    leader_worker_pattern: LeaderWorkerPattern | None = None
    leader_worker_set: LeaderWorkerPattern | None = None
    """v1alpha1's name of the same."""
    standalone_pattern: StandalonePattern | None = None
    template: PodTemplate | None = None
    """v1alpha1: the template of either pattern."""
    workload: CrossReference | None = None
    """v1alpha1: the kind of the role's workload."""


class RoleBasedGroupSpec(_Wire, frozen=True):
    """spec of a RoleBasedGroup."""

    roles: tuple[GroupRole, ...] = ()


class RoleBasedGroup(_Wire, frozen=True):
    """workloads.x-k8s.io RoleBasedGroup."""

    metadata: Meta
    spec: RoleBasedGroupSpec = RoleBasedGroupSpec()


class AdapterTarget(_Wire, frozen=True):
    """The role that a scaling adapter is for."""

    name: str = ""
    role: str = ""


class AdapterSpec(_Wire, frozen=True):
    """spec of a RoleBasedGroupScalingAdapter."""

    replicas: int | None = None
    scale_target_ref: AdapterTarget = AdapterTarget()


class AdapterStatus(_Wire, frozen=True):
    """status of a RoleBasedGroupScalingAdapter."""

    phase: str = ""


class ScalingAdapter(_Wire, frozen=True):
    """workloads.x-k8s.io RoleBasedGroupScalingAdapter."""

    metadata: Meta
    spec: AdapterSpec = AdapterSpec()
    status: AdapterStatus = AdapterStatus()


# ---- batch -----------------------------------------------------------------------------------


class JobSpec(_Wire, frozen=True):
    """spec of a Job; absent parallelism means 1."""

    parallelism: int = 1
    completions: int | None = None
    completion_mode: str = "NonIndexed"
    suspend: bool = False
    template: PodTemplate = PodTemplate()


class JobStatus(_Wire, frozen=True):
    """status of a Job."""

    active: int = 0
    terminating: int = 0
    succeeded: int = 0
    start_time: str | None = None
    completion_time: str | None = None
    conditions: tuple[Condition, ...] = ()


class Job(_Wire, frozen=True):
    """batch/v1 Job."""

    metadata: Meta
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()


# ---- what stands in the way ------------------------------------------------------------------


class AutoscalerSpec(_Wire, frozen=True):
    """spec of a HorizontalPodAutoscaler or a KEDA ScaledObject; KEDA's kind may be absent."""

    scale_target_ref: CrossReference = CrossReference()


class Autoscaler(_Wire, frozen=True):
    """autoscaling/v2 HorizontalPodAutoscaler or keda.sh/v1alpha1 ScaledObject."""

    metadata: Meta
    spec: AutoscalerSpec = AutoscalerSpec()


class BudgetSpec(_Wire, frozen=True):
    """spec of a PodDisruptionBudget."""

    selector: Selector | None = None


class BudgetStatus(_Wire, frozen=True):
    """status of a PodDisruptionBudget."""

    disruptions_allowed: int = 0


class DisruptionBudget(_Wire, frozen=True):
    """policy/v1 PodDisruptionBudget."""

    metadata: Meta
    spec: BudgetSpec = BudgetSpec()
    status: BudgetStatus = BudgetStatus()


class PriorityClass(_Wire, frozen=True):
    """scheduling.k8s.io/v1 PriorityClass."""

    metadata: Meta
    value: int = 0
    global_default: bool = False


# ---- our own state ---------------------------------------------------------------------------


class ConfigMap(_Wire, frozen=True):
    """v1 ConfigMap."""

    metadata: Meta
    data: dict[str, str] = {}


class LeaseSpec(_Wire, frozen=True):
    """spec of a Lease."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int = 0


class Lease(_Wire, frozen=True):
    """coordination.k8s.io/v1 Lease."""

    metadata: Meta
    spec: LeaseSpec = LeaseSpec()
