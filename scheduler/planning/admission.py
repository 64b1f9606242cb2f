"""Which nodes a role or job may use, in the packer's words.

The packer knows nodes by GPU model. Where not all nodes of a model admit the same pods, each of
their sections is a model of its own to it, a `variety`, and every request names those it may use.
Nodes in a section come first: the others can serve everybody.
"""

from collections import defaultdict

import msgspec

from binpacking.inventory import Node
from scheduler.planning.snapshot import Job, Role, Snapshot

PLAIN = ""
"""The section of nodes that admit everybody."""


class Varieties(msgspec.Struct, frozen=True):
    """GPU model -> its varieties by section."""

    of_model: dict[str, dict[str, str]]

    def capacities(self, role: Role, capacity_milli: dict[str, int]) -> dict[str, int]:
        """Return the worth of a replica by variety, in order of preference."""
        return {
            variety: milli
            for model, milli in capacity_milli.items()
            for variety in self._open(role, model)
        }

    def models(self, job: Job) -> tuple[str, ...] | None:
        """Return the varieties that a job may use: () all, None no node that there is."""
        if not job.shut:
            named = job.gpu_models
            return tuple(variety for model in named for variety in self._open(job, model))
        every = job.gpu_models or tuple(sorted(self.of_model))
        return tuple(variety for model in every for variety in self._open(job, model)) or None

    def _open(self, owner: Role | Job, model: str) -> tuple[str, ...]:
        """A model of which there is no node stays as it is: some may come."""
        sections = self.of_model.get(model, {PLAIN: model})
        return tuple(variety for section, variety in sections.items() if section not in owner.shut)


def varieties(snapshot: Snapshot) -> Varieties:
    """Return what there is."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for node in sorted(snapshot.nodes, key=lambda one: (not one.section, one.section)):
        found[node.gpu_model][node.section] = node.variety
    return Varieties(dict(found))


def admits(node: Node, owner: Role | Job) -> bool:
    """Return whether the node takes the owner's pods."""
    return node.section not in owner.shut


def refusals(snapshot: Snapshot, owner: Role | Job) -> tuple[str, ...]:
    """Return a sentence for each section that does not take the owner's pods."""
    nodes: defaultdict[str, list[str]] = defaultdict(list)
    for node in snapshot.nodes:
        if not admits(node, owner):
            nodes[node.section].append(node.name)
    return tuple(
        f"{_some(names)} not for its pods: {owner.shut[section]}"
        for section, names in sorted(nodes.items())
    )


def _some(names: list[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} is"
    more = f" and {len(names) - 1} more are"
    return names[0] + more
