"""The naive program: one integer column per piece kind and node, the form found in most papers.

x[service, piece kind, node] pieces; z[service, spine pod] groups; u[service] groups unserved;
y[gang] killed. Rows: capacity per node; the pieces of a service in a spine pod are those of its
groups there; the two halves of a pod over two nodes are equally many in each leaf. Objective:
1,000 x GPUs unserved + cost of the killed. HiGHS, one thread, a time limit.
"""

from collections import defaultdict
from collections.abc import Iterator

import highspy
import numpy as np

from scheduler.simulation.instances import GPUS_PER_NODE, Instance, Service, pieces_of
from tests.benchmarks.replanproblem import Plan, Seated

UNSERVED_GPU_COST = 1000.0

Kind = tuple[str, int]
"""(role, number of the piece within its pod)."""


class _Model:
    """Columns and rows as they are stated."""

    def __init__(self) -> None:
        self.costs: list[float] = []
        self.uppers: list[float] = []
        self.rows: list[tuple[float, dict[int, float], float]] = []

    def column(self, upper: float, cost: float = 0.0) -> int:
        self.costs.append(cost)
        self.uppers.append(upper)
        return len(self.costs) - 1

    def row(self, lower: float, terms: dict[int, float], upper: float) -> None:
        self.rows.append((lower, terms, upper))

    def arrays(self) -> highspy.HighsLp:
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = len(self.costs), len(self.rows)
        model.col_cost_, model.col_upper_ = np.array(self.costs), np.array(self.uppers)
        model.col_lower_ = np.zeros(len(self.costs))
        model.integrality_ = [highspy.HighsVarType.kInteger] * len(self.costs)
        model.row_lower_ = np.array([row[0] for row in self.rows])
        model.row_upper_ = np.array([row[2] for row in self.rows])
        terms = [row[1] for row in self.rows]
        matrix = model.a_matrix_
        matrix.format_ = highspy.MatrixFormat.kRowwise
        matrix.start_ = np.cumsum([0, *(len(row) for row in terms)]).astype(np.int32)
        matrix.index_ = np.array([column for row in terms for column in row], np.int32)
        matrix.value_ = np.array([value for row in terms for value in row.values()], float)
        return model


class _Naive:
    """The program of an instance, and what its columns mean."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.model = _Model()
        self.pieces: dict[tuple[int, Kind, int], int] = {}
        self.groups: dict[tuple[int, int], int] = {}
        self.kills: dict[int, int] = {}
        self.on_node: list[dict[int, float]] = [{} for _ in instance.free_gpus]
        for number, wanted in enumerate(instance.wanted_groups):
            if wanted:
                self._service(number, instance.services[number], wanted)
        for gang in instance.gangs:
            kill = self.kills[gang.number] = self.model.column(1.0, gang.cost)
            for piece in gang.pieces:
                self.on_node[piece.node][kill] = -float(piece.gpus)
        for node, terms in enumerate(self.on_node):
            self.model.row(-highspy.kHighsInf, terms, float(instance.free_gpus[node]))

    def _service(self, number: int, service: Service, wanted: int) -> None:
        unserved = self.model.column(wanted, UNSERVED_GPU_COST * service.gpus)
        demand = {unserved: 1.0}
        for spine, leaves in enumerate(self.instance.spine_pods):
            mine = [s for s in leaves if self.instance.leaf_models[s] in service.gpu_models]
            if mine:
                groups = self.groups[number, spine] = self.model.column(wanted)
                demand[groups] = 1.0
                for role, count, gpus in _pods(service):
                    self._pods(number, (role, count, gpus), mine, groups, wanted)
        self.model.row(wanted, demand, wanted)

    def _pods(
        self, number: int, pods: tuple[str, int, int], leaves: list[int], groups: int, wanted: int
    ) -> None:
        role, count, gpus = pods
        halves = len(pieces_of(gpus))
        held = min(gpus, GPUS_PER_NODE)
        for half in range(halves):
            total: dict[int, float] = {groups: -float(count)}
            for leaf in leaves:
                for node in self.instance.leaf_nodes[leaf]:
                    column = self.model.column(wanted * count)
                    self.pieces[number, (role, half), node] = column
                    self.on_node[node][column] = float(held)
                    total[column] = 1.0
            self.model.row(0.0, total, 0.0)
        for leaf in leaves if halves > 1 else ():
            nodes = self.instance.leaf_nodes[leaf]
            same = {self.pieces[number, (role, 0), node]: 1.0 for node in nodes}
            same |= {self.pieces[number, (role, 1), node]: -1.0 for node in nodes}
            self.model.row(0.0, same, 0.0)

    def plan(self, values: list[float]) -> Plan:
        """Return the groups and kills of a feasible point."""
        nodes: dict[tuple[int, int, Kind], list[int]] = defaultdict(list)
        spine_of = {
            node: spine
            for spine, leaves in enumerate(self.instance.spine_pods)
            for leaf in leaves
            for node in self.instance.leaf_nodes[leaf]
        }
        for (number, kind, node), column in self.pieces.items():
            nodes[number, spine_of[node], kind] += [node] * round(values[column])
        placed = [
            Seated(number, tuple(self._group(number, spine, nodes)))
            for (number, spine), column in self.groups.items()
            for _ in range(round(values[column]))
        ]
        killed = (gang for gang, column in self.kills.items() if round(values[column]))
        return Plan(tuple(sorted(killed)), tuple(placed))

    def _group(
        self, number: int, spine: int, nodes: dict[tuple[int, int, Kind], list[int]]
    ) -> Iterator[tuple[int, int, str]]:
        """Take the next pods; nodes are in order of leaf, so that halves pair up within leaves."""
        for role, count, gpus in _pods(self.instance.services[number]):
            for _ in range(count):
                for half, held in enumerate(pieces_of(gpus)):
                    yield nodes[number, spine, (role, half)].pop(0), held, role


def _pods(service: Service) -> tuple[tuple[str, int, int], ...]:
    return (
        ("prefill", service.prefill_pods, service.prefill_gpus),
        ("decode", service.decode_pods, service.decode_gpus),
    )


def naive(instance: Instance, seconds: float) -> Plan:
    """Return the best plan found in the time; nothing placed where there is none."""
    program = _Naive(instance)
    solver = highspy.Highs()  # type: ignore[no-untyped-call]  # it ships no types
    options = {"output_flag": False, "threads": 1, "mip_rel_gap": 0.0, "time_limit": seconds}
    steps = [
        *(solver.setOptionValue(name, value) for name, value in options.items()),
        solver.passModel(program.model.arrays()),
    ]
    if any(step != highspy.HighsStatus.kOk for step in steps):
        raise RuntimeError("HiGHS refused the naive program")
    solver.run()
    solution = solver.getSolution()
    if not solution.value_valid:
        return Plan((), ())
    return program.plan(list(solution.col_value))
