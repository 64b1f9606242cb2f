"""A problem compiled to numbers: nodes, leaves and gangs as indices into plain tuples.

Read once per question by every rung. Nodes are numbered leaf by leaf and inside a leaf by name,
so "smallest number" is "smallest name" and a leaf is a range.
"""

from collections import Counter
from itertools import pairwise

import msgspec

from binpacking.beds import Bed, Kind, beds_by_node, most_saved
from binpacking.problem import Gang, Piece, Problem, Shape, Supply
from binpacking.spread import Fence, check, fences, tickets
from binpacking.topology import by_leaf

PLENTY = 1 << 60
"""Stands for CPU and memory that are not known."""


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The problem's supplies and gangs by number."""

    names: tuple[str, ...]
    """Node name by node number."""
    free: tuple[int, ...]
    """Free GPUs by node number, before any kill."""
    beside: tuple[tuple[int, int], ...]
    """Free (milli-CPU, MiB of memory) by node number; `PLENTY` where not known."""
    leaf_of: tuple[int, ...]
    """Leaf number by node number."""
    leaves: tuple[range, ...]
    """Node numbers by leaf number."""
    models: tuple[str, ...]
    """GPU model by leaf number."""
    paths: tuple[tuple[str, ...], ...]
    """Switch path by leaf number."""
    leaves_of: dict[str, tuple[int, ...]]
    """Leaf numbers by GPU model."""
    spines: tuple[tuple[int, ...], ...]
    """Leaf numbers by spine pod."""
    spine_of: tuple[int, ...]
    """Spine pod by leaf number."""
    pods: tuple[tuple[Shape, ...], ...]
    """The pods of one replica by online request, in the order of its members."""
    members: tuple[tuple[int, ...], ...]
    """Which member each of those pods is."""
    pieces: tuple[tuple[Piece, ...], ...]
    """The pieces of one replica by online request, pod by pod."""
    parts: tuple[tuple[tuple[int, int], ...], ...]
    """(node number, GPUs) by gang number; parts on nodes that are no supply are left out."""
    freed: tuple[dict[int, tuple[int, int]], ...]
    """Node number -> (milli-CPU, MiB) that come free there, by gang number; where that is known."""
    gangs_on: tuple[tuple[tuple[int, int], ...], ...]
    """(gang number, GPUs) by node number, cheapest gang first, then by key."""
    limits_of: tuple[tuple[int, ...], ...]
    """Indices into the problem's `stop_limits` by gang number."""
    beds: tuple[tuple[Bed, ...], ...]
    """By node number: the standby units there that may be woken."""
    beds_of: dict[tuple[Kind, int], tuple[Bed, ...]]
    """The same by kind of pod and leaf number."""
    fences: dict[int, Fence]
    """By online request, where it spreads over leaves or spine pods."""
    tickets: dict[str, tuple[int, ...]]
    """By key of a request whose pods keep apart on nodes: how many more each node may take."""
    most_saved: int
    """What waking as many of them as the shortages could use would save (see `beds`)."""

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
    spines, spine_of = _spines(tuple(path for path, _ in groups))
    pods = tuple(
        tuple(member.shape for member in request.pods for _ in range(member.count))
        for request in problem.online
    )
    beds = beds_by_node(problem, number)
    return Layout(
        names=tuple(supply.node for supply in ordered),
        free=tuple(supply.free for supply in ordered),
        beside=tuple(_beside(supply) for supply in ordered),
        leaf_of=tuple(leaf for leaf, (_, group) in enumerate(groups) for _ in group),
        leaves=tuple(range(a, b) for a, b in pairwise(starts)),
        models=models,
        paths=tuple(path for path, _ in groups),
        leaves_of=_leaves_of(models),
        spines=spines,
        spine_of=spine_of,
        pods=pods,
        members=tuple(
            tuple(n for n, member in enumerate(request.pods) for _ in range(member.count))
            for request in problem.online
        ),
        pieces=tuple(
            tuple(piece for shape in some for piece in (shape.piece,) * shape.pieces)
            for some in pods
        ),
        parts=parts,
        freed=tuple(_freed(gang, number) for gang in problem.gangs),
        gangs_on=_gangs_on(problem.gangs, parts, len(ordered)),
        limits_of=_limits_of(problem),
        beds=beds,
        beds_of=_beds_of(beds, [leaf for leaf, (_, group) in enumerate(groups) for _ in group]),
        fences=fences(problem, tuple(path for path, _ in groups)),
        tickets=tickets(problem, ordered),
        most_saved=most_saved(problem, beds),
    )


def _limits_of(problem: Problem) -> tuple[tuple[int, ...], ...]:
    found: dict[str, list[int]] = {gang.key: [] for gang in problem.gangs}
    for index, limit in enumerate(problem.stop_limits):
        for key in limit.gangs:
            if key in found:
                found[key].append(index)
    return tuple(tuple(found[gang.key]) for gang in problem.gangs)


def _beds_of(
    beds: tuple[tuple[Bed, ...], ...], leaf_of: list[int]
) -> dict[tuple[Kind, int], tuple[Bed, ...]]:
    found: dict[tuple[Kind, int], tuple[Bed, ...]] = {}
    for node, some in enumerate(beds):
        for bed in some:
            key = (bed.kind, leaf_of[node])
            found[key] = (*found.get(key, ()), bed)
    return found


def _leaves_of(models: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for leaf, model in enumerate(models):
        found[model] = (*found.get(model, ()), leaf)
    return found


def _spines(
    paths: tuple[tuple[str, ...], ...],
) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Leaves by spine pod, and the other way round; a path ends with leaf switch and model."""
    numbers: dict[tuple[str, ...], int] = {}
    spine_of = tuple(numbers.setdefault(path[:-2], len(numbers)) for path in paths)
    spines: list[list[int]] = [[] for _ in numbers]
    for leaf, spine in enumerate(spine_of):
        spines[spine].append(leaf)
    return tuple(tuple(leaves) for leaves in spines), spine_of


def _known_parts(gang: Gang, number: dict[str, int]) -> tuple[tuple[int, int], ...]:
    """The gang's GPUs on supplied nodes, one entry per node."""
    merged: dict[int, int] = {}
    for node, gpus in gang.parts:
        if node in number:
            merged[number[node]] = merged.get(number[node], 0) + gpus
    return tuple(sorted(merged.items()))


def _beside(supply: Supply) -> tuple[int, int]:
    return (
        PLENTY if supply.cpu_milli is None else supply.cpu_milli,
        PLENTY if supply.memory_mib is None else supply.memory_mib,
    )


def _freed(gang: Gang, number: dict[str, int]) -> dict[int, tuple[int, int]]:
    """What stopping the gang frees besides GPUs: each part has as much."""
    if not gang.cpu_milli and not gang.memory_mib:
        return {}
    counts = Counter(number[node] for node, _ in gang.parts if node in number)
    return {
        node: (count * gang.cpu_milli, count * gang.memory_mib) for node, count in counts.items()
    }


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
    _distinct("standby", "key", [unit.key for unit in problem.standby])
    _at_least(0, "late_price", problem.late_price)
    for supply in problem.supplies:
        _at_least(0, f"supplies: free of {supply.node}", supply.free)
        _at_least(0, f"supplies: cpu_milli of {supply.node}", supply.cpu_milli or 0)
        _at_least(0, f"supplies: memory_mib of {supply.node}", supply.memory_mib or 0)
    for request in problem.online:
        if request.members and request.shape != Shape(0, 0):
            raise ValueError(f"online: {request.key} has a shape and members; give one of them")
        for member in request.pods:
            _at_least(1, f"online: count of {member.role} of {request.key}", member.count)
            _check_shape("online", request.key, member.shape)
        for model, milli in request.capacity_milli.items():
            _at_least(1, f"online: capacity_milli[{model}] of {request.key}", milli)
        check(request)
    for job in problem.batch:
        _check_shape("batch", job.key, job.shape)
    _check_stops(problem)


def _check_stops(problem: Problem) -> None:
    for limit in problem.stop_limits:
        _at_least(0, f"stop_limits: most of {limit.name}", limit.most)
    for gang in problem.gangs:  # a free stop would be taken for nothing
        _at_least(1, f"gangs: cost of {gang.key}", gang.cost)
        _at_least(0, f"gangs: cpu_milli of {gang.key}", gang.cpu_milli)
        _at_least(0, f"gangs: memory_mib of {gang.key}", gang.memory_mib)


def _check_shape(field: str, key: str, shape: Shape) -> None:
    _at_least(1, f"{field}: shape.pieces of {key}", shape.pieces)
    _at_least(1, f"{field}: shape.gpus of {key}", shape.gpus)
    _at_least(0, f"{field}: shape.cpu_milli of {key}", shape.cpu_milli)
    _at_least(0, f"{field}: shape.memory_mib of {key}", shape.memory_mib)


def _at_least(least: int, what: str, value: int) -> None:
    if value < least:
        raise ValueError(f"{what} is {value}; give {least} or more")


def _distinct(field: str, name: str, keys: list[str]) -> None:
    if len(set(keys)) != len(keys):
        twice = min(key for key, count in Counter(keys).items() if count > 1)
        raise ValueError(f"{field}: {name} {twice} appears twice; state each one once")
