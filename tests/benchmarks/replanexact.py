"""Warm placement GPU by GPU: the exact program of small instances with sleepers, in PuLP.

x[service, piece kind, node] pieces; z[service, spine pod] groups; u[service] groups unserved;
y[gang] stopped; w[unit] woken; t[node, GPU] taken by a pod that wakes nobody. Per GPU: t + the
units on it <= 1 where it is free, <= y[gang] where a gang holds it. Per node: the t are the GPUs
of the pieces there less those of the units. First the unserved, then lost work and lateness.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import Any

import pulp

from scheduler.simulation.instances import GPUS_PER_NODE, Instance, Service, pieces_of
from tests.benchmarks.replansleepers import FREE, ONLINE, Sleeper, holders, lateness

Kind = tuple[str, int]
"""(role, number of the piece within its pod)."""


class Exact:
    """The program of an instance."""

    def __init__(self, instance: Instance, sleepers: Sequence[Sleeper]) -> None:
        self.instance, self.sleepers = instance, sleepers
        self.model = pulp.LpProblem("warm", pulp.LpMinimize)
        self.there: dict[tuple[int, str, int], list[Any]] = defaultdict(list)
        """Pieces of a service's role on a node."""
        self.gpus: list[list[Any]] = [[] for _ in instance.free_gpus]
        self.unserved: list[Any] = []
        self.stops = {gang.number: self._column(f"y{gang.number}", 1) for gang in instance.gangs}
        self.wakes = [self._column(f"w{one.number}", 1) for one in sleepers]
        for number, wanted in enumerate(instance.wanted_groups):
            if wanted:
                self._service(number, instance.services[number], wanted)
        for node, held in enumerate(holders(instance)):
            self._node(node, held)

    def least(self) -> tuple[int, float, int]:
        """GPUs unserved, loss (with lateness, priority-weighted GPU-hours), units woken."""
        self.model.setObjective(pulp.lpSum(self.unserved))
        self._solve()
        gpus = round(pulp.value(self.model.objective) or 0.0)
        self.model += pulp.lpSum(self.unserved) <= gpus
        costs = [gang.cost * self.stops[gang.number] for gang in self.instance.gangs]
        saved = [one.saves * w for one, w in zip(self.sleepers, self.wakes, strict=True)]
        self.model.setObjective(pulp.lpSum(costs) - pulp.lpSum(saved))
        self._solve()
        late = lateness(self.instance, self.sleepers, ())
        return gpus, late + float(pulp.value(self.model.objective) or 0.0), self._woken()

    def _woken(self) -> int:
        return sum(round(wake.value() or 0.0) for wake in self.wakes)

    def _solve(self) -> None:
        status = self.model.solve(pulp.HiGHS(msg=False, threads=1, gapRel=0.0))
        if pulp.LpStatus[status] != "Optimal":
            raise RuntimeError(f"the exact program ended {pulp.LpStatus[status]}")

    def _column(self, name: str, most: int) -> Any:  # noqa: ANN401  # PuLP ships no types
        return self.model.add_variable(name, 0, most, pulp.LpInteger)

    def _service(self, number: int, service: Service, wanted: int) -> None:
        unserved = self._column(f"u{number}", wanted)
        self.unserved.append(service.gpus * unserved)
        groups = [unserved]
        for spine, leaves in enumerate(self.instance.spine_pods):
            mine = [s for s in leaves if self.instance.leaf_models[s] in service.gpu_models]
            if mine:
                count = self._column(f"z{number}_{spine}", wanted)
                groups.append(count)
                self._pods(number, "prefill", mine, service.prefill_pods * count)
                self._pods(number, "decode", mine, service.decode_pods * count)
        self.model += pulp.lpSum(groups) == wanted

    def _pods(self, number: int, role: str, leaves: list[int], pods: Any) -> None:  # noqa: ANN401
        service = self.instance.services[number]
        gpus = service.prefill_gpus if role == "prefill" else service.decode_gpus
        halves: list[dict[int, list[Any]]] = []
        for half, held in enumerate(pieces_of(gpus)):
            by_leaf: dict[int, list[Any]] = {}
            for leaf in leaves:
                for node in self.instance.leaf_nodes[leaf]:
                    most = GPUS_PER_NODE // held
                    piece = self._column(f"x{number}{role}{half}_{node}", most)
                    by_leaf.setdefault(leaf, []).append(piece)
                    self.there[number, role, node].append(piece)
                    self.gpus[node].append(held * piece)
            self.model += pulp.lpSum(chain.from_iterable(by_leaf.values())) == pods
            halves.append(by_leaf)
        for leaf in leaves if len(halves) > 1 else ():
            self.model += pulp.lpSum(halves[0][leaf]) == pulp.lpSum(halves[1][leaf])

    def _node(self, node: int, held: Sequence[int]) -> None:
        mine = [
            (one, w) for one, w in zip(self.sleepers, self.wakes, strict=True) if one.node == node
        ]
        taken = []
        for device, holder in enumerate(held):
            users = [w for one, w in mine if device in one.devices]
            if holder != ONLINE:
                taken.append(self._column(f"t{node}_{device}", 1))
                most = 1 if holder == FREE else self.stops[holder]
                self.model += pulp.lpSum([taken[-1], *users]) <= most
        warm = [len(one.devices) * w for one, w in mine]
        self.model += pulp.lpSum(taken) == pulp.lpSum(self.gpus[node]) - pulp.lpSum(warm)
        kinds = {(one.service, one.role) for one, _ in mine}
        for service, role in sorted(kinds):
            units = [w for one, w in mine if (one.service, one.role) == (service, role)]
            self.model += pulp.lpSum(units) <= pulp.lpSum(self.there[service, role, node])
