"""A second checker, to hold `binpacking.verify` to.

It thinks in single GPUs and single seats, as slowly as the words of `binpacking.problem` allow,
and uses nothing else of the package. CPU and memory are drawers of a node beside its GPUs.
"""

from collections import Counter
from collections.abc import Iterable
from itertools import combinations

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
    slots, drawers = _slots(problem), drawers_of(problem)
    running = {gang.key: gang for gang in problem.gangs}
    for key in packing.killed:
        _must(key in running)
        for node, _ in running[key].parts:
            put(drawers, node, running[key], 1)
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
    _must(are_together(problem, _new(problem, packing, nodes)))
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


def drawers_of(problem: Problem) -> dict[tuple[str, str], int]:
    return {
        (one.node, what): ENOUGH if free is None else free
        for one in problem.supplies
        for what, free in (("cpu", one.cpu_milli), ("memory", one.memory_mib))
    }


def put(drawers: dict[tuple[str, str], int], node: str, what: Shape | Gang, sign: int) -> None:
    if (node, "cpu") in drawers:
        drawers[node, "cpu"] += sign * what.cpu_milli
        drawers[node, "memory"] += sign * what.memory_mib


def _fill(drawers: dict[tuple[str, str], int], placed: Placed, request: Request) -> None:
    parts = iter(placed.parts)
    for member in members_of(request):
        for _ in range(member.count * member.shape.pieces):
            put(drawers, next(parts)[0], member.shape, -1)


def _stands(spare: dict[str, int], drawers: dict[tuple[str, str], int], gang: Gang) -> bool:
    """Whether the gang could stand where it stood, on what nobody uses now."""
    left, beside = dict(spare), dict(drawers)
    for node, gpus in gang.parts:
        put(beside, node, gang, -1)
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
    pods = [shape for member in members_of(request) for shape in [member.shape] * member.count]
    wanted = [shape.gpus for shape in pods for _ in range(shape.pieces)]
    _must([gpus for _, gpus in placed.parts] == wanted)
    _must(all(node in nodes for node, _ in placed.parts))
    leaves = [nodes[node].leaf for node, _ in placed.parts]
    for shape in pods:  # the next pod's pieces, all under one leaf
        _must(len(set(leaves[: shape.pieces])) == 1)
        del leaves[: shape.pieces]
    _must(within(request, [nodes[node].leaf for node, _ in placed.parts]))
    models = models_of(request)
    for node, gpus in placed.parts:
        _must(not models or nodes[node].gpu_model in models)
        for _ in range(gpus):
            _must("free" in slots[node])
            slots[node][slots[node].index("free")] = who


def members_of(request: Request) -> tuple[Member, ...]:
    if isinstance(request, OnlineRequest) and request.members:
        return request.members
    return (Member("", 1, request.shape),)


def within(request: Request, leaves: list[Path]) -> bool:
    """Whether the pods stand no further apart than the request's reach."""
    if isinstance(request, OnlineRequest) and request.reach == "spine":
        return len({path[: len(path) - 2] for path in leaves}) == 1
    return len(set(leaves)) == 1


def models_of(request: Request) -> tuple[str, ...]:
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
    size = {request.key: size_of(request) for request in problem.online}
    open_milli = _unserved(problem, packing, nodes)
    free = [held.count("free") for held in slots.values()]
    return Tiers(
        unserved_milli_gpus=sum(milli * size[key] for key, milli in open_milli.items()),
        loss=sum(gang.cost for gang in problem.gangs if gang.key in packing.killed),
        batch_value=sum(
            job.value for job in problem.batch for placed in packing.batch if placed.key == job.key
        ),
        fragmentation_milli_gpus=waste_of(free, problem),
        apart=apart_by(problem, _new(problem, packing, nodes)),
        split=sum(len({nodes[node].leaf for node, _ in one.parts}) > 1 for one in packing.online),
    )


def size_of(request: Request) -> int:
    return sum(m.count * m.shape.pieces * m.shape.gpus for m in members_of(request))


def waste_of(free: list[int], problem: Problem) -> int:
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


def apart_by(problem: Problem, stands: Iterable[Stand]) -> int:
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


def are_together(problem: Problem, stands: Iterable[Stand]) -> bool:
    """Whether no replica went where a role of its pool, which must be near, is not."""
    for pool in problem.pools:
        new = {(key, _place(pool, leaf)) for key, leaf, _ in stands}
        keys = {role.key for role in pool.roles}
        both = new | {(role.key, place) for role in pool.roles for place, _ in role.there}
        for key, place in new:
            if pool.required and key in keys and any((k, place) not in both for k in keys):
                return False
    return True
