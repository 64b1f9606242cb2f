"""The measuring rod: how fast this machine solves one fixed packing, and what a command cost it.

Figures in seconds are read beside `reference_seconds`, so that machines can be compared. The rod
states its program by itself and hands it straight to HiGHS: were it built from the planner's
rows, every change there would change the rod.

The program is nested capacity (`binpacking.slots` says why it is exact), all columns integer:

- g[v,s]: groups of service v wholly in leaf s; u[v]: groups not served;
- h[v,p]: groups split over the leaves of spine pod p; P[v,s], D[v,s]: their pods by leaf;
- y[j]: gang j is killed; q[n,k]: k-slots that node n gains by kills, where this is no linear
  function of y.

The rows: every group wanted is counted once; a split group's pods all lie in its spine pod; in
each leaf, for each k, the k-slots used are at most those free and gained. The objective is least
1,000 x GPUs of unserved groups + cost of killed gangs.
"""

import os
import resource
import time
from collections import Counter
from statistics import median

import highspy
import msgspec
import numpy as np

from scheduler.simulation.instances import GPUS_PER_NODE, Instance, RunningGang, Service, generate

NODES, SEED = 256, 0
"""The instance of the reference solve."""

_UNSERVED_GPU_COST = 1000
_SLOT_SIZES = (1, 2, 4, 8)
_KIB_PER_MIB = 1024


class Started(msgspec.Struct, frozen=True):
    """The machine's counters when a command began."""

    wall_seconds: float
    cpu_seconds: float


class Machine(msgspec.Struct, frozen=True):
    """The fields that every measuring command prints under `timing`."""

    wall_seconds: float
    cpu_seconds: float
    """Of this process and of those it started and saw end."""
    cores: int
    """That this process may run on."""
    peak_rss_mib: float
    """The largest of this process and of those it started and saw end."""
    reference_seconds: float


class Optimum(msgspec.Struct, frozen=True):
    """The least unserved online GPUs, and the least priority-weighted GPU-hours lost for that."""

    unserved_gpus: int
    loss: float


def start() -> Started:
    """Read the counters; call it first, and give the answer to `machine` last."""
    return Started(time.perf_counter(), _cpu_seconds())


def machine(since: Started) -> Machine:
    """Return what the command has cost since, then measure the rod, which is not counted."""
    wall = time.perf_counter() - since.wall_seconds
    cpu = _cpu_seconds() - since.cpu_seconds
    peak = max(usage.ru_maxrss for usage in _usages()) / _KIB_PER_MIB
    return Machine(wall, cpu, len(os.sched_getaffinity(0)), peak, reference_seconds())


def reference_seconds(repeats: int = 5) -> float:
    """Return the median wall time of HiGHS taking in and solving the reference instance."""
    model = _arrays(_program(generate(NODES, SEED)))
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        _run(model)
        seconds.append(time.perf_counter() - begun)
    return median(seconds)


def optimum(instance: Instance) -> Optimum:
    """Solve the instance to gap 0.

    Raises:
        RuntimeError: where HiGHS refuses the program or does not prove an optimum.
    """
    program = _program(instance)
    values = _run(_arrays(program))
    unserved = sum(gpus * round(values[column]) for column, gpus in program.unserved.items())
    killed = (cost for column, cost in program.kills.items() if round(values[column]))
    return Optimum(unserved, sum(killed, 0.0))


def _usages() -> list[resource.struct_rusage]:
    return [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]


def _cpu_seconds() -> float:
    return sum(usage.ru_utime + usage.ru_stime for usage in _usages())


Terms = Counter[int]
"""Column -> coefficient. It adds up: HiGHS refuses a row that names a column twice."""

Row = tuple[float, dict[int, int], float]
"""lower <= sum of coefficient x column <= upper."""


class _Program:
    """Columns and rows as they are stated; `used[s]` is what takes up room in leaf s."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.costs: list[float] = []
        self.uppers: list[int] = []
        self.rows: list[Row] = []
        self.unserved: dict[int, int] = {}
        """Column -> GPUs of a group."""
        self.kills: dict[int, float] = {}
        """Column -> cost of the gang."""
        self.used: list[list[tuple[int, tuple[int, ...]]]] = [[] for _ in instance.leaf_nodes]
        """By leaf: (column, GPUs of the pieces that one of it puts there)."""

    def column(self, upper: int, cost: float = 0.0) -> int:
        self.costs.append(cost)
        self.uppers.append(upper)
        return len(self.costs) - 1

    def row(self, lower: float, terms: Terms, upper: float) -> None:
        kept = {column: value for column, value in terms.items() if value}
        self.rows.append((lower, kept, upper))

    def room(self, leaf: int, pieces: tuple[int, ...], upper: int) -> int:
        """Return a new column that puts these pieces into the leaf."""
        column = self.column(upper)
        self.used[leaf].append((column, pieces))
        return column


def _program(instance: Instance) -> _Program:
    program = _Program(instance)
    for service, groups in zip(instance.services, instance.wanted_groups, strict=True):
        if groups:
            _state_service(program, service, groups)
    on_node: dict[int, dict[int, int]] = {}
    for gang in instance.gangs:
        _state_gang(program, gang, on_node)
    for leaf, nodes in enumerate(instance.leaf_nodes):
        for size in _SLOT_SIZES:
            _state_capacity(program, leaf, size, {node: on_node.get(node, {}) for node in nodes})
    return program


def _state_service(program: _Program, service: Service, groups: int) -> None:
    """State where the service's groups go, whole or split, and that each is counted once."""
    models = program.instance.leaf_models
    unserved = program.column(groups, float(_UNSERVED_GPU_COST * service.gpus))
    program.unserved[unserved] = service.gpus
    counted = [unserved]
    for spine_pod in program.instance.spine_pods:
        leaves = [leaf for leaf in spine_pod if models[leaf] in service.gpu_models]
        pieces = service.prefill_pieces + service.decode_pieces
        counted += [program.room(leaf, pieces, groups) for leaf in leaves]
        if len(leaves) > 1:  # a group always has a prefill and a decode pod that can part
            counted.append(_state_split(program, service, groups, leaves))
    program.row(groups, Counter(counted), groups)


def _state_split(program: _Program, service: Service, groups: int, leaves: list[int]) -> int:
    """Return the column of groups split over these leaves; their pods are placed one by one."""
    split = program.column(groups)
    for count, pieces in (
        (service.prefill_pods, service.prefill_pieces),
        (service.decode_pods, service.decode_pieces),
    ):
        pod = pieces[: len(pieces) // count]
        terms = Counter(program.room(leaf, pod, groups * count) for leaf in leaves)
        terms[split] = -count
        program.row(0, terms, 0)
    return split


def _state_gang(program: _Program, gang: RunningGang, on_node: dict[int, dict[int, int]]) -> None:
    """State that the gang may be killed; it enters `on_node`: node -> column -> GPUs."""
    kill = program.column(1, gang.cost)
    program.kills[kill] = gang.cost
    for piece in gang.pieces:
        on_node.setdefault(piece.node, {})[kill] = piece.gpus


def _state_capacity(
    program: _Program, leaf: int, size: int, kills: dict[int, dict[int, int]]
) -> None:
    """State that slots of one size suffice; `kills`: node -> column of a gang there -> GPUs."""
    terms: Terms = Counter()
    for column, pieces in program.used[leaf]:
        terms[column] = sum(gpus // size for gpus in pieces)
    if not any(terms.values()):
        return
    free = program.instance.free_gpus
    for node, gangs in kills.items():
        terms.subtract(_gain(program, free[node], size, gangs))
    slots = sum(free[node] // size for node in kills)
    program.row(-highspy.kHighsInf, terms, slots)


def _gain(program: _Program, free: int, size: int, gangs: dict[int, int]) -> Terms:
    """Return the slots that a node gains by kills; `gangs`: column -> GPUs on the node."""
    if all(gpus % size == 0 for gpus in gangs.values()):
        return Counter({kill: gpus // size for kill, gpus in gangs.items()})
    if len(gangs) == 1:
        return Counter({kill: (free + gpus) // size - free // size for kill, gpus in gangs.items()})
    most = (free + sum(gangs.values())) // size - free // size
    if not most:
        return Counter()
    gained = program.column(most)
    terms = Counter({kill: -gpus for kill, gpus in gangs.items()})
    terms[gained] = size
    program.row(-highspy.kHighsInf, terms, free % size)
    if size == GPUS_PER_NODE:  # the row implies this for integers, not for the relaxation
        for kill in gangs:
            program.row(-highspy.kHighsInf, Counter({gained: 1, kill: -1}), 0)
    return Counter([gained])


def _run(model: highspy.HighsLp) -> list[float]:
    """Return the columns of a proven optimum."""
    solver = highspy.Highs()  # type: ignore[no-untyped-call]  # it ships no types
    options = {"output_flag": False, "threads": 1, "mip_rel_gap": 0.0}
    steps = [
        *(solver.setOptionValue(name, value) for name, value in options.items()),
        solver.passModel(model),
    ]
    if any(step != highspy.HighsStatus.kOk for step in steps):
        raise RuntimeError("HiGHS refused the reference program")
    solver.run()
    status = solver.getModelStatus()
    if status != highspy.HighsModelStatus.kOptimal:
        raise RuntimeError(f"HiGHS did not prove the reference optimum: {status}")
    return list(solver.getSolution().col_value)


def _arrays(program: _Program) -> highspy.HighsLp:
    """Return the program in HiGHS' row-wise arrays."""
    lower, terms, upper = zip(*program.rows, strict=True)
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(program.costs), len(program.rows)
    model.col_cost_ = np.array(program.costs)
    model.col_lower_ = np.zeros(len(program.costs))
    model.col_upper_ = np.array(program.uppers, float)
    model.integrality_ = [highspy.HighsVarType.kInteger] * len(program.costs)
    model.row_lower_, model.row_upper_ = np.array(lower, float), np.array(upper, float)
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = np.cumsum([0, *(len(row) for row in terms)]).astype(np.int32)
    model.a_matrix_.index_ = np.array([column for row in terms for column in row], np.int32)
    model.a_matrix_.value_ = np.array([value for row in terms for value in row.values()], float)
    return model
