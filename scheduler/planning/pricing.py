"""Nodes as hosts of single pods, and what their room is worth to the pods to come.

The plan carries the prices, so that the extender weighs nodes by what the plan knew, and the
ledger keeps why a pod went where it went.
"""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from binpacking.cards import Fleet, Host, Population
from binpacking.inventory import Node
from binpacking.prices import HostKind, Prices
from binpacking.scarcity import Scarcity

UNBOUNDED = 2**31
"""CPU or memory of a node that states none: nothing is known to bind."""
_CPU_STEP = 1000
_MEMORY_STEP_MIB = 1024
"""Nodes of one make differ by little in what their kubelets leave; such are of one kind. Rounded
up: a pod that asks all of a node could run there."""


def kind_of(node: Node) -> HostKind:
    """The node with nothing on it."""
    cpu, memory = node.cpu_milli or UNBOUNDED, node.memory_mib or UNBOUNDED
    return HostKind(
        node.gpu_model,
        node.healthy_gpus,
        cpu + -cpu % _CPU_STEP,
        memory + -memory % _MEMORY_STEP_MIB,
    )


def host_of(node: Node) -> Host:
    """The node with what is free on it; no GPU is where no pod may go."""
    cards = node.free_cards if node.schedulable else (0,) * len(node.devices)
    return Host(node.name, node.gpu_model, *free_room(node), cards)


def free_room(node: Node) -> tuple[int, int]:
    """Free milli-CPU and MiB, as far as pods are known."""
    cpu, memory = node.cpu_milli or UNBOUNDED, node.memory_mib or UNBOUNDED
    return max(0, cpu - node.cpu_held_milli), max(0, memory - node.memory_held_mib)


def priced(nodes: Iterable[Node], to_come: Population) -> Prices:
    """The prices of room on these nodes; none where no pod is to come."""
    rows = sorted(nodes, key=lambda node: node.name)
    if not to_come or not rows:
        return Prices()
    scarcity = _scarcity(tuple([kind_of(node) for node in rows]), to_come)
    return scarcity.prices(Fleet(host_of(node) for node in rows))


@lru_cache(maxsize=4)
def _scarcity(kinds: tuple[HostKind, ...], to_come: Population) -> Scarcity:
    """From one tick to the next neither the makes of nodes nor the mix changes often."""
    known = tuple(sorted(set(kinds)))
    places = {kind: place for place, kind in enumerate(known)}
    return Scarcity(known, np.array([places[kind] for kind in kinds], dtype=np.int64), to_come)
