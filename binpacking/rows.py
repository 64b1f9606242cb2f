"""The nested-capacity integer program: no solver, no node variables where they are not needed.

Per leaf s and size k one row U_k[s] <= C_k[s] + G_k[s]: the k-slots that all pieces of k GPUs or
more use up are covered by the free k-slots and those gained by stopping gangs. For sizes that are
powers of two these rows hold exactly when the pieces fit (see `slots`); nodes where other sizes
could stand, or where CPU or memory may run short, are stated by `uneven`, cards that pods share by
`sharing`. What stopping gains on a
node is stated by one 0-1 column per useful set of gangs (see `menus`); gangs that hold GPUs of
several nodes have a column of their own that ties their sets together.

A replica stands wholly in one leaf, or, where it is a group that may be split, has its pods in
leaves of one spine pod.
"""

from collections.abc import Iterable, Sequence
from math import gcd

import msgspec

from binpacking.beds import Bed
from binpacking.bonds import beside, fenced
from binpacking.crews import Crew
from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.layout import PLENTY
from binpacking.linear import FREE, Draft, Linear, Term
from binpacking.needs import Need, need_of
from binpacking.pools import tied
from binpacking.problem import OnlineRequest, Piece, Problem
from binpacking.rooms import Capacity, ground, simple
from binpacking.shares import NO_SHARE
from binpacking.slots import power_of_two
from binpacking.stops import Stops
from binpacking.uneven import Bin, Load, Uneven
from binpacking.waking import Wake, no_waste


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
    wakes: dict[int, Bed]
    """The unit that a column wakes."""
    kinds: dict[tuple[int, int, int], int]
    """Row by (online request, member, leaf): no more of its units wake there than it has pods."""
    leaf_of: tuple[int, ...]
    """Leaf by column; -1 for columns of no leaf or of several."""
    spine_of: dict[int, int]
    """Spine pod by column, for columns of several of its leaves."""
    slots: dict[tuple[int, int], tuple[tuple[Term, ...], int]]
    """(terms, slots) by (leaf, size): terms <= slots; gained slots are negative terms."""
    slot_rows: dict[tuple[int, int], int]
    """The row that says so, by (leaf, size)."""
    spare: dict[int, int]
    """By column, for ways to fill a node: GPUs that stay free on it."""
    bins: tuple[Bin, ...]
    """Nodes stated by themselves."""
    rounded: dict[int, int]
    """Column by online request of which a replica is no whole number of GPUs: milli-GPUs unserved,
    rounded up."""
    scraps: dict[int, int]
    """By column, for ways to fill a card that pods share: milli-GPU that stay free of it."""


def build(
    capacity: Capacity, problem: Problem, waiting: Sequence[Crew] = (), *, sizes: Iterable[int] = ()
) -> Rows:
    """All columns and rows but those of the objectives.

    `sizes`: slots to state besides those that pieces use, for `leftovers`.
    """
    made = _Maker(capacity, problem)
    for index, request in enumerate(problem.online):
        made.add_request(index, request)
    beside(made.draft, capacity.layout, made.online, made.split)
    for index, crew in enumerate(waiting):
        made.add_crew(index, crew)
    for leaf in range(len(capacity.layout.leaves)):
        made.add_leaf(leaf, {power_of_two(size) for size in sizes})
    made.add_kinds()
    made.add_limits([limit.most for limit in problem.stop_limits])
    return made.finished()


class _Maker:
    """Columns and rows while they are made."""

    def __init__(self, capacity: Capacity, problem: Problem) -> None:
        self.capacity = capacity
        self.problem = problem
        self.draft = Draft()
        self.unserved: dict[int, int] = {}
        self.units: list[int] = []
        self.rounded: dict[int, int] = {}
        self.online: dict[tuple[int, int], int] = {}
        self.split: dict[tuple[int, int], int] = {}
        self.pods: dict[tuple[int, int, int], int] = {}
        self.batch: dict[tuple[int, int], int] = {}
        self.stops = Stops(self.draft, capacity, problem)
        self.wakes: dict[int, Bed] = {}
        self.kinds: dict[tuple[int, int, int], int] = {}
        self.leaf_of: dict[int, int] = {}
        self.spine_of: dict[int, int] = {}
        stops = self.stops
        self.uneven = Uneven(self.draft, capacity, stops.freed, stops.bound, stops.stop)
        self.loads: list[list[tuple[int, Need]]] = [[] for _ in capacity.layout.leaves]
        self.slots: dict[tuple[int, int], tuple[tuple[Term, ...], int]] = {}
        self.slot_rows: dict[tuple[int, int], int] = {}
        self.cleared = [
            free + sum(gpus for _, gpus in gangs)
            for free, gangs in zip(capacity.free, capacity.gangs_on, strict=True)
        ]
        if capacity.layout.sharing:
            self.cleared = [capacity.cleared(node).gpus for node in range(len(capacity.free))]
        self.most: dict[tuple[int, Piece], int] = {}
        self.woken = {bed.kind[0] for some in capacity.beds for bed in some}
        """Requests of which units may be woken."""
        self.tied = tied(problem)

    def finished(self) -> Rows:
        """The value."""
        linear = self.draft.finished()
        leaf_of = self.leaf_of | self.stops.leaf_of
        return Rows(
            linear=linear,
            unserved=self.unserved,
            units=tuple(self.units),
            online=self.online,
            split=self.split,
            pods=self.pods,
            batch=self.batch,
            stops=self.stops.gangs,
            wakes=self.wakes,
            kinds=self.kinds,
            leaf_of=tuple(leaf_of.get(column, -1) for column in range(linear.columns)),
            spine_of=self.spine_of,
            slots=self.slots,
            slot_rows=self.slot_rows,
            spare={column: way.spare for column, way in self.uneven.ways.items()},
            bins=tuple(self.uneven.bins),
            rounded=self.rounded,
            scraps={
                column: way.spare.milli
                for cards in (self.uneven.sharing, self.uneven.apart)
                for column, way in cards.fillings.items()
            },
        )

    def add_request(self, index: int, request: OnlineRequest) -> None:
        """demand: sum of capacity x replicas + unserved covers the shortage, and hardly more."""
        milli = max(0, request.shortage_milli)
        unit = gcd(milli, *request.capacity_milli.values()) or 1
        self.units.append(unit)
        unserved = self.unserved[index] = self.draft.column(milli // unit)
        self._round_up(index, request.size_milli, milli)
        replicas = self._replicas(index, request)
        terms = [(column, gain // unit) for column, gain in replicas]
        most = (milli + max((gain for _, gain in replicas), default=1) - 1) // unit
        self.draft.row(((unserved, 1), *terms), milli // unit, most)
        least = min(request.capacity_milli.values(), default=1)
        if replicas and request.limit * least < most * unit:
            self.draft.row(((column, 1) for column, _ in replicas), -FREE, request.limit)
        if index in self.woken or request.key in self.tied:
            no_waste(self.draft, terms, milli // unit)

    def _round_up(self, index: int, size_milli: int, milli: int) -> None:
        """What is unserved in whole GPUs, where it is no whole number of them by itself."""
        size = size_milli * self.units[index]
        if size % WHOLE_GPU_MILLI:
            self.rounded[index] = self.draft.column(-(-milli * size_milli // WHOLE_GPU_MILLI))
            divisor = gcd(size, WHOLE_GPU_MILLI)
            rounded = (self.rounded[index], WHOLE_GPU_MILLI // divisor)
            self.draft.row((rounded, (self.unserved[index], -size // divisor)), 0, FREE)

    def _replicas(self, index: int, request: OnlineRequest) -> list[Term]:
        """Columns of replicas in one leaf or in one spine pod, with the milli-replicas of each."""
        layout, found = self.capacity.layout, list[Term]()
        leaves, fence = layout.allowed(tuple(request.capacity_milli)), layout.fences.get(index)
        for leaf in leaves if request.capacity_milli else ():
            gain = request.capacity_milli[layout.models[leaf]]
            most = min(most_replicas(request, gain), fence.at(leaf) if fence else PLENTY)
            column = self._load(leaf, need_of(request.pods), most)
            if column is not None:
                self.online[index, leaf] = column
                found.append((column, gain))
        if request.reach == "spine" and sum(member.count for member in request.pods) > 1:
            found += self._splits(index, request, leaves)
        if fence:
            fenced(self.draft, layout, (index, fence), self.online, self.split)
        return found

    def _splits(self, index: int, request: OnlineRequest, leaves: Sequence[int]) -> list[Term]:
        """Replicas over leaves of one spine pod: as many of each member as they have."""
        layout = self.capacity.layout
        found: list[Term] = []
        for spine in dict.fromkeys(layout.spine_of[leaf] for leaf in leaves):
            mine = [leaf for leaf in leaves if layout.spine_of[leaf] == spine]
            if len(mine) < 2:  # noqa: PLR2004  # nothing to split over
                continue
            gain = min(request.capacity_milli[layout.models[leaf]] for leaf in mine)
            most = most_replicas(request, gain)
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
        need = ((crew.shape.piece, crew.shape.pieces),)
        for leaf in self.capacity.layout.allowed(crew.gpu_models):
            column = self._load(leaf, need, len(crew.members))
            if column is not None:
                self.batch[index, leaf] = column
                terms.append((column, 1))
        if len(terms) > 1:
            self.draft.row(terms, -FREE, len(crew.members))

    def add_leaf(self, leaf: int, sizes: set[int]) -> None:
        """One capacity row per size in use; for `sizes`, and those below, terms at least."""
        nodes, loads = self._nested(leaf, full=not sizes)
        used = {gpus for _, need in loads for gpus, _ in need}
        stated = sorted(
            used | ({1 << n for n in range(max(sizes).bit_length())} if sizes else set())
        )
        gained = self._gained(leaf, nodes, stated) if stated else {}
        for size in stated:
            terms = (*_used(loads, size), *sorted(gained[size].items()))
            slots = sum(self.capacity.free[node] // size for node in nodes)
            self.slots[leaf, size] = (terms, slots)
            if size in used:
                self.slot_rows[leaf, size] = len(self.draft.low)
                self.draft.row(terms, -FREE, slots)

    def add_kinds(self) -> None:
        """In every leaf no more units wake than it has pods of their kind."""
        layout = self.capacity.layout
        wakes: dict[tuple[int, int, int], list[Term]] = {}
        for column, bed in self.wakes.items():
            key = (*bed.kind, layout.leaf_of[bed.node])
            wakes.setdefault(key, []).append((column, 1))
        for (request, member, leaf), terms in wakes.items():
            count = self.problem.online[request].pods[member].count
            whole, split = self.online.get((request, leaf)), self.pods.get((request, member, leaf))
            pods = ((whole, -min(count, len(terms))), (split, -1))
            held = ((column, each) for column, each in pods if column is not None)
            self.kinds[request, member, leaf] = len(self.draft.low)
            self.draft.row((*terms, *held), -FREE, 0)

    def _nested(self, leaf: int, *, full: bool) -> tuple[Sequence[int], list[Load]]:
        """The nodes that the nested rows are for, and what these have to hold."""
        loads, nodes = self.loads[leaf], self.capacity.layout.leaves[leaf]
        kinds = {kind for _, need in loads for kind, _ in need}
        capacity = self.capacity
        sharers = capacity.layout.sharing and any(capacity.sharers(node) for node in nodes)
        if simple(kinds) and not sharers:
            return nodes, [(c, tuple((kind.gpus, n) for kind, n in need)) for c, need in loads]
        parts, first = ground(self.capacity, leaf, sorted(kinds)), len(self.draft.uppers)
        rest = self.uneven.add_leaf(leaf, parts, loads, full=full)
        self._wake_bound(leaf, parts.bound)
        for column in range(first, len(self.draft.uppers)):
            self.leaf_of.setdefault(column, leaf)
        return parts.plain, [
            (column, tuple((power_of_two(size), count) for size, count in need))
            for column, need in rest
        ]

    def _wake_bound(self, leaf: int, nodes: Iterable[int]) -> None:
        """On a node stated by itself no more units wake than it has pods of their size."""
        if not self.capacity.beds:
            return
        stands = {place: column for column, place in self.uneven.pieces.items()}
        for node in nodes:
            wakes = self._wakes(node, leaf)
            pods: dict[Piece, list[Term]] = {}
            for column, bed in wakes:
                request, member = bed.kind
                piece = self.problem.online[request].pods[member].shape.piece
                pods.setdefault(piece, []).append((column, 1))
            for piece, terms in pods.items():
                there = stands.get((node, piece))
                held = () if there is None else ((there, -1),)
                self.draft.row((*terms, *held), -FREE, 0)
            if wakes:
                self.stops.one_by_one(node, wakes)

    def add_limits(self, most: Sequence[int]) -> None:
        """At most so many stops of the gangs that a limit names."""
        limits_of = self.capacity.layout.limits_of
        for index, limit in enumerate(most):
            counts = {
                column: sum(index in limits_of[gang] for gang in gangs)
                for column, gangs in self.stops.gangs.items()
            }
            if sum(counts.values()) > limit:
                self.draft.row((term for term in counts.items() if term[1]), -FREE, limit)

    def _gained(
        self, leaf: int, nodes: Iterable[int], sizes: Sequence[int]
    ) -> dict[int, dict[int, int]]:
        """Terms by size: slots gained by stopping gangs on the leaf's nodes, negative, and slots
        taken by pods that wake a unit there, where that is more than the pods' own.
        """
        gained: dict[int, dict[int, int]] = {size: {} for size in sizes}
        for node in nodes:
            wakes = self._wakes(node, leaf)
            if not self.capacity.gangs_on[node] and not wakes:
                continue
            first = len(self.draft.uppers)
            for size, (column, slots) in self.stops.taken(node, wakes, sizes):
                gained[size][column] = gained[size].get(column, 0) + slots
                self.leaf_of.setdefault(column, leaf)
            for column in range(first, len(self.draft.uppers)):
                self.leaf_of.setdefault(column, leaf)
        return gained

    def _wakes(self, node: int, leaf: int) -> list[Wake]:
        """Columns of the node's units whose pods can stand in the leaf."""
        if not self.capacity.beds:
            return []
        there = {gang for gang, _ in self.capacity.gangs_on[node]}
        found = []
        for bed in self.capacity.beds[node]:
            request, member = bed.kind
            wanted = (request, leaf) in self.online or (request, member, leaf) in self.pods
            if wanted and bed.gangs <= there:
                column = self.draft.column(1)
                self.wakes[column] = bed
                self.leaf_of[column] = leaf
                found.append((column, bed))
        return found

    def _load(self, leaf: int, need: Need, most: int) -> int | None:
        """A column that takes room in the leaf; None where it never could."""
        upper = min(most, *(self._most(leaf, piece) // pieces for piece, pieces in need))
        if upper < 1:
            return None
        column = self.draft.column(upper)
        self.leaf_of[column] = leaf
        self.loads[leaf].append((column, need))
        return column

    def _most(self, leaf: int, piece: Piece) -> int:
        """How many of the piece the leaf has room for, with all gangs stopped."""
        if (leaf, piece) not in self.most:
            nodes = self.capacity.layout.leaves[leaf]
            if piece.cpu_milli or piece.memory_mib or piece.keeps or piece.share != NO_SHARE:
                most = sum(self.capacity.most(node, piece) for node in nodes)
            else:
                most = sum(self.cleared[node] // piece.gpus for node in nodes)
            self.most[leaf, piece] = most
        return self.most[leaf, piece]


def most_replicas(request: OnlineRequest, gain: int) -> int:
    """Replicas that could be of use, each of this capacity."""
    return min(request.limit, -(-max(0, request.shortage_milli) // gain))


def _used(loads: Sequence[Load], size: int) -> list[Term]:
    """U_k: k-slots used by one of each load whose pieces have k GPUs or more."""
    found = []
    for column, need in loads:
        slots = sum(pieces * (gpus // size) for gpus, pieces in need if gpus >= size)
        if slots:
            found.append((column, slots))
    return found
