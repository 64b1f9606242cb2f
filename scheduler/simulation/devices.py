"""Nodes as the virtual cluster keeps them: which device is held by whom.

The device plugin of this world: a pod gets the lowest free healthy indices, and a device has at
most one holder. `Pod` is the mutable pod; the frozen one of the snapshot is made from it.
"""

from binpacking.inventory import Device, Holder, Node
from scheduler.planning import snapshot
from scheduler.simulation.clusterfile import ClusterSpec, NodeSpec


class Pod:
    """One pod of a replica or job."""

    __slots__ = ("bound_seconds", "devices", "gpus", "holder", "name", "node", "uid")

    def __init__(self, name: str, holder: str, gpus: int) -> None:
        """Make an unbound pod of the replica or job `holder`."""
        self.name = name
        self.uid = f"uid-{name}"
        self.holder = holder
        self.gpus = gpus
        self.node: NodeState | None = None
        self.devices: tuple[int, ...] = ()
        self.bound_seconds: float | None = None

    def seen(self, *, leaving: bool = False) -> snapshot.Pod:
        """Return the pod as a snapshot shows it."""
        return snapshot.Pod(
            name=self.name,
            uid=self.uid,
            gpus=self.gpus,
            node=self.node.name if self.node else "",
            devices=self.devices,
            bound_seconds=self.bound_seconds,
            leaving=leaving,
        )

    def gpu_names(self) -> tuple[str, ...]:
        """Return `node/index` of each device held."""
        name = self.node.name if self.node else ""
        return tuple(f"{name}/{index}" for index in self.devices)


class NodeState:
    """One node: its devices, their holders and health, and whether it takes pods."""

    def __init__(self, spec: NodeSpec, inventory: "Inventory") -> None:
        """Start Ready and empty; every change is counted in `inventory`."""
        self.spec = spec
        self.name = spec.name
        self.gpu_model = spec.gpu_model
        self.ready = True
        self.cordoned = False
        self._inventory = inventory
        self.pods: list[Pod] = []
        self.free_gpus = spec.gpus
        self._pod_on: list[Pod | None] = [None] * spec.gpus
        self._healthy = [True] * spec.gpus
        self._seen: Node | None = None

    @property
    def takes(self) -> int:
        """GPUs a new pod may take here now."""
        return self.free_gpus if self.ready and not self.cordoned else 0

    def bind(self, pod: Pod, now_seconds: float) -> None:
        """Give `pod` the lowest free devices; raise ValueError where there are too few."""
        free = self.free_indices()
        if len(free) < pod.gpus or not self.takes:
            raise ValueError(f"{self.name} has no {pod.gpus} free GPUs for pod {pod.name}")
        pod.node, pod.devices, pod.bound_seconds = self, free[: pod.gpus], now_seconds
        for index in pod.devices:
            self._pod_on[index] = pod
        self.pods.append(pod)
        self._changed()

    def release(self, pod: Pod) -> None:
        """Take the devices of a pod that is gone; its binding is forgotten."""
        for index in pod.devices:
            self._pod_on[index] = None
        self.pods.remove(pod)
        pod.node, pod.devices = None, ()
        self._changed()

    def set_ready(self, *, ready: bool) -> None:
        """Mark the node Ready or lost."""
        self.ready = ready
        self._changed()

    def set_cordoned(self, *, cordoned: bool) -> None:
        """Keep new pods off, or let them in again."""
        self.cordoned = cordoned
        self._changed()

    def set_healthy(self, index: int, *, healthy: bool) -> None:
        """Mark one device; a pod that holds it keeps it."""
        self._healthy[index] = healthy
        self._changed()

    def free_indices(self) -> tuple[int, ...]:
        """Return healthy devices without a holder, lowest first."""
        return tuple(
            index for index, pod in enumerate(self._pod_on) if pod is None and self._healthy[index]
        )

    def seen(self) -> Node:
        """Return the node as a snapshot shows it; the same object until something changes."""
        if self._seen is None:
            self._seen = self._node()
        return self._seen

    def _changed(self) -> None:
        self._seen = None
        self.free_gpus = len(self.free_indices())
        self._inventory.version += 1

    def _node(self) -> Node:
        spec = self.spec
        return Node(
            name=spec.name,
            gpu_model=spec.gpu_model,
            switch_path=spec.switch_path,
            devices=tuple(self._device(index) for index in range(spec.gpus)),
            ready=self.ready,
            cordoned=self.cordoned,
            spot=spec.spot,
            cpu_milli=spec.cpu_milli,
            memory_mib=spec.memory_mib,
        )

    def _device(self, index: int) -> Device:
        pod = self._pod_on[index]
        return Device(
            index=index,
            uuid=f"GPU-{self.name}-{index}",
            memory_mib=self.spec.gpu_memory_mib,
            healthy=self._healthy[index],
            holders=(Holder(pod.holder),) if pod else (),
        )


class Inventory:
    """All nodes by name; `version` rises with every change to any of them."""

    def __init__(self, cluster: ClusterSpec) -> None:
        """Start with every node Ready and empty."""
        self.version = 0
        self.nodes = {spec.name: NodeState(spec, self) for spec in cluster.nodes}

    def seen(self) -> tuple[Node, ...]:
        """Return all nodes as a snapshot shows them."""
        return tuple([node.seen() for node in self.nodes.values()])
