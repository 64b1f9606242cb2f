"""The nested-capacity integer program as plain rows: no solver, no node variables.

Per leaf s and size k one row U_k[s] <= C_k[s] + G_k[s](y): the k-slots that all pieces of k GPUs
or more use up are covered by the free k-slots and those gained by stopping gangs. For sizes that
are powers of two these rows hold exactly when the pieces fit (see `slots`); other sizes are
rounded up here, which is safe, and keep their true size when they are seated. Stopped gangs
on a node with several killable gangs need one integer per (node, k), because the gain
floor((f + sum g y) / k) - floor(f / k) is linear in y otherwise only where k divides every g.
"""

from collections.abc import Iterable, Sequence

import msgspec

from binpacking.layout import Layout
from binpacking.problem import BatchRequest, OnlineRequest, Shape, StopLimit
from binpacking.slots import power_of_two

Term = tuple[int, int]
"""(column number, coefficient)."""


class Column(msgspec.Struct, frozen=True):
    """An integer from 0 to `upper`."""

    name: str
    upper: int


class Row(msgspec.Struct, frozen=True):
    """lower <= sum of coefficient x column <= upper; None: no limit on that side."""

    name: str
    terms: tuple[Term, ...]
    lower: int | None
    upper: int | None


class Crew(msgspec.Struct, frozen=True):
    """Batch requests that differ only by key."""

    shape: Shape
    gpu_models: tuple[str, ...]
    value: int
    members: tuple[int, ...]
    """Indices into the problem's `batch`, in its order."""


class Linear(msgspec.Struct, frozen=True):
    """Columns and rows: all that a solver sees of a program."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


class Rows(Linear, frozen=True):
    """The packing program, and what its columns mean."""

    unserved: dict[int, int]
    """Column by online request: milli-replicas of shortage left."""
    online: dict[tuple[int, int], int]
    """Column by (online request, leaf): replicas."""
    batch: dict[tuple[int, int], int]
    """Column by (crew, leaf): jobs started."""
    stopped: dict[int, int]
    """Column by gang."""
    loads: tuple[tuple[tuple[int, Shape], ...], ...]
    """(column, shape of one) by leaf: everything that takes GPUs there."""


class Capacity(msgspec.Struct, frozen=True):
    """What there is to pack into: free GPUs per node, and the gangs that may still be stopped."""

    layout: Layout
    free: tuple[int, ...]
    gangs_on: tuple[tuple[tuple[int, int], ...], ...]


def crews(batch: Sequence[BatchRequest]) -> tuple[Crew, ...]:
    """Identical batch requests as one, in order of first appearance."""
    groups: dict[tuple[Shape, tuple[str, ...], int], list[int]] = {}
    for index, request in enumerate(batch):
        kind = (request.shape, request.gpu_models, request.value)
        groups.setdefault(kind, []).append(index)
    return tuple(Crew(*kind, tuple(members)) for kind, members in groups.items())


def build(
    capacity: Capacity,
    online: Sequence[OnlineRequest],
    waiting: Sequence[Crew],
    limits: Sequence[StopLimit],
) -> Rows:
    """All columns and rows but those of the objectives."""
    made = _Maker(capacity)
    for index, request in enumerate(online):
        made.add_request(index, request)
    for index, crew in enumerate(waiting):
        made.add_crew(index, crew)
    for leaf in range(len(capacity.layout.leaves)):
        made.add_leaf(leaf)
    made.add_limits([limit.most for limit in limits])
    return made.finished()


def leftovers(
    rows: Rows, capacity: Capacity, mix: Iterable[tuple[int, int]]
) -> tuple[Rows, dict[int, int]]:
    """The program with slots left over per (leaf, size), and the fragmentation to minimise.

    R_k counts k-slots that stay free: for every k' up to k, (k / k') R_k + U_k' <= C_k'. Expected
    unusable GPUs are sum over k of p_k (R_1 - k R_k) with R_1 = C_1 - U_1; constants are left
    out of the objective. Sizes of the mix are rounded up to powers of two. Takes kills as given.
    """
    columns, added = list(rows.columns), list(rows.rows)
    weights: dict[int, int] = {}
    for size, weight in mix:
        weights[power_of_two(size)] = weights.get(power_of_two(size), 0) + weight
    costs: dict[int, int] = {}
    for leaf, loads in enumerate(rows.loads):
        if not loads:
            continue
        for column, coefficient in _used(loads, 1):
            costs[column] = -coefficient * sum(weights.values())
        for size in sorted(weights):
            slots = _slots(capacity, leaf, size)
            if size == 1 or not slots:
                continue
            costs[len(columns)] = -size * weights[size]
            added += _leftover_rows(capacity, leaf, loads, size, len(columns))
            columns.append(Column(f"left_{leaf:04d}_{size:02d}", slots))
    whole = msgspec.structs.replace(rows, columns=tuple(columns), rows=tuple(added))
    return whole, costs


def _leftover_rows(
    capacity: Capacity, leaf: int, loads: Sequence[tuple[int, Shape]], size: int, column: int
) -> list[Row]:
    smaller = [1 << power for power in range(size.bit_length())]
    return [
        Row(
            f"left_{leaf:04d}_{size:02d}_{block:02d}",
            (*_used(loads, block), (column, size // block)),
            None,
            _slots(capacity, leaf, block),
        )
        for block in smaller
    ]


def _slots(capacity: Capacity, leaf: int, size: int) -> int:
    return sum(capacity.free[node] // size for node in capacity.layout.leaves[leaf])


def _used(loads: Sequence[tuple[int, Shape]], size: int) -> list[Term]:
    """U_k: k-slots used by one of each load whose pieces have k GPUs or more."""
    return [
        (column, shape.pieces * (power_of_two(shape.gpus) // size))
        for column, shape in loads
        if power_of_two(shape.gpus) >= size
    ]


class _Maker:
    """Columns and rows while they are made."""

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self.columns: list[Column] = []
        self.rows: list[Row] = []
        self.unserved: dict[int, int] = {}
        self.online: dict[tuple[int, int], int] = {}
        self.batch: dict[tuple[int, int], int] = {}
        self.stopped: dict[int, int] = {}
        self.loads: list[list[tuple[int, Shape]]] = [[] for _ in capacity.layout.leaves]
        self.cleared = [
            free + sum(gpus for _, gpus in gangs)
            for free, gangs in zip(capacity.free, capacity.gangs_on, strict=True)
        ]
        self.most: dict[tuple[int, int], int] = {}

    def finished(self) -> Rows:
        """The value."""
        return Rows(
            tuple(self.columns),
            tuple(self.rows),
            self.unserved,
            self.online,
            self.batch,
            self.stopped,
            tuple(tuple(loads) for loads in self.loads),
        )

    def add_request(self, index: int, request: OnlineRequest) -> None:
        """demand: sum of capacity x replicas + unserved covers the shortage, and hardly more."""
        shortage = max(0, request.shortage_milli)
        unserved = self._column(f"unserved_{index:04d}", shortage)
        self.unserved[index] = unserved
        terms: list[Term] = [(unserved, 1)]
        leaves = self.capacity.layout.allowed(tuple(request.capacity_milli))
        for leaf in leaves if request.capacity_milli else ():
            gain = request.capacity_milli[self.capacity.layout.models[leaf]]
            most = min(request.limit, -(-shortage // gain))
            column = self._load(f"online_{index:04d}_{leaf:04d}", leaf, request.shape, most)
            if column is not None:
                self.online[index, leaf] = column
                terms.append((column, gain))
        surplus = max(request.capacity_milli.values(), default=1) - 1
        self.rows.append(Row(f"demand_{index:04d}", tuple(terms), shortage, shortage + surplus))
        replicas = tuple((column, 1) for column, _ in terms[1:])
        if replicas and request.limit * min(request.capacity_milli.values()) < shortage + surplus:
            self.rows.append(Row(f"most_{index:04d}", replicas, None, request.limit))

    def add_crew(self, index: int, crew: Crew) -> None:
        """At most as many jobs as wait."""
        terms: list[Term] = []
        for leaf in self.capacity.layout.allowed(crew.gpu_models):
            name = f"batch_{index:04d}_{leaf:04d}"
            column = self._load(name, leaf, crew.shape, len(crew.members))
            if column is not None:
                self.batch[index, leaf] = column
                terms.append((column, 1))
        if len(terms) > 1:
            self.rows.append(Row(f"batch_{index:04d}", tuple(terms), None, len(crew.members)))

    def add_leaf(self, leaf: int) -> None:
        """One capacity row per size in use."""
        loads = self.loads[leaf]
        for size in sorted({power_of_two(shape.gpus) for _, shape in loads}):
            gains: dict[int, int] = {}
            for node in self.capacity.layout.leaves[leaf]:
                for column, gain in self._gains(node, size):
                    gains[column] = gains.get(column, 0) - gain
            terms = (*_used(loads, size), *sorted(gains.items()))
            slots = _slots(self.capacity, leaf, size)
            self.rows.append(Row(f"slots_{leaf:04d}_{size:02d}", terms, None, slots))

    def add_limits(self, most: Sequence[int]) -> None:
        """At most so many stops of the gangs that a limit names."""
        for index, limit in enumerate(most):
            stops = tuple(
                (column, 1)
                for gang, column in self.stopped.items()
                if index in self.capacity.layout.limits_of[gang]
            )
            if len(stops) > limit:
                self.rows.append(Row(f"stops_{index:04d}", stops, None, limit))

    def _gains(self, node: int, size: int) -> list[Term]:
        """k-slots gained on the node by stopping its gangs, as terms."""
        free, gangs = self.capacity.free[node], self.capacity.gangs_on[node]
        low = free // size
        most = self.cleared[node] // size - low
        if not most:
            return []
        if len(gangs) == 1:
            return [(self._stop(gangs[0][0]), most)]
        if all(gpus % size == 0 for _, gpus in gangs):
            return [(self._stop(gang), gpus // size) for gang, gpus in gangs]
        gain = self._column(f"gain_{node:05d}_{size:02d}", most)
        stops = tuple((self._stop(gang), -gpus) for gang, gpus in gangs)
        name = f"gain_{node:05d}_{size:02d}"
        self.rows.append(Row(name, ((gain, size), *stops), None, free - size * low))
        for gang, gpus in gangs:
            if (self.cleared[node] - gpus) // size == low:
                cut = ((gain, 1), (self._stop(gang), -most))
                self.rows.append(Row(f"{name}_{gang:05d}", cut, None, 0))
        return [(gain, 1)]

    def _load(self, name: str, leaf: int, shape: Shape, most: int) -> int | None:
        upper = min(most, self._most(leaf, power_of_two(shape.gpus)) // shape.pieces)
        if upper < 1:
            return None
        column = self._column(name, upper)
        self.loads[leaf].append((column, shape))
        return column

    def _most(self, leaf: int, size: int) -> int:
        """k-slots of the leaf with all gangs stopped."""
        if (leaf, size) not in self.most:
            nodes = self.capacity.layout.leaves[leaf]
            self.most[leaf, size] = sum(self.cleared[node] // size for node in nodes)
        return self.most[leaf, size]

    def _stop(self, gang: int) -> int:
        if gang not in self.stopped:
            self.stopped[gang] = self._column(f"stop_{gang:05d}", 1)
        return self.stopped[gang]

    def _column(self, name: str, upper: int) -> int:
        self.columns.append(Column(name, upper))
        return len(self.columns) - 1
