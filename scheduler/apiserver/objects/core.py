"""Nodes and pods."""

from scheduler.apiserver.objects.wire import Condition, Meta, Requirement, Selector, Wire


class Taint(Wire, frozen=True):
    """A taint of a node."""

    key: str
    value: str = ""
    effect: str = ""


class Toleration(Wire, frozen=True):
    """What a pod tolerates; an empty effect means all, an empty key with `Exists` every taint."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class NodeSelectorTerm(Wire, frozen=True):
    """Requirements of a node, all of which must hold."""

    match_expressions: tuple[Requirement, ...] | None = None
    match_fields: tuple[Requirement, ...] | None = None


class NodeSelector(Wire, frozen=True):
    """Terms of which one must hold."""

    node_selector_terms: tuple[NodeSelectorTerm, ...] = ()


class NodeAffinity(Wire, frozen=True):
    """What a pod requires of its node."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None


class PodAffinityTerm(Wire, frozen=True):
    """Pods, and the label of nodes by which they are near."""

    label_selector: Selector | None = None
    topology_key: str = ""


class PodAntiAffinity(Wire, frozen=True):
    """What pods a pod requires not to be near."""

    required_during_scheduling_ignored_during_execution: tuple[PodAffinityTerm, ...] | None = None


class Affinity(Wire, frozen=True):
    """Affinity of a pod, as far as it is required and read."""

    node_affinity: NodeAffinity | None = None
    pod_anti_affinity: PodAntiAffinity | None = None


class NodeSpec(Wire, frozen=True):
    """spec of a Node."""

    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class NodeStatus(Wire, frozen=True):
    """status of a Node."""

    capacity: dict[str, str] = {}
    allocatable: dict[str, str] = {}
    conditions: tuple[Condition, ...] = ()


class Node(Wire, frozen=True):
    """v1 Node."""

    metadata: Meta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class Resources(Wire, frozen=True):
    """Requests and limits of a container; extended resources are equal in both."""

    requests: dict[str, str | int] | None = None
    limits: dict[str, str | int] | None = None
    """Custom resources keep a whole number as it was written: `nvidia.com/gpu: 1`."""


class Container(Wire, frozen=True):
    """A container, as far as its resources go."""

    resources: Resources = Resources()
    restart_policy: str | None = None
    """`Always` makes an init container a sidecar."""


class Gate(Wire, frozen=True):
    """A scheduling gate."""

    name: str


class PodSpec(Wire, frozen=True):
    """spec of a Pod."""

    node_name: str = ""
    priority: int | None = None
    priority_class_name: str = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] | None = None
    resources: Resources | None = None
    """Of the pod as a whole: in place of what its containers ask together."""
    overhead: dict[str, str] | None = None
    """What its runtime takes beside them."""
    scheduling_gates: tuple[Gate, ...] = ()
    node_selector: dict[str, str] | None = None


class PodStatus(Wire, frozen=True):
    """status of a Pod."""

    phase: str = ""
    reason: str = ""
    start_time: str | None = None
    conditions: tuple[Condition, ...] = ()


class Pod(Wire, frozen=True):
    """v1 Pod."""

    metadata: Meta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class TemplateSpec(PodSpec, frozen=True):
    """spec of a pod template: also what only coming pods need."""

    affinity: Affinity | None = None
    tolerations: tuple[Toleration, ...] | None = None


class TemplateMeta(Wire, frozen=True):
    """metadata of a pod template."""

    labels: dict[str, str] = {}


class PodTemplate(Wire, frozen=True):
    """The template of a workload."""

    metadata: TemplateMeta = TemplateMeta()
    spec: TemplateSpec = TemplateSpec()
