"""Small worlds in which engines sleep, and their best answer by trying everything.

Every GPU has an owner here: free, or a gang. Units sleep on given ones.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, combinations, combinations_with_replacement, product
from random import Random

import msgspec

from binpacking.problem import (
    Gang,
    Member,
    OnlineRequest,
    Packing,
    Problem,
    StopLimit,
    Supply,
)
from binpacking.standby import Standby
from tests.binpacking.naive import keeps_apart
from tests.binpacking.problems import gang, online

Pods = tuple[tuple[str, str, str], ...]
"""(request, role, node) of every pod of one piece."""
Way = tuple[Pods, tuple[tuple[str, int], ...]]
"""What one replica stands on: its pods of one piece, and the GPUs that all its pods take."""


def with_sleepers(chance: Random, problem: Problem, most: int) -> Problem:
    """The problem with up to so many units, each on GPUs drawn from one node."""
    owners = owned(problem)
    kinds = [
        (request.key, member.role, member.shape.gpus)
        for request in problem.online
        for member in request.pods
        if member.shape.pieces == 1
    ]
    units = []
    for number in range(chance.randint(1, most) if kinds else 0):
        key, role, gpus = chance.choice(kinds)
        nodes = [node for node, held in owners.items() if len(held) >= gpus]
        if nodes:
            node = chance.choice(nodes)
            first = chance.randint(0, len(owners[node]) - gpus)
            devices = tuple(range(first, first + gpus))
            units.append(
                Standby(
                    key=f"u{number}",
                    request=key,
                    role=role,
                    node=node,
                    devices=devices,
                    under=tuple(sorted({owners[node][d] for d in devices} - {""})),
                    saved_seconds=chance.randint(1, 9),
                )
            )
    return msgspec.structs.replace(
        problem, standby=tuple(units), late_price=chance.choice([0, 1, 3])
    )


def crowded(chance: Random) -> Problem:
    """At most four nodes with few free GPUs, one or two requests, and gangs that may stop."""
    supplies, parts = [], dict[str, list[tuple[str, int]]]()
    for leaf in range(chance.randint(1, 2)):
        model = chance.choice(["h100", "h100", "l20"])
        for number in range(chance.randint(1, 2)):
            node, total = f"n{leaf}{number}", chance.choice([4, 8])
            free = total
            while free > 2 and len(parts) < 5:
                gpus = chance.choice([size for size in (1, 2, 4) if size <= free])
                key = f"g{leaf}{chance.randint(0, 4)}"  # now and then one of several nodes
                parts.setdefault(key, []).append((node, gpus))
                free -= gpus
            supplies.append(Supply(node, model, ("core", f"l{leaf}", model), free, total))
    requests = tuple(
        online(
            f"o{number}",
            chance.choice([1, 2, 2, 4]),
            chance.randint(1, 2500),
            models=chance.choice([{"h100": 1000}, {"h100": 1000, "l20": 400}]),
            limit=chance.randint(1, 3),
        )
        for number in range(chance.randint(1, 2))
    )
    gangs = tuple(gang(key, chance.randint(1, 30), *some) for key, some in sorted(parts.items()))
    limit = StopLimit("all", tuple(sorted(parts)), chance.randint(1, 4))
    return Problem(
        supplies=tuple(supplies),
        online=requests,
        gangs=gangs,
        stop_limits=(limit,) * chance.randint(0, 1),
    )


def owned(problem: Problem) -> dict[str, list[str]]:
    """By node: who holds each GPU; empty for the free ones."""
    owners = {supply.node: [""] * supply.free for supply in problem.supplies}
    for one in problem.gangs:
        for node, gpus in one.parts:
            owners[node] += [one.key] * gpus
    for held in owners.values():
        held.sort(key=lambda key: (key[::-1], key))  # so that free GPUs are not all in front
    return owners


def least(problem: Problem) -> tuple[int, int]:
    """The least (unserved milli-GPUs, loss) over all stops, seats and units woken."""
    sets = chain.from_iterable(
        combinations(problem.gangs, count) for count in range(len(problem.gangs) + 1)
    )
    return min(chain.from_iterable(_answers(problem, stopped) for stopped in sets))


def _answers(problem: Problem, stopped: tuple[Gang, ...]) -> Iterator[tuple[int, int]]:
    keys = {one.key for one in stopped}
    if any(len(keys & set(limit.gangs)) > limit.most for limit in problem.stop_limits):
        return
    room = Counter({supply.node: supply.free for supply in problem.supplies})
    for one in stopped:
        for node, gpus in one.parts:
            room[node] += gpus
    spent = sum(one.cost for one in stopped) + _all_of_use(problem)
    clear = [unit for unit in problem.standby if keys.issuperset(unit.under)]
    known: dict[Pods, int] = {}
    for unserved, pods in _seatings(problem, 0, room):
        if pods not in known:
            known[pods] = _most_saved(problem, clear, Counter(pods))
        yield unserved, spent - known[pods]


def _all_of_use(problem: Problem) -> int:
    """What the best units of every role save, as many as its shortage could use."""
    models = {supply.node: supply.gpu_model for supply in problem.supplies}
    gangs = {one.key for one in problem.gangs}
    total = 0
    for request in problem.online:
        slowest = min(request.capacity_milli.values())
        replicas = min(request.limit, -(-request.shortage_milli // slowest))
        for member in request.pods:
            mine = [
                _saves(problem, unit)
                for unit in problem.standby
                if (unit.request, unit.role) == (request.key, member.role)
                and models[unit.node] in request.capacity_milli
                and gangs.issuperset(unit.under)
            ]
            total += sum(sorted(mine)[::-1][: replicas * member.count])
    return total


def _saves(problem: Problem, unit: Standby) -> int:
    return problem.late_price * len(unit.devices) * unit.saved_seconds


def _most_saved(problem: Problem, units: list[Standby], pods: Counter[tuple[str, str, str]]) -> int:
    """What the best set of these units saves, each as a pod of its own on GPUs of its own."""
    if not units:
        return 0
    unit, *others = units
    without = _most_saved(problem, others, pods)
    place = (unit.request, unit.role, unit.node)
    if not pods[place]:
        return without
    apart = [o for o in others if o.node != unit.node or not {*o.devices} & {*unit.devices}]
    used = _most_saved(problem, apart, pods - Counter([place]))
    return max(without, used + _saves(problem, unit))


def _seatings(problem: Problem, number: int, room: Counter[str]) -> Iterator[tuple[int, Pods]]:
    """(unserved, pods) of every way to seat the requests from this number on."""
    if number == len(problem.online):
        yield 0, ()
        return
    request = problem.online[number]
    ways = list(_ways(problem, request))
    supplies = {supply.node: supply for supply in problem.supplies}
    for count in range(request.limit + 1):
        for some in combinations_with_replacement(ways, count):
            left = room.copy()
            for _, taken in some:
                for node, gpus in taken:
                    left[node] -= gpus
            served = [_yield(problem, request, taken) for _, taken in some]
            seats = [[supplies[node] for node, _ in taken] for _, taken in some]
            if not keeps_apart(request, seats):
                continue
            if min(left.values()) < 0 or _one_too_many(served, request.shortage_milli):
                continue
            open_milli = max(0, request.shortage_milli - sum(served)) * request.size
            mine = tuple(chain.from_iterable(pods for pods, _ in some))
            for unserved, pods in _seatings(problem, number + 1, left):
                yield open_milli + unserved, tuple(sorted((*mine, *pods)))


def _one_too_many(served: list[int], shortage_milli: int) -> bool:
    return bool(served) and sum(served) - min(served) >= max(1, shortage_milli)


def _yield(problem: Problem, request: OnlineRequest, taken: tuple[tuple[str, int], ...]) -> int:
    models = {supply.node: supply.gpu_model for supply in problem.supplies}
    return min(request.capacity_milli[models[node]] for node, _ in taken)


def _ways(problem: Problem, request: OnlineRequest) -> Iterator[Way]:
    """Every way to seat one replica on an empty cluster."""
    leaf = {supply.node: supply.leaf for supply in problem.supplies}
    pods = [member for member in request.pods for _ in range(member.count)]
    for choice in product(*(_pod_ways(problem, request, member) for member in pods)):
        leaves = {leaf[nodes[0]] for nodes in choice}
        within = {path[:-2] for path in leaves} if request.reach == "spine" else leaves
        if len(within) == 1:
            yield (
                tuple(
                    (request.key, member.role, nodes[0])
                    for member, nodes in zip(pods, choice, strict=True)
                    if member.shape.pieces == 1
                ),
                tuple(
                    (node, member.shape.gpus)
                    for member, nodes in zip(pods, choice, strict=True)
                    for node in nodes
                ),
            )


def _pod_ways(problem: Problem, request: OnlineRequest, member: Member) -> list[tuple[str, ...]]:
    leaf = {s.node: s.leaf for s in problem.supplies if s.gpu_model in request.capacity_milli}
    return [
        nodes
        for nodes in combinations_with_replacement(sorted(leaf), member.shape.pieces)
        if len({leaf[node] for node in nodes}) == 1
    ]


def stands(problem: Problem, packing: Packing) -> bool:
    """Whether a clerk who gives out every single GPU can follow the packing.

    First the units that wake get theirs, then every other pod any that are left.
    """
    owners = {
        node: ["" if key in packing.killed else key for key in held]
        for node, held in owned(problem).items()
    }
    units = {unit.key: unit for unit in problem.standby}
    asked: list[tuple[str, int]] = []
    for placed in packing.online:
        parts = list(placed.parts)
        for key in placed.wakes:
            unit = units.pop(key, None)  # a second time there is none
            if unit is None or not _given(owners[unit.node], unit.devices):
                return False
            part = (unit.node, len(unit.devices))
            if unit.request != placed.key or part not in parts:
                return False
            parts.remove(part)
        asked += parts
    asked += [part for placed in packing.batch for part in placed.parts]
    return all(
        _given(owners[node], [d for d, key in enumerate(owners[node]) if not key][:gpus], gpus)
        for node, gpus in asked
    )


def _given(held: list[str], devices: Sequence[int], least: int = 0) -> bool:
    """Whether these are free, and enough; they are held from now on."""
    if len(devices) < least or any(held[device] for device in devices):
        return False
    for device in devices:
        held[device] = "a pod"
    return True
