"""GPU nodes as values: what a Node object says. The pods on its devices are in `occupancy`.

Where HAMi shares a node's cards, the resource counts tasks, so the cards are those that it
registered; where it counts slices of cards, there are none. Any other node has as many as the
resource says.
"""

from collections.abc import Iterable

import msgspec

from binpacking.inventory import Device, Node
from scheduler.apiserver import objects, sharing
from scheduler.apiserver.quantities import mib_down, milli_down, whole_down
from scheduler.planning.cards import largest_memory_mib, whole_card
from scheduler.planning.policy import Kubernetes

UNKNOWN_MODEL = "unknown"
HOSTNAME = "kubernetes.io/hostname"
MEMORY_LABEL = "nvidia.com/gpu.memory"
LOST_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
LEAVING_TAINTS = (
    "node.kubernetes.io/unschedulable",
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
)
REPELLING_EFFECTS = ("NoSchedule", "NoExecute")
SPOT_LABELS = (
    ("karpenter.sh/capacity-type", "spot"),
    ("cloud.google.com/gke-spot", "true"),
    ("eks.amazonaws.com/capacityType", "SPOT"),
    ("kubernetes.azure.com/scalesetpriority", "spot"),
)


class Frame(msgspec.Struct, frozen=True):
    """A node with its devices free, and how many of these are unhealthy."""

    node: Node
    unhealthy: int
    """Besides those that are told to be."""
    labels: dict[str, str]
    taints: tuple[objects.Taint, ...]
    """Those that keep pods away and are no part of `ready` or `cordoned`."""


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
    cards = sharing.cards_of(meta.annotations)
    sliced = cards is None and sharing.is_sliced(meta.labels)
    devices = _plain(meta, 0 if sliced else total) if cards is None else _shared(cards[:total])
    room = status.allocatable
    value = Node(
        name=meta.name,
        gpu_model=gpu_model(meta.labels, rules) or _told_model(cards, rules) or UNKNOWN_MODEL,
        switch_path=switch_path(meta.labels, rules),
        devices=devices,
        resource_name=resource,
        sharing="slices" if sliced else "none" if cards is None else "parts",
        ready=_ready(node),
        cordoned=_cordoned(node),
        spot=any(meta.labels.get(key) == value for key, value in SPOT_LABELS),
        cpu_milli=milli_down(room.get("cpu", "0")),
        memory_mib=mib_down(room.get("memory", "0")),
    )
    unhealthy = 0 if sliced or cards is not None else min(total, max(0, total - able))
    return Frame(value, unhealthy, meta.labels, _repelling(node.spec))


def _told_model(cards: tuple[sharing.Card, ...] | None, rules: Kubernetes) -> str:
    """Return the model of registered cards, where all are of one."""
    found = {card.model for card in cards or ()}
    model = found.pop() if len(found) == 1 else ""
    return rules.gpu_models.get(model, model)


def _plain(meta: objects.Meta, total: int) -> tuple[Device, ...]:
    memory = _memory_mib(meta.labels)
    return tuple(Device(index, f"{meta.name}/{index}", memory) for index in range(total))


def _shared(cards: tuple[sharing.Card, ...]) -> tuple[Device, ...]:
    return tuple(
        Device(index, card.uuid, card.memory_mib, card.healthy) for index, card in enumerate(cards)
    )


def card_memory_mib(nodes: Iterable[Node]) -> int:
    """Return the memory of the largest card that may be shared: a part of it suits every card."""
    return largest_memory_mib(whole_card(node) for node in nodes)


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


def _repelling(spec: objects.NodeSpec) -> tuple[objects.Taint, ...]:
    known = (*LOST_TAINTS, *LEAVING_TAINTS)
    return tuple(
        one for one in spec.taints if one.effect in REPELLING_EFFECTS and one.key not in known
    )


def _memory_mib(labels: dict[str, str]) -> int:
    text = labels.get(MEMORY_LABEL, "")
    return int(text) if text.isdecimal() else 0


def _ready(node: objects.Node) -> bool:
    stated = any(one.type == "Ready" and one.status == "True" for one in node.status.conditions)
    return stated and not any(one.key in LOST_TAINTS for one in node.spec.taints)


def _cordoned(node: objects.Node) -> bool:
    leaving = any(one.key in LEAVING_TAINTS for one in node.spec.taints)
    return node.spec.unschedulable or leaving or node.metadata.deletion_timestamp is not None
