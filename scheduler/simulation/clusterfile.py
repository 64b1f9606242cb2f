"""The cluster of a simulation as a value: which nodes, on which switches.

Comes from a YAML file (single nodes, groups of equal nodes, or both) or from a node count.
A cluster that cannot exist is refused: a name twice, a node without GPUs, a switch that is leaf
and spine at once. Nodes of different GPU models may share a leaf.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Self

import msgspec
from pydantic import BaseModel, ConfigDict, Field, model_validator

from scheduler.simulation.documents import DocumentError, checked, parse_yaml, read_text

DEFAULT_GPU_MODELS = ("H100-SXM-80GB", "H200-SXM-141GB")
GPUS_PER_NODE = 8
LEAF_NODES = 16
SPINE_LEAVES = 4
MOST_GPUS = 16
MOST_NODES = 20_000
"""Four times the largest cluster that Kubernetes supports."""
_MIB_PER_GIB = 1024

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$")]
Switch = Annotated[str, Field(min_length=1)]
Positive = Annotated[int, Field(ge=1)]


class ClusterError(DocumentError):
    """A cluster that was refused."""


class NodeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU node."""

    name: str
    gpu_model: str
    gpus: int
    gpu_memory_mib: int
    switch_path: tuple[str, ...]
    """From the core down to the leaf."""
    cpu_milli: int
    memory_mib: int
    disk_mib: int
    spot: bool = False


class ClusterSpec(msgspec.Struct, frozen=True):
    """All nodes, in order of name."""

    nodes: tuple[NodeSpec, ...]

    @property
    def gpus(self) -> int:
        """GPUs of all nodes."""
        return sum(node.gpus for node in self.nodes)


class _Hardware(BaseModel):
    """What one node and a group of equal nodes have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu_model: Annotated[str, Field(min_length=1)]
    gpus: Annotated[int, Field(ge=1, le=MOST_GPUS)] = GPUS_PER_NODE
    gpu_memory_gib: Positive | None = None
    """Not given: the number before `GB` in the model's name."""
    cpus: Positive = 192
    memory_gib: Positive = 2048
    disk_gib: Positive = 8192
    spot: bool = False

    @model_validator(mode="after")
    def memory_known(self) -> Self:
        """Device memory stands in the document or in the model's name."""
        if self.gpu_memory_gib is None and _named_gib(self.gpu_model) is None:
            raise ValueError(
                f"gpu_memory_gib: missing, and gpu_model {self.gpu_model!r} does not end in its GB"
            )
        return self

    def node(self, name: str, switch_path: tuple[str, ...]) -> NodeSpec:
        """Return one such node."""
        gib = self.gpu_memory_gib or _named_gib(self.gpu_model) or 0
        return NodeSpec(
            name=name,
            gpu_model=self.gpu_model,
            gpus=self.gpus,
            gpu_memory_mib=gib * _MIB_PER_GIB,
            switch_path=switch_path,
            cpu_milli=self.cpus * 1000,
            memory_mib=self.memory_gib * _MIB_PER_GIB,
            disk_mib=self.disk_gib * _MIB_PER_GIB,
            spot=self.spot,
        )


class _Node(_Hardware):
    name: Name
    switch_path: Annotated[tuple[Switch, ...], Field(min_length=1)]


class _Group(_Hardware):
    """`count` equal nodes NAME-0001.., filling leaves of their own under spines of their own."""

    name: Name
    count: Annotated[int, Field(ge=1, le=MOST_NODES)]
    leaf_nodes: Positive = LEAF_NODES
    spine_leaves: Positive = SPINE_LEAVES


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: tuple[_Node, ...] = ()
    groups: tuple[_Group, ...] = ()


def load_cluster(path: Path) -> ClusterSpec:
    """Return the cluster of a YAML file; raise `ClusterError` with every error."""
    document = parse_yaml(read_text(path, ClusterError), str(path), ClusterError)
    if not isinstance(document, dict):
        raise ClusterError((f"{path}: holds no cluster; write nodes or groups",))
    return parse_cluster(document)


def parse_cluster(document: object) -> ClusterSpec:
    """Return the cluster of a decoded document; raise `ClusterError` with every error."""
    known = checked(_Document, document, ClusterError)
    nodes = [node.node(node.name, node.switch_path) for node in known.nodes]
    for group in known.groups:
        nodes.extend(_members(group))
    errors = _impossible(nodes)
    if errors:
        raise ClusterError(errors)
    return ClusterSpec(tuple(sorted(nodes, key=lambda node: node.name)))


def build(nodes: int, gpu_models: tuple[str, ...] = DEFAULT_GPU_MODELS) -> ClusterSpec:
    """Return `nodes` nodes of 8 GPUs, the GPU models alternating by leaf.

    Leaves hold 16 nodes, spines 4 leaves. Where that makes fewer leaves than GPU models, leaves
    are smaller, so that every model exists as far as the nodes reach.
    """
    if not 1 <= nodes <= MOST_NODES:
        raise ClusterError((f"nodes: must be 1 to {MOST_NODES} (given: {nodes})",))
    if not gpu_models:
        raise ClusterError(("gpu_models: is empty; name at least one GPU model",))
    leaf_nodes = min(LEAF_NODES, -(-nodes // len(gpu_models)))
    made = []
    for number in range(nodes):
        leaf = number // leaf_nodes
        hardware = checked(
            _Hardware, {"gpu_model": gpu_models[leaf % len(gpu_models)]}, ClusterError
        )
        made.append(hardware.node(f"node-{number + 1:04d}", _path("", leaf, SPINE_LEAVES)))
    return ClusterSpec(tuple(made))


def _members(group: _Group) -> list[NodeSpec]:
    prefix = f"{group.name}-"
    return [
        group.node(
            f"{prefix}{number + 1:04d}",
            _path(prefix, number // group.leaf_nodes, group.spine_leaves),
        )
        for number in range(group.count)
    ]


def _path(prefix: str, leaf: int, spine_leaves: int) -> tuple[str, ...]:
    return ("core", f"{prefix}spine-{leaf // spine_leaves:02d}", f"{prefix}leaf-{leaf:03d}")


def _impossible(nodes: list[NodeSpec]) -> tuple[str, ...]:
    if not nodes:
        return ("nodes: there are none; give nodes or groups",)
    counts = Counter(node.name for node in nodes)
    twice = sorted(name for name, n in counts.items() if n > 1)
    more = f", and so do others ({len(twice) - 1})" if len(twice) > 1 else ""
    errors = [f"nodes: the name {name} occurs twice{more}; rename one" for name in twice[:1]]
    paths = {node.switch_path for node in nodes}
    above = {path[:depth] for path in paths for depth in range(1, len(path))}
    errors.extend(
        f"nodes.switch_path: {'/'.join(path)} is a leaf of one node and above the leaf of another"
        for path in sorted(paths & above)
    )
    return tuple(errors)


def _named_gib(gpu_model: str) -> int | None:
    found = re.search(r"(\d+)GB$", gpu_model)
    return int(found[1]) if found else None
