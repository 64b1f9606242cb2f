"""The nested-capacity integer program: no solver, no node variables.

Per leaf s and size k one row U_k[s] <= C_k[s] + G_k[s]: the k-slots that all pieces of k GPUs or
more use up are covered by the free k-slots and those gained by stopping gangs. For sizes that are
powers of two these rows hold exactly when the pieces fit (see `slots`); other sizes are rounded up
here, which is safe, and keep their true size when they are seated. What stopping gains on a node
is stated by one 0-1 column per useful set of gangs (see `menus`); gangs that hold GPUs of several
nodes have a column of their own that ties their sets together.

A replica stands wholly in one leaf, or, where it is a group that may be split, has its pods in
leaves of one spine pod.
"""

from collections.abc import Iterable, Sequence
from math import gcd

import msgspec

from binpacking.layout import Layout
from binpacking.linear import FREE, Draft, Linear, Term
from binpacking.menus import Stoppable, menu
from binpacking.problem import BatchRequest, Member, OnlineRequest, Problem, Shape
from binpacking.slots import power_of_two

Need = tuple[tuple[int, int], ...]
"""(GPUs of a piece, rounded up to a power of two; how many) of one of a column."""


class Crew(msgspec.Struct, frozen=True):
    """Batch requests that differ only by key."""

    shape: Shape
    gpu_models: tuple[str, ...]
    value: int
    members: tuple[int, ...]
    """Indices into the problem's `batch`, in its order."""


class Capacity(msgspec.Struct, frozen=True):
    """What there is to pack into: free GPUs per node, and the gangs that may still be stopped."""

    layout: Layout
    free: tuple[int, ...]
    gangs_on: tuple[tuple[tuple[int, int], ...], ...]


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """The packing program, and what its columns mean."""

    linear: Linear
    unserved: dict[int, int]
    """Column by online request: shortage left, in its unit."""
    units: tuple[int, ...]
    """Milli-replicas by online request: what divides its shortage and every capacity."""
    online: dict[tuple[int, int], int]
    """Column by (online request, leaf): replicas wholly there."""
    split: dict[tuple[int, int], int]
    """Column by (online request, spine pod): replicas over several leaves."""
    pods: dict[tuple[int, int, int], int]
    """Column by (online request, member, leaf): pods of split replicas."""
    batch: dict[tuple[int, int], int]
    """Column by (crew, leaf): jobs started."""
    stops: dict[int, tuple[int, ...]]
    """The gangs that a column stops; each gang is in one set that costs."""
    leaf_of: tuple[int, ...]
    """Leaf by column; -1 for columns of no leaf or of several."""
    spine_of: dict[int, int]
    """Spine pod by column, for columns of several of its leaves."""
    slots: dict[tuple[int, int], tuple[tuple[Term, ...], int]]
    """(terms, slots) by (leaf, size): terms <= slots; gained slots are negative terms."""


def crews(batch: Sequence[BatchRequest]) -> tuple[Crew, ...]:
    """Identical batch requests as one, in order of first appearance."""
    groups: dict[tuple[Shape, tuple[str, ...], int], list[int]] = {}
    for index, request in enumerate(batch):
        kind = (request.shape, request.gpu_models, request.value)
        groups.setdefault(kind, []).append(index)
    return tuple(Crew(*kind, tuple(members)) for kind, members in groups.items())


def build(
    capacity: Capacity, problem: Problem, waiting: Sequence[Crew] = (), *, sizes: Iterable[int] = ()
) -> Rows:
    """All columns and rows but those of the objectives.

    `sizes`: slots to state besides those that pieces use, for `leftovers`.
    """
    made = _Maker(capacity, problem)
    for index, request in enumerate(problem.online):
        made.add_request(index, request)
    for index, crew in enumerate(waiting):
        made.add_crew(index, crew)
    for leaf in range(len(capacity.layout.leaves)):
        made.add_leaf(leaf, {power_of_two(size) for size in sizes})
    made.add_limits([limit.most for limit in problem.stop_limits])
    return made.finished()


def leftovers(
    rows: Rows, linear: Linear, mix: Iterable[tuple[int, int]]
) -> tuple[Linear, dict[int, int], list[int]]:
    """The program with slots left over per (leaf, size), the fragmentation to minimise, and the
    leaf of each new column.

    R_k counts k-slots that stay free: for every k' up to k, (k / k') R_k + U_k' <= C_k' + G_k'.
    Expected unusable GPUs are sum over k of p_k (R_1 - k R_k) with R_1 = C_1 + G_1 - U_1;
    constants are left out of the objective. Sizes of the mix are rounded up to powers of two.
    """
    weights: dict[int, int] = {}
    for size, weight in mix:
        weights[power_of_two(size)] = weights.get(power_of_two(size), 0) + weight
    draft, costs, leaves = Draft(), dict[int, int](), list[int]()
    for leaf in sorted({leaf for leaf, _ in rows.slots}):
        for column, value in rows.slots[leaf, 1][0]:
            costs[column] = costs.get(column, 0) - value * sum(weights.values())
        for size in sorted(weights):
            terms, slots = rows.slots.get((leaf, size), ((), 0))
            gained = sum(-value for _, value in terms if value < 0)
            if size == 1 or slots + gained == 0:
                continue
            column = linear.columns + draft.column(slots + gained)
            leaves.append(leaf)
            costs[column] = -size * weights[size]
            for power in range(size.bit_length()):
                terms, slots = rows.slots[leaf, 1 << power]
                draft.row((*terms, (column, size >> power)), -FREE, slots)
    return linear.joined(draft.finished()), costs, leaves


class _Maker:
    """Columns and rows while they are made."""

    def __init__(self, capacity: Capacity, problem: Problem) -> None:
        self.capacity = capacity
        self.problem = problem
        self.draft = Draft()
        self.unserved: dict[int, int] = {}
        self.units: list[int] = []
        self.online: dict[tuple[int, int], int] = {}
        self.split: dict[tuple[int, int], int] = {}
        self.pods: dict[tuple[int, int, int], int] = {}
        self.batch: dict[tuple[int, int], int] = {}
        self.stops: dict[int, tuple[int, ...]] = {}
        self.shared: dict[int, int] = {}
        """Column by gang, for gangs whose stop is one choice for several nodes."""
        self.leaf_of: dict[int, int] = {}
        self.spine_of: dict[int, int] = {}
        self.loads: list[list[tuple[int, Need]]] = [[] for _ in capacity.layout.leaves]
        self.slots: dict[tuple[int, int], tuple[tuple[Term, ...], int]] = {}
        self.cleared = [
            free + sum(gpus for _, gpus in gangs)
            for free, gangs in zip(capacity.free, capacity.gangs_on, strict=True)
        ]
        self.most: dict[tuple[int, int], int] = {}

    def finished(self) -> Rows:
        """The value."""
        linear = self.draft.finished()
        return Rows(
            linear=linear,
            unserved=self.unserved,
            units=tuple(self.units),
            online=self.online,
            split=self.split,
            pods=self.pods,
            batch=self.batch,
            stops=self.stops,
            leaf_of=tuple(self.leaf_of.get(column, -1) for column in range(linear.columns)),
            spine_of=self.spine_of,
            slots=self.slots,
        )

    def add_request(self, index: int, request: OnlineRequest) -> None:
        """demand: sum of capacity x replicas + unserved covers the shortage, and hardly more."""
        milli = max(0, request.shortage_milli)
        unit = gcd(milli, *request.capacity_milli.values()) or 1
        self.units.append(unit)
        unserved = self.draft.column(milli // unit)
        self.unserved[index] = unserved
        leaves = self.capacity.layout.allowed(tuple(request.capacity_milli))
        replicas: list[Term] = []
        for leaf in leaves if request.capacity_milli else ():
            gain = request.capacity_milli[self.capacity.layout.models[leaf]]
            column = self._load(leaf, need_of(request.pods), _most(request, gain))
            if column is not None:
                self.online[index, leaf] = column
                replicas.append((column, gain))
        if request.reach == "spine" and sum(member.count for member in request.pods) > 1:
            replicas += self._splits(index, request, leaves)
        terms = ((column, gain // unit) for column, gain in replicas)
        most = (milli + max(request.capacity_milli.values(), default=1) - 1) // unit
        self.draft.row(((unserved, 1), *terms), milli // unit, most)
        least = min(request.capacity_milli.values(), default=1)
        if replicas and request.limit * least < most * unit:
            self.draft.row(((column, 1) for column, _ in replicas), -FREE, request.limit)

    def _splits(self, index: int, request: OnlineRequest, leaves: Sequence[int]) -> list[Term]:
        """Replicas over leaves of one spine pod: as many of each member as they have."""
        layout = self.capacity.layout
        found: list[Term] = []
        for spine in dict.fromkeys(layout.spine_of[leaf] for leaf in leaves):
            mine = [leaf for leaf in leaves if layout.spine_of[leaf] == spine]
            if len(mine) < 2:  # noqa: PLR2004  # nothing to split over
                continue
            gain = min(request.capacity_milli[layout.models[leaf]] for leaf in mine)
            most = _most(request, gain)
            split = self.draft.column(most)
            self.split[index, spine] = split
            self.spine_of[split] = spine
            for number, member in enumerate(request.pods):
                terms: list[Term] = [(split, -member.count)]
                for leaf in mine:
                    one = need_of((msgspec.structs.replace(member, count=1),))
                    column = self._load(leaf, one, most * member.count)
                    if column is not None:
                        self.pods[index, number, leaf] = column
                        terms.append((column, 1))
                self.draft.row(terms, 0, 0)
            found.append((split, gain))
        return found

    def add_crew(self, index: int, crew: Crew) -> None:
        """At most as many jobs as wait."""
        terms: list[Term] = []
        need = ((power_of_two(crew.shape.gpus), crew.shape.pieces),)
        for leaf in self.capacity.layout.allowed(crew.gpu_models):
            column = self._load(leaf, need, len(crew.members))
            if column is not None:
                self.batch[index, leaf] = column
                terms.append((column, 1))
        if len(terms) > 1:
            self.draft.row(terms, -FREE, len(crew.members))

    def add_leaf(self, leaf: int, sizes: set[int]) -> None:
        """One capacity row per size in use; for `sizes`, and those below, terms at least."""
        loads = self.loads[leaf]
        used = {gpus for _, need in loads for gpus, _ in need}
        stated = sorted(
            used | ({1 << n for n in range(max(sizes).bit_length())} if sizes else set())
        )
        gained = self._gained(leaf, stated) if stated else {}
        for size in stated:
            terms = (*_used(loads, size), *sorted(gained[size].items()))
            slots = self._slots(leaf, size)
            self.slots[leaf, size] = (terms, slots)
            if size in used:
                self.draft.row(terms, -FREE, slots)

    def add_limits(self, most: Sequence[int]) -> None:
        """At most so many stops of the gangs that a limit names."""
        limits_of = self.capacity.layout.limits_of
        for index, limit in enumerate(most):
            counts = {
                column: sum(index in limits_of[gang] for gang in gangs)
                for column, gangs in self.stops.items()
            }
            if sum(counts.values()) > limit:
                self.draft.row((term for term in counts.items() if term[1]), -FREE, limit)

    def _gained(self, leaf: int, sizes: Sequence[int]) -> dict[int, dict[int, int]]:
        """Terms by size: slots gained by stopping gangs on the leaf's nodes, negative."""
        gained: dict[int, dict[int, int]] = {size: {} for size in sizes}
        for node in self.capacity.layout.leaves[leaf]:
            if not self.capacity.gangs_on[node]:
                continue
            for column, gains in self._choices(node, sizes):
                for size, gain in zip(sizes, gains, strict=True):
                    if gain:
                        gained[size][column] = gained[size].get(column, 0) - gain
                self.leaf_of.setdefault(column, leaf)
        return gained

    def _choices(self, node: int, sizes: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
        """(column, slots gained by size) of what may be stopped on the node."""
        layout = self.capacity.layout
        gangs = [
            Stoppable(
                gang,
                gpus,
                self.problem.gangs[gang].cost,
                layout.limits_of[gang],
                len(layout.parts[gang]) > 1,
            )
            for gang, gpus in self.capacity.gangs_on[node]
        ]
        options = menu(self.capacity.free[node], gangs, sizes)
        if options is None:
            return self._linear_choices(node, sizes)
        shared = {one.gang for one in gangs if one.shared}
        if len(gangs) == 1 and shared:
            return [(self._stop(gangs[0].gang), options[0].gains)] if options else []
        found = []
        ties: dict[int, list[Term]] = {gang: [] for gang in shared}
        for option in options:
            column = self.draft.column(1)
            own = tuple(gang for gang in option.gangs if gang not in shared)
            if own:
                self.stops[column] = own
            for gang in shared.intersection(option.gangs):
                ties[gang].append((column, 1))
            found.append((column, option.gains))
        if len(found) > 1:
            self.draft.row(((column, 1) for column, _ in found), -FREE, 1)
        for gang in sorted(ties):
            if ties[gang]:
                self.draft.row((*ties[gang], (self._stop(gang), -1)), -FREE, 0)
        return found

    def _linear_choices(self, node: int, sizes: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
        """Too many sets for a menu: one column per gang, and one for the slots gained by size.

        k x gain <= f - k floor(f / k) + sum of GPUs stopped.
        """
        free, gangs = self.capacity.free[node], self.capacity.gangs_on[node]
        found = []
        for place, size in enumerate(sizes):
            most = self.cleared[node] // size - free // size
            if most:
                gain = self.draft.column(most)
                stops = [(self._stop(gang), -gpus) for gang, gpus in gangs]
                self.draft.row(((gain, size), *stops), -FREE, free % size)
                found.append((gain, tuple(int(at == place) for at in range(len(sizes)))))
        return found

    def _stop(self, gang: int) -> int:
        """The column of a gang whose stop is one choice for several nodes or sets."""
        if gang not in self.shared:
            column = self.shared[gang] = self.draft.column(1)
            self.stops[column] = (gang,)
            layout = self.capacity.layout
            leaves = {layout.leaf_of[node] for node, _ in layout.parts[gang]}
            self.leaf_of[column] = leaves.pop() if len(leaves) == 1 else -1
        return self.shared[gang]

    def _load(self, leaf: int, need: Need, most: int) -> int | None:
        """A column that takes room in the leaf; None where it never could."""
        upper = min(most, *(self._most(leaf, gpus) // pieces for gpus, pieces in need))
        if upper < 1:
            return None
        column = self.draft.column(upper)
        self.leaf_of[column] = leaf
        self.loads[leaf].append((column, need))
        return column

    def _most(self, leaf: int, size: int) -> int:
        """k-slots of the leaf with all gangs stopped."""
        if (leaf, size) not in self.most:
            nodes = self.capacity.layout.leaves[leaf]
            self.most[leaf, size] = sum(self.cleared[node] // size for node in nodes)
        return self.most[leaf, size]

    def _slots(self, leaf: int, size: int) -> int:
        return sum(self.capacity.free[node] // size for node in self.capacity.layout.leaves[leaf])


def need_of(pods: Iterable[Member]) -> Need:
    """Pieces by size, rounded up, of these pods together."""
    counts: dict[int, int] = {}
    for member in pods:
        size = power_of_two(member.shape.gpus)
        counts[size] = counts.get(size, 0) + member.count * member.shape.pieces
    return tuple(sorted(counts.items()))


def _most(request: OnlineRequest, gain: int) -> int:
    """Replicas that could be of use, each of this capacity."""
    return min(request.limit, -(-max(0, request.shortage_milli) // gain))


def _used(loads: Sequence[tuple[int, Need]], size: int) -> list[Term]:
    """U_k: k-slots used by one of each load whose pieces have k GPUs or more."""
    found = []
    for column, need in loads:
        slots = sum(pieces * (gpus // size) for gpus, pieces in need if gpus >= size)
        if slots:
            found.append((column, slots))
    return found
