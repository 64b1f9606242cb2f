"""What of nodes and pods is kept in memory, and equal parts only once.

A cluster's pods repeat each other: the pods of one workload have the same containers, labels and
owner, its nodes the same capacity. Annotations can be large and few but Tidal's own are read.
"""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from scheduler.apiserver import sharing
from scheduler.apiserver.objects import Condition, Container, Meta, Node, Pod
from scheduler.planning.marks import PREFIX

V = TypeVar("V")
POOLED_VALUES = 200_000
"""The pool starts afresh beyond these, so that values of what is long gone do not stay."""
KEPT_ANNOTATIONS = (
    PREFIX,
    "controller.kubernetes.io/pod-deletion-cost",
    sharing.REGISTERED,
    sharing.ALLOCATED,
)


class Pool:
    """Equal values once. For one thread; all kept values must be immutable in use."""

    def __init__(self) -> None:
        """Start empty."""
        self._texts: dict[str, str] = {}
        self._values: dict[tuple[type, bytes], object] = {}
        self._encode = msgspec.json.Encoder().encode

    def text(self, value: str) -> str:
        """Return the first text that was equal to this one."""
        if len(self._texts) > POOLED_VALUES:
            self._texts.clear()
        return self._texts.setdefault(value, value)

    def texts(self, value: dict[str, str]) -> dict[str, str]:
        """Return the mapping with pooled keys and values."""
        text = self.text
        return {text(key): text(one) for key, one in value.items()}

    def value(self, value: V) -> V:
        """Return the first value that was equal to this one, whatever it holds."""
        if len(self._values) > POOLED_VALUES:
            self._values.clear()
        key = type(value), self._encode(value)
        return self._values.setdefault(key, value)  # type: ignore[return-value]


def pods_that_ask_for(resources: tuple[str, ...]) -> Callable[[Pod], Pod | None]:
    """Return what keeps pods that ask for one of these resources, reduced, and drops others."""
    wanted = frozenset(resources)
    pool = Pool()

    def keep(pod: Pod) -> Pod | None:
        every = pod.spec.containers + (pod.spec.init_containers or ())
        return _pod(pod, pool) if any(_asks(one, wanted) for one in every) else None

    return keep


def nodes() -> Callable[[Node], Node]:
    """Return what reduces nodes."""
    pool = Pool()
    return lambda node: _node(node, pool)


def _asks(container: Container, wanted: frozenset[str]) -> bool:
    resources = container.resources
    # An extended resource has equal requests and limits; either may be left out.
    return not (
        wanted.isdisjoint(resources.requests or ()) and wanted.isdisjoint(resources.limits or ())
    )


def _pod(pod: Pod, pool: Pool) -> Pod:
    replace = msgspec.structs.replace
    spec, status = pod.spec, pod.status
    return replace(
        pod,
        metadata=_meta(pod.metadata, pool),
        spec=replace(
            spec,
            node_name=pool.text(spec.node_name),
            containers=pool.value(spec.containers),
            init_containers=pool.value(spec.init_containers),
            resources=pool.value(spec.resources),
            overhead=pool.value(spec.overhead),
            scheduling_gates=pool.value(spec.scheduling_gates),
            node_selector=pool.value(spec.node_selector),
            priority_class_name=pool.text(spec.priority_class_name),
        ),
        status=replace(
            status,
            phase=pool.text(status.phase),
            conditions=tuple(_condition(one, pool) for one in status.conditions),
        ),
    )


def _node(node: Node, pool: Pool) -> Node:
    replace = msgspec.structs.replace
    status = node.status
    return replace(
        node,
        metadata=_meta(node.metadata, pool),
        status=replace(
            status,
            capacity=pool.value(status.capacity),
            allocatable=pool.value(status.allocatable),
            conditions=tuple(_condition(one, pool) for one in status.conditions),
        ),
    )


def _meta(meta: Meta, pool: Pool) -> Meta:
    return msgspec.structs.replace(
        meta,
        namespace=pool.text(meta.namespace),
        labels=pool.texts(meta.labels),
        annotations={
            key: value
            for key, value in meta.annotations.items()
            if key.startswith(KEPT_ANNOTATIONS)
        },
        owner_references=pool.value(meta.owner_references),
    )


def _condition(condition: Condition, pool: Pool) -> Condition:
    """Return the condition with pooled texts; the time differs from pod to pod."""
    return msgspec.structs.replace(
        condition,
        type=pool.text(condition.type),
        status=pool.text(condition.status),
    )
