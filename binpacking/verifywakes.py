"""The part of the checker that looks at standby units; like `verify`, it shares no code with the
rungs.
"""

from collections import Counter

from binpacking.problem import Member, OnlineRequest, Packing, Placed, Problem
from binpacking.standby import Standby


def woken(packing: Packing) -> list[str]:
    """The keys of all units that the packing wakes."""
    return [key for placed in packing.online for key in placed.wakes]


def saves(problem: Problem, unit: Standby) -> int:
    """Priority-weighted GPU-seconds."""
    return problem.late_price * len(unit.devices) * unit.saved_seconds


def wakes(problem: Problem, packing: Packing) -> list[str]:
    """Every unit woken is a pod of its replica, alone on GPUs that no gang holds any more."""
    units = {unit.key: unit for unit in problem.standby}
    requests = {request.key: request for request in problem.online}
    keys = woken(packing)
    wrong = [f"{key}: no such standby unit" for key in keys if key not in units]
    wrong += [f"{key}: woken {n} times" for key, n in Counter(keys).items() if n > 1]
    users: dict[tuple[str, int], list[str]] = {}
    for placed in packing.online:
        mine = [units[key] for key in placed.wakes if key in units]
        wrong += _pods_that_wake(requests[placed.key], placed, mine)
        for unit in mine:
            wrong += [
                f"{unit.key}: woken under {key}, which runs on"
                for key in unit.under
                if key not in packing.killed
            ]
            for device in unit.devices:
                users.setdefault((unit.node, device), []).append(unit.key)
    return wrong + [
        f"{node}: GPU {device} is of {' and '.join(keys)}"
        for (node, device), keys in sorted(users.items())
        if len(keys) > 1
    ]


def _pods_that_wake(request: OnlineRequest, placed: Placed, units: list[Standby]) -> list[str]:
    """As many pods of the unit's role, size and node as the replica says to wake there."""
    pods: Counter[tuple[str, str, int]] = Counter()
    parts = list(placed.parts)
    for member in request.members or (Member("", 1, request.shape),):
        for _ in range(member.count):
            mine, parts = parts[: member.shape.pieces], parts[member.shape.pieces :]
            if len(mine) == 1:
                pods[member.role, *mine[0]] += 1
    pods.subtract((unit.role, unit.node, len(unit.devices)) for unit in units)
    wrong = [
        f"{unit.key}: no unit of {request.key}" for unit in units if unit.request != placed.key
    ]
    return wrong + [
        f"{placed.key}: wakes {-count} more of {role!r} with {gpus} GPUs on {node} than stand there"
        for (role, node, gpus), count in sorted(pods.items())
        if count < 0
    ]


def lateness(problem: Problem, packing: Packing) -> int:
    """What the units left asleep would have saved, as many of each role as were of use."""
    worth = _worth(problem)
    total = 0
    for request in problem.online:
        replicas = 0
        if request.capacity_milli and request.shortage_milli > 0:
            slowest = min(request.capacity_milli.values())
            replicas = min(request.limit, (request.shortage_milli + slowest - 1) // slowest)
        for member in request.members or (Member("", 1, request.shape),):
            mine = sorted(worth.pop((request.key, member.role), []))
            useful = replicas * member.count
            total += sum(mine[len(mine) - min(useful, len(mine)) :])
    keys = set(woken(packing))
    return total - sum(saves(problem, unit) for unit in problem.standby if unit.key in keys)


def _worth(problem: Problem) -> dict[tuple[str, str], list[int]]:
    """By request and role: what each unit saves that could wake at all."""
    models = {supply.node: supply.gpu_model for supply in problem.supplies}
    allowed = {request.key: request.capacity_milli for request in problem.online}
    gangs = {gang.key for gang in problem.gangs}
    found: dict[tuple[str, str], list[int]] = {}
    for unit in problem.standby:
        if models.get(unit.node) in allowed.get(unit.request, {}) and gangs.issuperset(unit.under):
            found.setdefault((unit.request, unit.role), []).append(saves(problem, unit))
    return found
