"""A problem compiled to numbers: nodes, leaves and gangs as indices into plain tuples.

Read once per question by every rung. Nodes are numbered leaf by leaf and inside a leaf by name,
so "smallest number" is "smallest name" and a leaf is a range.
"""

import msgspec

from binpacking.problem import Gang, Problem, Shape
from binpacking.topology import by_leaf


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The problem's supplies and gangs by number."""

    names: tuple[str, ...]
    """Node name by node number."""
    free: tuple[int, ...]
    """Free GPUs by node number, before any kill."""
    leaf_of: tuple[int, ...]
    """Leaf number by node number."""
    leaves: tuple[range, ...]
    """Node numbers by leaf number."""
    models: tuple[str, ...]
    """GPU model by leaf number."""
    leaves_of: dict[str, tuple[int, ...]]
    """Leaf numbers by GPU model."""
    parts: tuple[tuple[tuple[int, int], ...], ...]
    """(node number, GPUs) by gang number; parts on nodes that are no supply are left out."""
    gangs_on: tuple[tuple[tuple[int, int], ...], ...]
    """(gang number, GPUs) by node number, cheapest gang first, then by key."""

    def allowed(self, gpu_models: tuple[str, ...]) -> tuple[int, ...]:
        """Leaf numbers of these models in their order; all leaves where the tuple is empty."""
        if not gpu_models:
            return tuple(range(len(self.leaves)))
        return tuple(leaf for model in gpu_models for leaf in self.leaves_of.get(model, ()))


def compile_layout(problem: Problem) -> Layout:
    """Number the problem's nodes, leaves and gangs.

    Raises ValueError with the field and the fix where the problem contradicts itself.
    """
    _check(problem)
    groups = by_leaf(problem.supplies)
    ordered = [supply for _, group in groups for supply in group]
    number = {supply.node: index for index, supply in enumerate(ordered)}
    parts = tuple(_known_parts(gang, number) for gang in problem.gangs)
    starts = [0]
    for _, group in groups:
        starts.append(starts[-1] + len(group))
    models = tuple(group[0].gpu_model for _, group in groups)
    return Layout(
        names=tuple(supply.node for supply in ordered),
        free=tuple(supply.free for supply in ordered),
        leaf_of=tuple(leaf for leaf, (_, group) in enumerate(groups) for _ in group),
        leaves=tuple(range(a, b) for a, b in zip(starts, starts[1:], strict=False)),
        models=models,
        leaves_of=_leaves_of(models),
        parts=parts,
        gangs_on=_gangs_on(problem.gangs, parts, len(ordered)),
    )


def _leaves_of(models: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for leaf, model in enumerate(models):
        found[model] = (*found.get(model, ()), leaf)
    return found


def _known_parts(gang: Gang, number: dict[str, int]) -> tuple[tuple[int, int], ...]:
    """The gang's GPUs on supplied nodes, one entry per node."""
    merged: dict[int, int] = {}
    for node, gpus in gang.parts:
        if node in number:
            merged[number[node]] = merged.get(number[node], 0) + gpus
    return tuple(sorted(merged.items()))


def _gangs_on(
    gangs: tuple[Gang, ...], parts: tuple[tuple[tuple[int, int], ...], ...], nodes: int
) -> tuple[tuple[tuple[int, int], ...], ...]:
    found: list[list[tuple[int, int]]] = [[] for _ in range(nodes)]
    for gang in sorted(range(len(gangs)), key=lambda index: (gangs[index].cost, gangs[index].key)):
        for node, gpus in parts[gang]:
            found[node].append((gang, gpus))
    return tuple(tuple(entries) for entries in found)


def _check(problem: Problem) -> None:
    """Refuse what would make "free", "cost" or "key" ambiguous."""
    _distinct("supplies", "node", [supply.node for supply in problem.supplies])
    _distinct("online", "key", [request.key for request in problem.online])
    _distinct("batch", "key", [request.key for request in problem.batch])
    _distinct("gangs", "key", [gang.key for gang in problem.gangs])
    for supply in problem.supplies:
        if supply.free < 0:
            raise ValueError(f"supplies: node {supply.node} has free={supply.free}; give 0 or more")
    for request in (*problem.online, *problem.batch):
        _check_shape(request.key, request.shape)
    for demand in problem.online:
        if any(capacity < 1 for capacity in demand.capacity_milli.values()):
            raise ValueError(
                f"online: {demand.key} has a model of capacity_milli below 1; leave the model out"
            )
    for gang in problem.gangs:
        if gang.cost < 1:
            raise ValueError(
                f"gangs: {gang.key} has cost={gang.cost}; give 1 or more, a stop is never free"
            )


def _check_shape(key: str, shape: Shape) -> None:
    if shape.pieces < 1 or shape.gpus < 1:
        raise ValueError(
            f"shape: {key} asks {shape.pieces} x {shape.gpus} GPUs; give 1 or more of each"
        )


def _distinct(field: str, name: str, keys: list[str]) -> None:
    if len(set(keys)) != len(keys):
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise ValueError(f"{field}: {name} {twice[0]} appears twice; state each one once")
