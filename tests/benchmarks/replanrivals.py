"""What a cluster without an integer program would do: two greedy rivals and the naive program.

Both greedy rivals take groups one by one, most GPUs first, then the largest pod. A group goes
wholly into one leaf or stays unserved. Pieces go largest first.
"""

from collections.abc import Callable
from typing import NamedTuple

from scheduler.simulation.instances import Instance, RunningGang, Service
from tests.benchmarks.replanproblem import Plan, Seated


class _Way(NamedTuple):
    """How a piece gets a node, or a group a leaf; compared by rank."""

    rank: tuple[float, ...]
    node: int
    killed: tuple[int, ...]


class _Trial(NamedTuple):
    cost: float
    free_left: int
    nodes: tuple[int, ...]
    killed: tuple[int, ...]


def cost_greedy(instance: Instance) -> Plan:
    """Fewest free GPUs, else the cheapest kills; the leaf of least cost, then best fit."""
    return _Greedy(instance, _fewest_free, _cheapest, _least_cost).plan()


def priority_first_fit(instance: Instance) -> Plan:
    """First node with room, else the lowest priorities; the first leaf without kills."""
    return _Greedy(instance, _first, _lowest_priority, _first_without_kills).plan()


Fit = Callable[["_Greedy", list[int], int], int | None]
Kill = Callable[["_Greedy", int, int], _Way | None]
Order = Callable[["_Trial", int], tuple[float, ...]]


class _Greedy:
    """The fleet while groups are placed; every running gang lies in one leaf."""

    def __init__(self, instance: Instance, fit: Fit, kill: Kill, order: Order) -> None:
        self.instance = instance
        self.fit, self.kill, self.order = fit, kill, order
        self.free = list(instance.free_gpus)
        self.running: dict[int, RunningGang] = {gang.number: gang for gang in instance.gangs}
        self.on_node: dict[int, list[tuple[RunningGang, int]]] = {}
        for gang in instance.gangs:
            for piece in gang.pieces:
                self.on_node.setdefault(piece.node, []).append((gang, piece.gpus))
        self.leaf_of = {n: s for s, nodes in enumerate(instance.leaf_nodes) for n in nodes}

    def plan(self) -> Plan:
        instance = self.instance
        order = sorted(
            (number for number, wanted in enumerate(instance.wanted_groups) if wanted),
            key=lambda v: (-instance.services[v].gpus, -_largest_pod(instance.services[v]), v),
        )
        placed = [
            seated
            for number in order
            for seated in self._serve(number, instance.wanted_groups[number])
        ]
        gone = {gang.number for gang in instance.gangs} - self.running.keys()
        return Plan(tuple(sorted(gone)), tuple(placed))

    def _serve(self, number: int, wanted: int) -> list[Seated]:
        service = self.instance.services[number]
        roles = ["prefill"] * len(service.prefill_pieces) + ["decode"] * len(service.decode_pieces)
        sizes = service.prefill_pieces + service.decode_pieces
        largest = sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))
        models = self.instance.leaf_models
        leaves = [s for s, model in enumerate(models) if model in service.gpu_models]
        trials = {leaf: self._try(leaf, [sizes[i] for i in largest]) for leaf in leaves}
        seated = []
        for _ in range(wanted):
            ways = [(self.order(t, leaf), leaf) for leaf, t in trials.items() if t is not None]
            if not ways:
                break
            leaf = min(ways)[1]
            trial = trials[leaf]
            assert trial is not None
            self._commit(trial, [sizes[i] for i in largest])
            node = dict(zip(largest, trial.nodes, strict=True))
            pieces = tuple((node[i], sizes[i], roles[i]) for i in range(len(sizes)))
            seated.append(Seated(number, pieces))
            trials[leaf] = self._try(leaf, [sizes[i] for i in largest])
        return seated

    def _try(self, leaf: int, sizes: list[int]) -> _Trial | None:
        nodes = list(self.instance.leaf_nodes[leaf])
        kept = {node: self.free[node] for node in nodes}
        stopped: list[RunningGang] = []
        seats: list[int] = []
        for gpus in sizes:
            node = self.fit(self, nodes, gpus)
            if node is None:
                ways = [way for n in nodes if (way := self.kill(self, n, gpus)) is not None]
                if not ways:
                    break
                way = min(ways)
                node = way.node
                stopped += [self._stop(number) for number in way.killed]
            self.free[node] -= gpus
            seats.append(node)
        cost = sum((gang.cost for gang in stopped), 0.0)
        left = sum(self.free[node] for node in set(seats))
        for node, free in kept.items():
            self.free[node] = free
        self.running.update((gang.number, gang) for gang in stopped)
        if len(seats) < len(sizes):
            return None
        return _Trial(cost, left, tuple(seats), tuple(gang.number for gang in stopped))

    def _commit(self, trial: _Trial, sizes: list[int]) -> None:
        for number in trial.killed:
            self._stop(number)
        for node, gpus in zip(trial.nodes, sizes, strict=True):
            self.free[node] -= gpus

    def _stop(self, number: int) -> RunningGang:
        gang = self.running.pop(number)
        for piece in gang.pieces:
            self.free[piece.node] += piece.gpus
        return gang

    def victims(self, node: int) -> list[tuple[RunningGang, int]]:
        """Return the gangs that run on the node, with the GPUs they hold there."""
        return [(gang, g) for gang, g in self.on_node.get(node, []) if gang.number in self.running]


def _largest_pod(service: Service) -> int:
    return max(service.prefill_gpus, service.decode_gpus)


def _fewest_free(greedy: _Greedy, nodes: list[int], gpus: int) -> int | None:
    room = [(greedy.free[node], node) for node in nodes if greedy.free[node] >= gpus]
    return min(room)[1] if room else None


def _first(greedy: _Greedy, nodes: list[int], gpus: int) -> int | None:
    return next((node for node in nodes if greedy.free[node] >= gpus), None)


def _kill_until(
    greedy: _Greedy, node: int, gpus: int, victims: list[tuple[RunningGang, int]]
) -> tuple[list[RunningGang], int] | None:
    """Return the first victims that make room, and the GPUs free after; None: all do not."""
    free, chosen = greedy.free[node], list[RunningGang]()
    for gang, held in victims:
        if free >= gpus:
            break
        chosen.append(gang)
        free += held
    return (chosen, free - gpus) if free >= gpus else None


def _cheapest(greedy: _Greedy, node: int, gpus: int) -> _Way | None:
    victims = sorted(greedy.victims(node), key=lambda pair: (pair[0].cost, pair[0].number))
    found = _kill_until(greedy, node, gpus, victims)
    if found is None:
        return None
    chosen, after = found
    cost = sum(gang.cost for gang in chosen)
    return _Way((cost, after, node), node, tuple(gang.number for gang in chosen))


def _lowest_priority(greedy: _Greedy, node: int, gpus: int) -> _Way | None:
    victims = sorted(greedy.victims(node), key=lambda pair: (pair[0].priority, pair[0].number))
    found = _kill_until(greedy, node, gpus, victims)
    if found is None:
        return None
    chosen, _ = found
    highest = max((gang.priority for gang in chosen), default=0)
    return _Way((highest, len(chosen), node), node, tuple(gang.number for gang in chosen))


def _least_cost(trial: _Trial, leaf: int) -> tuple[float, ...]:
    return (trial.cost, trial.free_left, leaf)


def _first_without_kills(trial: _Trial, leaf: int) -> tuple[float, ...]:
    return (trial.cost, leaf)
