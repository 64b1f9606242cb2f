"""Packing instances drawn from a seed: a fleet nearly full, and an event that wants more online.

The planner never reads this file; benchmarks and the reference solve pose its instances. One
`numpy` generator is drawn from in a fixed order, so a seed gives the same instance everywhere.
All shapes, shares and probabilities are invented, and fixed: published figures rest on them.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import floor

import msgspec
import numpy as np

GPUS_PER_NODE = 8
LEAVES_PER_SPINE_POD = 8

_LEAF_NODES, _SMALL_LEAF_NODES, _SMALL_FLEET_NODES = 32, 8, 16
_EIGHT_LEAVES = (0, 0, 0, 0, 1, 1, 1, 2)
_TENSOR_PARALLEL = (1, 2, 4, 8, 16)
_PREFILL_ODDS, _DECODE_ODDS = (0.1, 0.2, 0.3, 0.3, 0.1), (0.05, 0.15, 0.25, 0.35, 0.2)
_POD_COUNTS, _POD_ODDS = ((1, 1), (2, 1), (1, 2), (3, 1), (2, 2)), (0.3, 0.25, 0.2, 0.1, 0.15)
_GANG_SIZES, _GANG_ODDS = (1, 2, 4, 8, 16, 32, 64), (0.30, 0.20, 0.20, 0.15, 0.08, 0.05, 0.02)
_PRIORITIES, _PRIORITY_ODDS = (1, 2, 4), (0.6, 0.3, 0.1)
_BEST_FIT_SHARE = 0.6
_FREE_AFTER_FILLING = 0.04
_LARGE_GANG_GPUS, _LARGE_STAYS = 16, 0.7
_HOURS_SINCE_CHECKPOINT, _RESTART_HOURS = 0.7, 0.1
_FAILURES_PER_NODE = 20
_SMALL_CHANGE_SERVICES = 3


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """An online service. One group = its prefill pods and its decode pods."""

    prefill_gpus: int
    """GPUs of one prefill pod; 16 is two pieces of 8 in one leaf."""
    decode_gpus: int
    prefill_pods: int
    decode_pods: int
    gpu_models: tuple[int, ...]
    """Those it may run on, ascending."""

    @property
    def gpus(self) -> int:
        """GPUs of one group."""
        return self.prefill_gpus * self.prefill_pods + self.decode_gpus * self.decode_pods

    @property
    def prefill_pieces(self) -> tuple[int, ...]:
        """GPUs of each piece of one group's prefill pods."""
        return pieces_of(self.prefill_gpus) * self.prefill_pods

    @property
    def decode_pieces(self) -> tuple[int, ...]:
        """GPUs of each piece of one group's decode pods."""
        return pieces_of(self.decode_gpus) * self.decode_pods


class Piece(msgspec.Struct, frozen=True):
    """GPUs held on one node."""

    node: int
    gpus: int


class Group(msgspec.Struct, frozen=True):
    """One group of a service that runs already, wholly in one leaf; pieces largest first."""

    service: int
    pieces: tuple[Piece, ...]


class RunningGang(msgspec.Struct, frozen=True, kw_only=True):
    """A running batch gang, wholly in one leaf."""

    number: int
    """In order of creation, those that have left included."""
    gpus: int
    priority: int
    hours_since_checkpoint: float
    pieces: tuple[Piece, ...]

    @property
    def cost(self) -> float:
        """Priority-weighted GPU-hours lost when it is killed now."""
        return self.gpus * self.priority * (self.hours_since_checkpoint + _RESTART_HOURS)


class PendingGangs(msgspec.Struct, frozen=True):
    """Waiting batch gangs of one size and priority."""

    gpus: int
    priority: int
    count: int


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet at the moment of an event. Nodes, leaves and services are numbered from 0."""

    leaf_nodes: tuple[tuple[int, ...], ...]
    """The nodes of each leaf."""
    leaf_models: tuple[int, ...]
    """The GPU model of each leaf."""
    spine_pods: tuple[tuple[int, ...], ...]
    """The leaves of each spine pod."""
    free_gpus: tuple[int, ...]
    """Free GPUs of each node."""
    services: tuple[Service, ...]
    groups: tuple[Group, ...]
    """Online groups that run, in order of creation."""
    gangs: tuple[RunningGang, ...]
    """Batch gangs that run, by number."""
    wanted_groups: tuple[int, ...]
    """The event: further groups wanted, per service."""
    pending: tuple[PendingGangs, ...]
    """Ascending by size, then priority."""

    @property
    def wanted_gpus(self) -> int:
        """GPUs of all further groups."""
        return sum(
            service.gpus * groups
            for service, groups in zip(self.services, self.wanted_groups, strict=True)
        )


def pieces_of(gpus: int) -> tuple[int, ...]:
    """GPUs per piece of a pod or gang that takes whole nodes where one node is too small."""
    return (min(gpus, GPUS_PER_NODE),) * max(1, gpus // GPUS_PER_NODE)


def generate(
    nodes: int,
    seed: int,
    *,
    occupancy: float = 0.9,
    online: float = 0.4,
    growth: float = 0.3,
    pending: float = 0.1,
    small: bool = False,
) -> Instance:
    """Draw the instance of `seed`.

    `occupancy`: share of GPUs held at the event; `online`: share that online groups hold;
    `growth`: groups wanted per running group; `pending`: waiting batch, as a share of GPUs.
    `small`: the event is cut to at most three services with one or two groups each.

    Raises:
        ValueError: for a fleet or share that cannot be drawn.
    """
    _check(nodes, occupancy, online, growth, pending)
    draw = _Draw(nodes, seed)
    services = draw.services()
    groups = draw.groups(services, online)
    gangs = draw.departed(draw.gangs(), occupancy)
    running = Counter(group.service for group in groups)
    wanted = draw.event([running[number] for number in range(len(services))], growth)
    waiting = draw.pending(pending)
    return Instance(
        leaf_nodes=draw.leaf_nodes,
        leaf_models=draw.leaf_models,
        spine_pods=_spine_pods(len(draw.leaf_nodes)),
        free_gpus=tuple(draw.free),
        services=services,
        groups=groups,
        gangs=gangs,
        wanted_groups=draw.small_change(wanted) if small else wanted,
        pending=waiting,
    )


def _check(nodes: int, occupancy: float, online: float, growth: float, pending: float) -> None:
    if nodes < _SMALL_LEAF_NODES:
        raise ValueError(f"nodes is {nodes}: a leaf has at least {_SMALL_LEAF_NODES} nodes")
    fullest = 1 - _FREE_AFTER_FILLING
    if not 0 < occupancy <= fullest:
        raise ValueError(f"occupancy is {occupancy}: give a share above 0, at most {fullest}")
    if not 0 < online <= occupancy:
        raise ValueError(f"online is {online}: give a share above 0, at most the occupancy")
    for name, share in (("growth", growth), ("pending", pending)):
        if share < 0:
            raise ValueError(f"{name} is {share}: give a share of 0 or more")


class _Draw:
    """The steps of one drawing; `free` is the free GPUs of each node as the steps fill them."""

    def __init__(self, nodes: int, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes = nodes
        self.total_gpus = nodes * GPUS_PER_NODE
        self.free = [GPUS_PER_NODE] * nodes
        self.leaf_nodes = _leaf_nodes(nodes)
        self.leaf_models = _leaf_models(len(self.leaf_nodes))

    def services(self) -> tuple[Service, ...]:
        return tuple(self._service() for _ in range(max(3, min(64, self.nodes // 16))))

    def _service(self) -> Service:
        prefill_gpus = self._pick(_TENSOR_PARALLEL, _PREFILL_ODDS)
        decode_gpus = self._pick(_TENSOR_PARALLEL, _DECODE_ODDS)
        prefill_pods, decode_pods = _POD_COUNTS[self.random.choice(len(_POD_ODDS), p=_POD_ODDS)]
        models = max(self.leaf_models) + 1
        count = min(models, int(self.random.integers(1, 3)))
        allowed = self.random.choice(models, size=count, replace=False)
        return Service(
            prefill_gpus=prefill_gpus,
            decode_gpus=decode_gpus,
            prefill_pods=prefill_pods,
            decode_pods=decode_pods,
            gpu_models=tuple(sorted(int(model) for model in allowed)),
        )

    def groups(self, services: tuple[Service, ...], share: float) -> tuple[Group, ...]:
        """Place groups until they hold the share, or too many found no room."""
        groups: list[Group] = []
        target, held, failures = self._gpus(share), 0, 0
        while held < target and failures < _FAILURES_PER_NODE * self.nodes:
            number = int(self.random.integers(len(services)))
            service = services[number]
            leaves = [s for s, m in enumerate(self.leaf_models) if m in service.gpu_models]
            leaf = int(self.random.choice(leaves))
            pieces = self._put_all(
                sorted(service.prefill_pieces + service.decode_pieces, reverse=True), leaf
            )
            if pieces is None:
                failures += 1
            else:
                groups.append(Group(number, pieces))
                held += service.gpus
        return tuple(groups)

    def gangs(self) -> list[RunningGang]:
        """Fill what is left with gangs, until almost nothing is free or too many found no room."""
        gangs: list[RunningGang] = []
        free, failures = sum(self.free), 0
        least = self._gpus(_FREE_AFTER_FILLING)
        while free >= least and failures < _FAILURES_PER_NODE * self.nodes:
            gpus = self._pick(_GANG_SIZES, _GANG_ODDS)
            pieces = self._put_all(pieces_of(gpus), int(self.random.integers(len(self.leaf_nodes))))
            if pieces is None:
                failures += 1
            else:
                gangs.append(self._gang(len(gangs), gpus, pieces))
                free -= gpus
        return gangs

    def _gang(self, number: int, gpus: int, pieces: tuple[Piece, ...]) -> RunningGang:
        return RunningGang(
            number=number,
            gpus=gpus,
            priority=self._pick(_PRIORITIES, _PRIORITY_ODDS),
            hours_since_checkpoint=float(self.random.exponential(_HOURS_SINCE_CHECKPOINT)),
            pieces=pieces,
        )

    def departed(self, gangs: list[RunningGang], occupancy: float) -> tuple[RunningGang, ...]:
        """Let gangs leave until the occupancy is reached, which makes realistic holes."""
        left = dict(enumerate(gangs))
        free, target = sum(self.free), self._gpus(1 - occupancy)
        while left and free < target:
            gang = left.get(int(self.random.integers(len(gangs))))
            if gang is None:
                continue
            if gang.gpus > _LARGE_GANG_GPUS and self.random.random() < _LARGE_STAYS:
                continue
            del left[gang.number]
            self._give_back(gang.pieces)
            free += gang.gpus
        return tuple(left.values())

    def event(self, running: list[int], growth: float) -> tuple[int, ...]:
        """Return further groups wanted per service: the growth, rounded up or down by chance."""
        chances = self.random.random(len(running))
        wanted = [
            floor(growth * groups + chance) for groups, chance in zip(running, chances, strict=True)
        ]
        if not any(wanted):
            wanted[running.index(max(running))] = 1
        return tuple(wanted)

    def pending(self, share: float) -> tuple[PendingGangs, ...]:
        """Return waiting gangs that sum to the share; the least leaf has room for the largest."""
        counts: Counter[tuple[int, int]] = Counter()
        gpus, target = 0, self._gpus(share)
        while gpus < target:
            size = self._pick(_GANG_SIZES, _GANG_ODDS)
            counts[size, self._pick(_PRIORITIES, _PRIORITY_ODDS)] += 1
            gpus += size
        return tuple(
            PendingGangs(size, priority, count)
            for (size, priority), count in sorted(counts.items())
        )

    def small_change(self, wanted: tuple[int, ...]) -> tuple[int, ...]:
        """Keep a few of the services that want groups, with one or two groups each."""
        wanting = [service for service, groups in enumerate(wanted) if groups]
        count = min(_SMALL_CHANGE_SERVICES, len(wanting))
        kept = [int(v) for v in self.random.choice(wanting, size=count, replace=False)]
        groups = {service: int(self.random.integers(1, 3)) for service in kept}
        return tuple(groups.get(service, 0) for service in range(len(wanted)))

    def _put_all(self, sizes: Iterable[int], leaf: int) -> tuple[Piece, ...] | None:
        """Put all pieces into the leaf; None, and nothing held, where one finds no room."""
        pieces: list[Piece] = []
        for size in sizes:
            node = self._put(size, leaf)
            if node is None:
                self._give_back(pieces)
                return None
            pieces.append(Piece(node, size))
        return tuple(pieces)

    def _put(self, gpus: int, leaf: int) -> int | None:
        nodes = [node for node in self.leaf_nodes[leaf] if self.free[node] >= gpus]
        if not nodes:
            return None
        if self.random.random() < _BEST_FIT_SHARE:
            node = min(nodes, key=lambda node: (self.free[node], node))
        else:
            node = int(self.random.choice(nodes))
        self.free[node] -= gpus
        return node

    def _give_back(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            self.free[piece.node] += piece.gpus

    def _pick(self, values: Sequence[int], odds: Sequence[float]) -> int:
        return int(self.random.choice(values, p=odds))

    def _gpus(self, share: float) -> float:
        """GPUs of a share of the fleet, free of the last digits' noise: 1 - 0.9 is not 0.1."""
        return round(share * self.total_gpus, 6)


def _leaf_nodes(nodes: int) -> tuple[tuple[int, ...], ...]:
    """Whole leaves of consecutive nodes; the last leaf takes the remainder."""
    size = _SMALL_LEAF_NODES if nodes <= _SMALL_FLEET_NODES else _LEAF_NODES
    count = max(1, nodes // size)
    ends = [*(size * leaf for leaf in range(count)), nodes]
    return tuple(tuple(range(ends[leaf], ends[leaf + 1])) for leaf in range(count))


def _leaf_models(leaves: int) -> tuple[int, ...]:
    """The GPU model of each leaf: one in the least fleets, two in small ones, else three."""
    if leaves <= 2:  # noqa: PLR2004  # the bound of the family
        return (0,) * leaves
    if leaves < LEAVES_PER_SPINE_POD:
        return tuple(int(leaf >= (leaves + 1) // 2) for leaf in range(leaves))
    return tuple(_EIGHT_LEAVES[leaf % len(_EIGHT_LEAVES)] for leaf in range(leaves))


def _spine_pods(leaves: int) -> tuple[tuple[int, ...], ...]:
    starts = range(0, leaves, LEAVES_PER_SPINE_POD)
    return tuple(tuple(range(i, min(leaves, i + LEAVES_PER_SPINE_POD))) for i in starts)
