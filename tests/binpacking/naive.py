"""A second checker and an exhaustive search, to hold `binpacking.verify` and the ladder to.

Both think in single GPUs and single seats, as slowly as the words of `binpacking.problem` allow,
and use nothing else of the package. CPU and memory are drawers of a node beside its GPUs.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import combinations, combinations_with_replacement, product

from binpacking.problem import (
    BatchRequest,
    Gang,
    Member,
    OnlineRequest,
    Packing,
    Placed,
    Pool,
    PoolRole,
    Problem,
    Shape,
    Supply,
    Tiers,
)

Request = OnlineRequest | BatchRequest
Order = tuple[int, int, int, int, int]
Path = tuple[str, ...]
Stand = tuple[str, Path, int]
"""A replica of which request stands under which leaf, and its milli-replicas."""


ENOUGH = 10**9
"""CPU and memory of nodes of which they are not known."""


class Refused(Exception):  # noqa: N818  # a verdict
    """The packing is wrong; the first thing found."""


def accepts(problem: Problem, packing: Packing) -> bool:
    """Whether a clerk who moves every single GPU by hand finds the packing right."""
    try:
        _replay(problem, packing)
    except Refused:
        return False
    return True


def _replay(problem: Problem, packing: Packing) -> None:
    nodes = {one.node: one for one in problem.supplies}
    slots, drawers = _slots(problem), _drawers(problem)
    running = {gang.key: gang for gang in problem.gangs}
    for key in packing.killed:
        _must(key in running)
        for node, _ in running[key].parts:
            _put(drawers, node, running[key], 1)
        del running[key]  # a second stop of the same gang finds nothing
        for held in slots.values():
            held[:] = ["free" if one == f"gang {key}" else one for one in held]
    for limit in problem.stop_limits:
        _must(sum(key in packing.killed for key in limit.gangs) <= limit.most)
    for number, placed in enumerate(packing.online):
        known = [one for one in problem.online if one.key == placed.key]
        _must(bool(known))
        _seat(slots, nodes, placed, known[0], f"online {number}")
        _fill(drawers, placed, known[0])
    spare = {node: held.count("free") for node, held in slots.items()}
    for gang in problem.gangs:
        _must(gang.key not in packing.killed or not _stands(spare, drawers, gang))
    begun: set[str] = set()
    for placed in packing.batch:
        waits = [one for one in problem.batch if one.key == placed.key]
        _must(bool(waits) and placed.key not in begun and placed.key not in packing.killed)
        begun.add(placed.key)
        _seat(slots, nodes, placed, waits[0], f"batch {placed.key}")
        _fill(drawers, placed, waits[0])
    _must(min(drawers.values(), default=0) >= 0)
    _replicas(problem, packing, nodes)
    for request in problem.online:
        seats = [one.parts for one in packing.online if one.key == request.key]
        _must(keeps_apart(request, [[nodes[node] for node, _ in parts] for parts in seats]))
    _must(_together(problem, _new(problem, packing, nodes)))
    _must(packing.unserved == _unserved(problem, packing, nodes))
    _must(packing.tiers == _tiers(problem, packing, nodes, slots))


def _must(holds: bool) -> None:
    if not holds:
        raise Refused


def _slots(problem: Problem) -> dict[str, list[str]]:
    """Who holds each GPU of each node."""
    slots = {one.node: ["free"] * one.free for one in problem.supplies}
    for gang in problem.gangs:
        for node, gpus in gang.parts:
            if node in slots:
                slots[node] += [f"gang {gang.key}"] * gpus
    return slots


def _drawers(problem: Problem) -> dict[tuple[str, str], int]:
    return {
        (one.node, what): ENOUGH if free is None else free
        for one in problem.supplies
        for what, free in (("cpu", one.cpu_milli), ("memory", one.memory_mib))
    }


def _put(drawers: dict[tuple[str, str], int], node: str, what: Shape | Gang, sign: int) -> None:
    if (node, "cpu") in drawers:
        drawers[node, "cpu"] += sign * what.cpu_milli
        drawers[node, "memory"] += sign * what.memory_mib


def _fill(drawers: dict[tuple[str, str], int], placed: Placed, request: Request) -> None:
    parts = iter(placed.parts)
    for member in _members(request):
        for _ in range(member.count * member.shape.pieces):
            _put(drawers, next(parts)[0], member.shape, -1)


def _stands(spare: dict[str, int], drawers: dict[tuple[str, str], int], gang: Gang) -> bool:
    """Whether the gang could stand where it stood, on what nobody uses now."""
    left, beside = dict(spare), dict(drawers)
    for node, gpus in gang.parts:
        _put(beside, node, gang, -1)
        if node in left:
            left[node] -= gpus
    return min((*left.values(), *beside.values()), default=0) >= 0


def _seat(
    slots: dict[str, list[str]],
    nodes: dict[str, Supply],
    placed: Placed,
    request: Request,
    who: str,
) -> None:
    pods = [shape for member in _members(request) for shape in [member.shape] * member.count]
    wanted = [shape.gpus for shape in pods for _ in range(shape.pieces)]
    _must([gpus for _, gpus in placed.parts] == wanted)
    _must(all(node in nodes for node, _ in placed.parts))
    leaves = [nodes[node].leaf for node, _ in placed.parts]
    for shape in pods:  # the next pod's pieces, all under one leaf
        _must(len(set(leaves[: shape.pieces])) == 1)
        del leaves[: shape.pieces]
    _must(_within(request, [nodes[node].leaf for node, _ in placed.parts]))
    models = _models(request)
    for node, gpus in placed.parts:
        _must(not models or nodes[node].gpu_model in models)
        for _ in range(gpus):
            _must("free" in slots[node])
            slots[node][slots[node].index("free")] = who


def _members(request: Request) -> tuple[Member, ...]:
    if isinstance(request, OnlineRequest) and request.members:
        return request.members
    return (Member("", 1, request.shape),)


def _within(request: Request, leaves: list[Path]) -> bool:
    """Whether the pods stand no further apart than the request's reach."""
    if isinstance(request, OnlineRequest) and request.reach == "spine":
        return len({path[: len(path) - 2] for path in leaves}) == 1
    return len(set(leaves)) == 1


def _models(request: Request) -> tuple[str, ...]:
    if isinstance(request, BatchRequest):
        return request.gpu_models
    return tuple(request.capacity_milli) or ("none at all",)


def _worth(request: OnlineRequest, placed: Placed, nodes: dict[str, Supply]) -> int:
    """A replica is as fast as the slowest model that it stands on."""
    return min(request.capacity_milli[nodes[node].gpu_model] for node, _ in placed.parts)


def _replicas(problem: Problem, packing: Packing, nodes: dict[str, Supply]) -> None:
    for request in problem.online:
        mine = [one for one in packing.online if one.key == request.key]
        _must(len(mine) <= request.limit)
        total = sum(_worth(request, one, nodes) for one in mine)
        for one in mine:  # without any one of them the shortage is open
            _must(total - _worth(request, one, nodes) < request.shortage_milli)


def keeps_apart(request: OnlineRequest, replicas: list[list[Supply]]) -> bool:
    """Whether each domain where one of these replicas stands has as few as the floor wants."""
    if request.spread is None:
        return True
    depth = {"node": 0, "leaf": 1, "spine": 2}[request.spread.level]
    tally = dict(request.spread.there)
    entered = set()
    for seats in replicas:
        places = [one.leaf[: len(one.leaf) - depth] if depth else (one.node,) for one in seats]
        for place in set(places) if depth else places:
            tally[place] = tally.get(place, 0) + 1
            entered.add(place)
    return all(tally[place] <= request.spread.most for place in entered)


def _new(problem: Problem, packing: Packing, nodes: dict[str, Supply]) -> list[Stand]:
    by_key = {request.key: request for request in problem.online}
    return [
        (one.key, nodes[one.parts[0][0]].leaf, _worth(by_key[one.key], one, nodes))
        for one in packing.online
    ]


def _unserved(problem: Problem, packing: Packing, nodes: dict[str, Supply]) -> dict[str, int]:
    open_milli = {request.key: request.shortage_milli for request in problem.online}
    by_key = {request.key: request for request in problem.online}
    for placed in packing.online:
        open_milli[placed.key] -= _worth(by_key[placed.key], placed, nodes)
    return {key: milli for key, milli in open_milli.items() if milli > 0}


def _tiers(
    problem: Problem,
    packing: Packing,
    nodes: dict[str, Supply],
    slots: dict[str, list[str]],
) -> Tiers:
    size = {request.key: _size(request) for request in problem.online}
    open_milli = _unserved(problem, packing, nodes)
    free = [held.count("free") for held in slots.values()]
    return Tiers(
        unserved_milli_gpus=sum(milli * size[key] for key, milli in open_milli.items()),
        loss=sum(gang.cost for gang in problem.gangs if gang.key in packing.killed),
        batch_value=sum(
            job.value for job in problem.batch for placed in packing.batch if placed.key == job.key
        ),
        fragmentation_milli_gpus=_waste(free, problem),
        apart=_apart(problem, _new(problem, packing, nodes)),
        split=sum(len({nodes[node].leaf for node, _ in one.parts}) > 1 for one in packing.online),
    )


def _size(request: Request) -> int:
    return sum(m.count * m.shape.pieces * m.shape.gpus for m in _members(request))


def _waste(free: list[int], problem: Problem) -> int:
    whole = sum(weight for _, weight in problem.mix)
    if not whole:
        return 0
    lost = 0
    for gpus in free:
        for size, weight in problem.mix:
            left = gpus
            while left >= size:
                left -= size
            lost += left * weight
    return lost * 1000 // whole


def _apart(problem: Problem, stands: Iterable[Stand]) -> int:
    """For each two roles of a pool, and each place: by how much more of the one is there."""
    total = 0
    for pool in problem.pools:
        tables = [_table(pool, role, stands) for role in pool.roles]
        for one, other in combinations(tables, 2):
            total += sum(abs(one[place] - other[place]) for place in {*one, *other})
    return total


def _table(pool: Pool, role: PoolRole, stands: Iterable[Stand]) -> Counter[Path]:
    """Ten-thousandths of the role by place, each replica rounded down."""
    table = Counter({place: milli * 10_000 // role.total_milli for place, milli in role.there})
    for key, leaf, milli in stands:
        if key == role.key:
            table[_place(pool, leaf)] += milli * 10_000 // role.total_milli
    return table


def _place(pool: Pool, leaf: Path) -> Path:
    return leaf[:-1] if pool.level == "leaf" else leaf[:-2]


def _together(problem: Problem, stands: Iterable[Stand]) -> bool:
    """Whether no replica went where a role of its pool, which must be near, is not."""
    for pool in problem.pools:
        new = {(key, _place(pool, leaf)) for key, leaf, _ in stands}
        keys = {role.key for role in pool.roles}
        both = new | {(role.key, place) for role in pool.roles for place, _ in role.there}
        for key, place in new:
            if pool.required and key in keys and any((k, place) not in both for k in keys):
                return False
    return True


# ---- exhaustive search ---------------------------------------------------------------------------


def best(problem: Problem) -> Order:
    """The lexicographically best tiers over every set of stops and every seat.

    (unserved, loss, -batch value, apart, fragmentation).
    """
    found = [
        best_with(problem, frozenset(gang.key for gang in stops))
        for count in range(len(problem.gangs) + 1)
        for stops in combinations(problem.gangs, count)
    ]
    return min(one for one in found if one is not None)


def best_with(problem: Problem, killed: frozenset[str]) -> Order | None:
    """The same where exactly these gangs are stopped; None where limits forbid that."""
    if any(len(killed & set(limit.gangs)) > limit.most for limit in problem.stop_limits):
        return None
    freed: Counter[str] = Counter()
    drawers = _drawers(problem)
    for gang in problem.gangs:
        for node, gpus in gang.parts if gang.key in killed else ():
            freed[node] += gpus
            _put(drawers, node, gang, 1)
    room = (
        *(one.free + freed[one.node] for one in problem.supplies),
        *(drawers[one.node, what] for what in ("cpu", "memory") for one in problem.supplies),
    )
    loss = sum(gang.cost for gang in problem.gangs if gang.key in killed)
    unserved, value, apart, waste = _Search(problem).online(0, (), 0, room, ())
    return unserved, loss, value, apart, waste


class _Search:
    """Every seat of every request, one after another; what was seen is not searched again."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.nodes = problem.supplies
        self.pooled = {role.key for pool in problem.pools for role in pool.roles}
        self.online = cache(self._online)
        self.batch = cache(self._batch)

    def _batch(self, number: int, room: tuple[int, ...]) -> tuple[int, int]:
        """(-value, fragmentation) of the waiting jobs from this number on."""
        if number == len(self.problem.batch):
            return 0, _waste(list(room[: len(self.nodes)]), self.problem)
        job = self.problem.batch[number]
        found = [self.batch(number + 1, room)]
        for after, _ in _ways(self.nodes, job, room):
            value, waste = self.batch(number + 1, after)
            found.append((value - job.value, waste))
        return min(found)

    def _online(
        self,
        number: int,
        mine: tuple[tuple[int, ...], ...],
        served: int,
        room: tuple[int, ...],
        stands: tuple[Stand, ...],
    ) -> tuple[int, int, int, int]:
        """(unserved, -value, apart, fragmentation) of the requests from this number on.

        `mine`: seats of replicas of the first of them, which serve so many milli-replicas; kept
        only where it asks for a spread.
        """
        if number == len(self.problem.online):
            value, waste = self.batch(0, room)
            unfit = 0 if _together(self.problem, stands) else 10**12
            return unfit, value, _apart(self.problem, stands), waste
        request = self.problem.online[number]
        missing = max(0, request.shortage_milli - served)
        gains = [milli for key, _, milli in stands if key == request.key]
        if gains and served - min(gains) >= request.shortage_milli:
            return 10**12, 0, 0, 0  # a replica more than is needed
        unserved, *rest = self.online(number + 1, (), 0, room, stands)
        value, apart, waste = rest
        found = [(unserved + missing * _size(request), value, apart, waste)]
        if missing and len(mine) < request.limit:
            for after, seats in _ways(self.nodes, request, room):
                here = (*mine, seats if request.spread else ())
                if not keeps_apart(request, [[self.nodes[n] for n in some] for some in here]):
                    continue
                gain = min(request.capacity_milli[self.nodes[n].gpu_model] for n in seats)
                stood = stands
                if request.key in self.pooled:
                    stood = tuple(sorted((*stands, (request.key, self.nodes[seats[0]].leaf, gain))))
                here = tuple(sorted(here))
                found.append(self.online(number, here, served + gain, after, stood))
        return min(found)


def _ways(
    nodes: tuple[Supply, ...], request: Request, room: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Every way to seat the pieces, as what is left and the seats; order is no matter."""
    models = _models(request)
    pods = [member.shape for member in _members(request) for _ in range(member.count)]
    seen = set()
    for choice in product(*(_pods(nodes, shape, models) for shape in pods)):
        left = list(room)
        for shape, seats in zip(pods, choice, strict=True):
            for seat in seats:
                left[seat] -= shape.gpus
                left[len(nodes) + seat] -= shape.cpu_milli
                left[2 * len(nodes) + seat] -= shape.memory_mib
        every = tuple(seat for seats in choice for seat in seats)
        leaves = [nodes[seat].leaf for seat in every]
        what = (tuple(left), frozenset(leaves), nodes[every[0]].leaf)
        if min(left) >= 0 and what not in seen and _within(request, leaves):
            seen.add(what)
            yield tuple(left), every


def _pods(
    nodes: tuple[Supply, ...], shape: Shape, models: tuple[str, ...]
) -> list[tuple[int, ...]]:
    """Every set of seats under one leaf for the pieces of one pod."""
    allowed = [n for n, one in enumerate(nodes) if not models or one.gpu_model in models]
    return [
        seats
        for seats in combinations_with_replacement(allowed, shape.pieces)
        if len({nodes[seat].leaf for seat in seats}) == 1
    ]
