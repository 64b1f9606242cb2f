"""The virtual kube-scheduler: each step it binds waiting pods, most important first.

The in-tree filter keeps nodes that are Ready, take pods, have the pod's GPU model and enough
free devices. The placer (the extender's verdict) picks among them or says not yet; what it
picks is bound at once and its devices are given out.
"""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from scheduler.planning.standing import PodAsk
from scheduler.simulation.devices import Inventory, Pod

RETRY_SECONDS = 30.0
"""Pods that did not fit are tried again after a change, or after this time without one."""


class Placer(Protocol):
    """Says where a pod goes."""

    def place(self, pod: PodAsk, feasible: tuple[str, ...]) -> str | None:
        """Return one of the `feasible` nodes, or None to let the pod wait."""
        ...


class Waiting(msgspec.Struct):
    """A pod that waits, where it may go, and since when."""

    pod: Pod
    ask: PodAsk
    gpu_models: tuple[str, ...]
    """Empty: any."""
    created_seconds: float

    @classmethod
    def of(
        cls, pod: Pod, owner: str, priority: int, gpu_models: tuple[str, ...], now_seconds: float
    ) -> "Waiting":
        """Return a new pod of a role or job as it waits from now on."""
        ask = PodAsk(
            name=pod.name,
            uid=pod.uid,
            owner=owner,
            group=pod.holder,
            gpus=pod.gpus,
            priority=priority,
        )
        return cls(pod, ask, gpu_models, now_seconds)

    @property
    def order(self) -> tuple[int, float, str]:
        """Sorts by priority, then age, then name."""
        return (-self.ask.priority, self.created_seconds, self.ask.name)


class KubeScheduler:
    """Holds the waiting pods and binds what may be bound."""

    def __init__(self, inventory: Inventory, placer: Placer) -> None:
        self._inventory = inventory
        self._placer = placer
        self._waiting: dict[str, Waiting] = {}
        self._changed = False
        self._tried_version = -1
        self._tried_seconds = 0.0

    def add(self, waiting: Iterable[Waiting]) -> None:
        """Queue pods."""
        self._waiting.update((one.ask.uid, one) for one in waiting)
        self.wake()

    def remove(self, pods: Iterable[Pod]) -> None:
        """Forget pods that were deleted before they were bound."""
        for pod in pods:
            self._waiting.pop(pod.uid, None)

    def wake(self) -> None:
        """Try all waiting pods in the next cycle: something outside the nodes changed."""
        self._changed = True

    def cycle(self, now_seconds: float) -> list[Pod]:
        """Bind what the placer places; return the pods bound, in order."""
        if not self._waiting or not self._due(now_seconds):
            return []
        self._changed = False
        self._tried_seconds = now_seconds
        bound = []
        feasible: dict[tuple[int, tuple[str, ...]], tuple[str, ...]] = {}
        for one in sorted(self._waiting.values(), key=lambda one: one.order):
            shape = (one.ask.gpus, one.gpu_models)
            if shape not in feasible:
                feasible[shape] = self._feasible(*shape)
            name = self._placer.place(one.ask, feasible[shape]) if feasible[shape] else None
            if name is None:
                continue
            if name not in feasible[shape]:
                raise ValueError(f"the placer put {one.ask.name} on {name}, which cannot take it")
            self._inventory.nodes[name].bind(one.pod, now_seconds)
            del self._waiting[one.ask.uid]
            bound.append(one.pod)
            feasible.clear()
        self._tried_version = self._inventory.version
        return bound

    def _due(self, now_seconds: float) -> bool:
        return (
            self._changed
            or self._tried_version != self._inventory.version
            or now_seconds - self._tried_seconds >= RETRY_SECONDS
        )

    def _feasible(self, gpus: int, gpu_models: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(
            [
                node.name
                for node in self._inventory.nodes.values()
                if node.takes >= gpus and (not gpu_models or node.gpu_model in gpu_models)
            ]
        )
