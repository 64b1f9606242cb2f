"""What makes pods: workloads of every kind, and Jobs."""

from scheduler.apiserver.objects.core import PodTemplate
from scheduler.apiserver.objects.wire import Condition, CrossReference, Meta, Wire


class Ordinals(Wire, frozen=True):
    """How a StatefulSet numbers its pods."""

    start: int = 0


class ReplicatedSpec(Wire, frozen=True):
    """spec of a Deployment or StatefulSet; absent replicas mean 1."""

    replicas: int = 1
    ordinals: Ordinals | None = None
    template: PodTemplate = PodTemplate()


class Replicated(Wire, frozen=True):
    """apps/v1 Deployment or StatefulSet."""

    metadata: Meta
    spec: ReplicatedSpec = ReplicatedSpec()


class LeaderWorkerTemplate(Wire, frozen=True):
    """What one group of a LeaderWorkerSet is made of."""

    size: int = 1
    worker_template: PodTemplate = PodTemplate()
    leader_template: PodTemplate | None = None


class LeaderWorkerSpec(Wire, frozen=True):
    """spec of a LeaderWorkerSet; absent replicas mean 1."""

    replicas: int = 1
    leader_worker_template: LeaderWorkerTemplate = LeaderWorkerTemplate()


class LeaderWorkerSet(Wire, frozen=True):
    """leaderworkerset.x-k8s.io LeaderWorkerSet."""

    metadata: Meta
    spec: LeaderWorkerSpec = LeaderWorkerSpec()


class Enable(Wire, frozen=True):
    """A part that is switched on or off."""

    enable: bool = False


class StandalonePattern(Wire, frozen=True):
    """A role whose replicas are single pods."""

    template: PodTemplate = PodTemplate()


class LeaderWorkerPattern(Wire, frozen=True):
    """A role whose replicas are several pods."""

    size: int = 1
    template: PodTemplate | None = None


class GroupRole(Wire, frozen=True):
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


class RoleBasedGroupSpec(Wire, frozen=True):
    """spec of a RoleBasedGroup."""

    roles: tuple[GroupRole, ...] = ()


class RoleBasedGroup(Wire, frozen=True):
    """workloads.x-k8s.io RoleBasedGroup."""

    metadata: Meta
    spec: RoleBasedGroupSpec = RoleBasedGroupSpec()


class AdapterTarget(Wire, frozen=True):
    """The role that a scaling adapter is for."""

    name: str = ""
    role: str = ""


class AdapterSpec(Wire, frozen=True):
    """spec of a RoleBasedGroupScalingAdapter."""

    replicas: int | None = None
    scale_target_ref: AdapterTarget = AdapterTarget()


class AdapterStatus(Wire, frozen=True):
    """status of a RoleBasedGroupScalingAdapter."""

    phase: str = ""


class ScalingAdapter(Wire, frozen=True):
    """workloads.x-k8s.io RoleBasedGroupScalingAdapter."""

    metadata: Meta
    spec: AdapterSpec = AdapterSpec()
    status: AdapterStatus = AdapterStatus()


class JobSpec(Wire, frozen=True):
    """spec of a Job; absent parallelism means 1."""

    parallelism: int = 1
    completions: int | None = None
    completion_mode: str = "NonIndexed"
    suspend: bool = False
    template: PodTemplate = PodTemplate()


class JobStatus(Wire, frozen=True):
    """status of a Job."""

    succeeded: int = 0
    start_time: str | None = None
    conditions: tuple[Condition, ...] = ()


class Job(Wire, frozen=True):
    """batch/v1 Job."""

    metadata: Meta
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()
