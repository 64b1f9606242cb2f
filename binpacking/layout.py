"""A problem compiled to numbers: nodes, leaves and gangs as indices into plain tuples.

Read once per question by every rung. Nodes are numbered leaf by leaf and inside a leaf by name,
so "smallest number" is "smallest name" and a leaf is a range.
"""

from collections import Counter
from itertools import accumulate, pairwise

import msgspec

from binpacking.beds import Bed, Kind, beds_by_node, most_saved
from binpacking.contradictions import refuse_contradictions
from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.pools import PoolNumbers, numbered
from binpacking.problem import Gang, OnlineRequest, Piece, Problem, Shape, Supply
from binpacking.shares import Deck, Share
from binpacking.spread import Fence, fences, tickets
from binpacking.topology import by_leaf

PLENTY = 1 << 60
"""Stands for CPU and memory that are not known."""

_NO_CARDS = Deck(Share(WHOLE_GPU_MILLI, PLENTY))
"""Of a node whose cards nobody shares."""


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The problem's supplies and gangs by number."""

    names: tuple[str, ...]
    """Node name by node number."""
    free: tuple[int, ...]
    """Free GPUs by node number, before any kill."""
    beside: tuple[tuple[int, int], ...]
    """Free (milli-CPU, MiB of memory) by node number; `PLENTY` where not known."""
    decks: tuple[Deck, ...]
    """By node number: the cards that pods share."""
    sharing: bool
    """Whether any node has such."""
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
    """(node number, whole GPUs) by gang number, 0 where it only shares cards; parts on nodes that
    are no supply are left out.
    """
    held: tuple[tuple[tuple[int, int, Share], ...], ...]
    """(node number, card, share) by gang number."""
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
    pools: tuple[PoolNumbers, ...]
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
    refuse_contradictions(problem)
    groups = by_leaf(problem.supplies)
    ordered = [supply for _, group in groups for supply in group]
    number = {supply.node: index for index, supply in enumerate(ordered)}
    starts = (0, *accumulate(len(group) for _, group in groups))
    leaf_of = tuple(leaf for leaf, (_, group) in enumerate(groups) for _ in group)
    models = tuple(group[0].gpu_model for _, group in groups)
    paths = tuple(path for path, _ in groups)
    spines, spine_of = _spines(paths)
    parts = tuple(_known_parts(gang, number) for gang in problem.gangs)
    pods = tuple(_pods(request) for request in problem.online)
    beds = beds_by_node(problem, number)
    return Layout(
        names=tuple(supply.node for supply in ordered),
        free=tuple(supply.free for supply in ordered),
        beside=tuple(_beside(supply) for supply in ordered),
        decks=tuple(_deck(supply) for supply in ordered),
        sharing=any(supply.cards for supply in ordered),
        leaf_of=leaf_of,
        leaves=tuple(range(first, end) for first, end in pairwise(starts)),
        models=models,
        paths=paths,
        leaves_of=_leaves_of(models),
        spines=spines,
        spine_of=spine_of,
        pods=tuple(tuple(shape for _, shape in some) for some in pods),
        members=tuple(tuple(member for member, _ in some) for some in pods),
        pieces=tuple(_pieces(some) for some in pods),
        parts=parts,
        held=tuple(_held(gang, number, ordered) for gang in problem.gangs),
        freed=tuple(_freed(gang, number) for gang in problem.gangs),
        gangs_on=_gangs_on(problem.gangs, parts, len(ordered)),
        limits_of=_limits_of(problem),
        beds=beds,
        beds_of=_beds_of(beds, leaf_of),
        fences=fences(problem, paths),
        tickets=tickets(problem, ordered),
        pools=numbered(problem, paths, models),
        most_saved=most_saved(problem, beds),
    )


def _pods(request: OnlineRequest) -> tuple[tuple[int, Shape], ...]:
    """(member, shape) of the pods of one replica."""
    members = enumerate(request.pods)
    return tuple((number, one.shape) for number, one in members for _ in range(one.count))


def _pieces(pods: tuple[tuple[int, Shape], ...]) -> tuple[Piece, ...]:
    return tuple(piece for _, shape in pods for piece in (shape.piece,) * shape.pieces)


def _limits_of(problem: Problem) -> tuple[tuple[int, ...], ...]:
    found: dict[str, list[int]] = {gang.key: [] for gang in problem.gangs}
    for index, limit in enumerate(problem.stop_limits):
        for key in limit.gangs:
            if key in found:
                found[key].append(index)
    return tuple(tuple(found[gang.key]) for gang in problem.gangs)


def _beds_of(
    beds: tuple[tuple[Bed, ...], ...], leaf_of: tuple[int, ...]
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
    for node, gpus in (*gang.parts, *((one.node, 0) for one in gang.shares)):
        if node in number:
            merged[number[node]] = merged.get(number[node], 0) + gpus
    return tuple(sorted(merged.items()))


def _deck(supply: Supply) -> Deck:
    if supply.card_memory_mib is None and not supply.cards:
        return _NO_CARDS
    if supply.card_memory_mib is None:
        cards = tuple(Share(card.milli, PLENTY) for card in supply.cards)
        return Deck(Share(WHOLE_GPU_MILLI, PLENTY), cards)
    return Deck(Share(WHOLE_GPU_MILLI, supply.card_memory_mib), supply.cards)


def _held(
    gang: Gang, number: dict[str, int], supplies: list[Supply]
) -> tuple[tuple[int, int, Share], ...]:
    """The gang's shares on supplied nodes; of memory that nobody knows they give nothing back."""
    found = []
    for node, card, share in gang.shares:
        if node in number:
            known = supplies[number[node]].card_memory_mib is not None
            found.append((number[node], card, share if known else Share(share.milli)))
    return tuple(found)


def _beside(supply: Supply) -> tuple[int, int]:
    return (
        PLENTY if supply.cpu_milli is None else supply.cpu_milli,
        PLENTY if supply.memory_mib is None else supply.memory_mib,
    )


def _freed(gang: Gang, number: dict[str, int]) -> dict[int, tuple[int, int]]:
    """What stopping the gang frees besides GPUs: each part and each share has as much."""
    if not gang.cpu_milli and not gang.memory_mib:
        return {}
    nodes = (*(node for node, _ in gang.parts), *(one.node for one in gang.shares))
    counts = Counter(number[node] for node in nodes if node in number)
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
