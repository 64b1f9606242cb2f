"""GPU nodes as values: first what a Node object says, then the pods on its devices.

Which device a pod got is known to its kubelet alone. Here the pod bound first has the lowest free
indices; that is stable while pods come, and all counts are exact. Devices that the kubelet reports
as unhealthy are a count as well: the last ones that nobody holds, then the last ones.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from binpacking.inventory import Device, Holder, Image, Node, Taint
from scheduler.adapters.cluster.podfacts import PodFacts
from scheduler.apiserver import objects
from scheduler.apiserver.quantities import mib_down, milli_down, whole_down
from scheduler.planning.policy import Kubernetes

MIB = 1024**2
SHOWN_IMAGE_MIB = 1024
"""Smaller images do not change a start; leaving them out keeps 5,000 nodes small."""
UNKNOWN_MODEL = "unknown"
MEMORY_LABEL = "nvidia.com/gpu.memory"
LOST_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
LEAVING_TAINTS = (
    "node.kubernetes.io/unschedulable",
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
)
SPOT_LABELS = (
    ("karpenter.sh/capacity-type", "spot"),
    ("cloud.google.com/gke-spot", "true"),
    ("eks.amazonaws.com/capacityType", "SPOT"),
    ("kubernetes.azure.com/scalesetpriority", "spot"),
)
Effect = Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
EFFECTS: tuple[Effect, ...] = ("NoSchedule", "PreferNoSchedule", "NoExecute")


class Frame(msgspec.Struct, frozen=True):
    """A node with its devices free, and how many of these are unhealthy."""

    node: Node
    unhealthy: int
    memory_mib: int


def resource_of(node: objects.Node, resources: Iterable[str]) -> str:
    """Return the GPU resource that the node offers; nothing where it is no GPU node.

    A node whose device plugin is gone still names its resource, with none of it.
    """
    capacity = node.status.capacity
    named = [one for one in resources if one in capacity]
    return next((one for one in named if whole_down(capacity[one]) > 0), named[0] if named else "")


def frame(node: objects.Node, rules: Kubernetes) -> Frame | None:
    """Return the node without its pods, or None where it offers no GPU resource."""
    resource = resource_of(node, rules.gpu_resources)
    if not resource:
        return None
    meta, status = node.metadata, node.status
    total = max(0, whole_down(status.capacity[resource]))
    able = whole_down(status.allocatable.get(resource, "0"))
    memory = _memory_mib(meta.labels)
    devices = tuple(Device(index, f"{meta.name}/{index}", memory) for index in range(total))
    room = status.allocatable
    value = Node(
        name=meta.name,
        gpu_model=gpu_model(meta.labels, rules) or UNKNOWN_MODEL,
        switch_path=switch_path(meta.labels, rules),
        devices=devices,
        resource_name=resource,
        labels=_labels(meta.labels, rules),
        taints=_taints(node.spec),
        ready=_ready(node),
        cordoned=_cordoned(node),
        spot=any(meta.labels.get(key) == value for key, value in SPOT_LABELS),
        cpu_milli=milli_down(room.get("cpu", "0")),
        memory_mib=mib_down(room.get("memory", "0")),
        disk_mib=mib_down(room.get("ephemeral-storage", "0")),
        images=images(status.images),
    )
    return Frame(value, min(total, max(0, total - able)), memory)


def gpu_model(labels: dict[str, str], rules: Kubernetes) -> str:
    """Return the policy's name of the GPU model, empty where no label tells."""
    found = next((labels[key] for key in rules.gpu_model_labels if labels.get(key)), "")
    return rules.gpu_models.get(found, found)


def switch_path(labels: dict[str, str], rules: Kubernetes) -> tuple[str, ...]:
    """Return the switches above the node; a tier that no label names is left out."""
    tiers = (
        next((labels[key] for key in tier if labels.get(key)), "") for tier in rules.topology_labels
    )
    return tuple(one for one in tiers if one)


def images(found: Iterable[objects.NodeImage]) -> tuple[Image, ...]:
    """Return the large images, each by its tag where it has one."""
    large = (one for one in found if one.size_bytes >= SHOWN_IMAGE_MIB * MIB and one.names)
    return tuple(sorted((_image(one) for one in large), key=lambda one: one.name))


def occupy(
    frame: Frame, pods: Sequence[tuple[PodFacts, str]]
) -> tuple[Node, dict[str, tuple[int, ...]]]:
    """Return the node with `pods` (and the holder that each counts for) on its devices.

    The second value is the devices of each pod by uid. Pods beyond the last device, as when
    devices were taken away under them, hold what is left.
    """
    free = list(range(len(frame.node.devices)))
    holders: dict[int, Holder] = {}
    slots: dict[str, tuple[int, ...]] = {}
    for pod, owner in sorted(pods, key=_age):
        taken, free = free[: pod.gpus], free[pod.gpus :]
        holder = Holder(owner, memory_mib=frame.memory_mib)
        holders |= dict.fromkeys(taken, holder)
        slots[pod.uid] = tuple(taken)
    sick = _sick(frame, holders)
    if not holders and not sick:
        return frame.node, slots
    devices = tuple(_device(one, holders.get(one.index), sick) for one in frame.node.devices)
    node = msgspec.structs.replace(
        frame.node,
        devices=devices,
        cpu_held_milli=sum(pod.cpu_milli for pod, _ in pods),
        memory_held_mib=sum(pod.memory_mib for pod, _ in pods),
    )
    return node, slots


def _age(entry: tuple[PodFacts, str]) -> tuple[float, float, str]:
    pod, _ = entry
    return pod.bound_seconds or 0.0, pod.created_seconds, pod.uid


def _sick(frame: Frame, holders: dict[int, Holder]) -> frozenset[int]:
    """Return the unhealthy devices: unheld ones first, from the last index down."""
    indices = sorted(range(len(frame.node.devices)), key=lambda one: (one in holders, -one))
    return frozenset(indices[: frame.unhealthy])


def _device(device: Device, holder: Holder | None, sick: frozenset[int]) -> Device:
    if holder is None and device.index not in sick:
        return device
    return Device(
        index=device.index,
        uuid=device.uuid,
        memory_mib=device.memory_mib,
        healthy=device.index not in sick,
        holders=() if holder is None else (holder,),
    )


def _image(image: objects.NodeImage) -> Image:
    names = image.names or ("",)
    name = next((one for one in names if "@" not in one), names[0])
    return Image(name, image.size_bytes // MIB)


def _memory_mib(labels: dict[str, str]) -> int:
    text = labels.get(MEMORY_LABEL, "")
    return int(text) if text.isdecimal() else 0


def _labels(labels: dict[str, str], rules: Kubernetes) -> dict[str, str]:
    """Keep the labels that the policy reads; feature discovery writes dozens of others."""
    tiers = (key for tier in rules.topology_labels for key in tier)
    return {key: labels[key] for key in (*rules.gpu_model_labels, *tiers) if key in labels}


def _taints(spec: objects.NodeSpec) -> tuple[Taint, ...]:
    return tuple(
        Taint(one.key, one.value, effect)
        for one in spec.taints
        for effect in EFFECTS
        if one.effect == effect
    )


def _ready(node: objects.Node) -> bool:
    stated = any(one.type == "Ready" and one.status == "True" for one in node.status.conditions)
    return stated and not any(one.key in LOST_TAINTS for one in node.spec.taints)


def _cordoned(node: objects.Node) -> bool:
    leaving = any(one.key in LEAVING_TAINTS for one in node.spec.taints)
    return node.spec.unschedulable or leaving or node.metadata.deletion_timestamp is not None
