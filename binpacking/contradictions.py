"""What a problem must not say: what would make "free", "cost" or "key" ambiguous.

Called once, before the problem is numbered (see `layout`); everything after it relies on this.
"""

from collections import Counter

from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.pools import check as check_pools
from binpacking.problem import Problem, Shape
from binpacking.shares import NO_SHARE
from binpacking.spread import check as check_spread


def refuse_contradictions(problem: Problem) -> None:
    """Raise ValueError with the field and the fix, for the first that is found."""
    _distinct("supplies", "node", [supply.node for supply in problem.supplies])
    _distinct("online", "key", [request.key for request in problem.online])
    _distinct("batch", "key", [request.key for request in problem.batch])
    _distinct("gangs", "key", [gang.key for gang in problem.gangs])
    _distinct("standby", "key", [unit.key for unit in problem.standby])
    _at_least(0, "late_price", problem.late_price)
    for supply in problem.supplies:
        _at_least(0, f"supplies: free of {supply.node}", supply.free)
        _at_least(0, f"supplies: cpu_milli of {supply.node}", supply.cpu_milli or 0)
        _at_least(0, f"supplies: memory_mib of {supply.node}", supply.memory_mib or 0)
    for request in problem.online:
        if request.members and request.shape != Shape(0, 0):
            raise ValueError(f"online: {request.key} has a shape and members; give one of them")
        for member in request.pods:
            _at_least(1, f"online: count of {member.role} of {request.key}", member.count)
            _check_shape("online", request.key, member.shape)
        for model, milli in request.capacity_milli.items():
            _at_least(1, f"online: capacity_milli[{model}] of {request.key}", milli)
        check_spread(request)
    for job in problem.batch:
        _check_shape("batch", job.key, job.shape)
    check_pools(problem)
    _check_stops(problem)
    _check_cards(problem)


def _check_stops(problem: Problem) -> None:
    for limit in problem.stop_limits:
        _at_least(0, f"stop_limits: most of {limit.name}", limit.most)
    for gang in problem.gangs:  # a free stop would be taken for nothing
        _at_least(1, f"gangs: cost of {gang.key}", gang.cost)
        _at_least(0, f"gangs: cpu_milli of {gang.key}", gang.cpu_milli)
        _at_least(0, f"gangs: memory_mib of {gang.key}", gang.memory_mib)


def _check_shape(field: str, key: str, shape: Shape) -> None:
    _at_least(1, f"{field}: shape.pieces of {key}", shape.pieces)
    if shape.share == NO_SHARE:
        _at_least(1, f"{field}: shape.gpus of {key}", shape.gpus)
    else:
        _within(1, f"{field}: shape.share of {key} in milli-GPU", shape.share.milli)
        if shape.gpus:
            raise ValueError(f"{field}: shape of {key} has GPUs and a share; give one of them")
    _at_least(0, f"{field}: shape.cpu_milli of {key}", shape.cpu_milli)
    _at_least(0, f"{field}: shape.memory_mib of {key}", shape.memory_mib)


def _check_cards(problem: Problem) -> None:
    """Cards are neither whole nor overdrawn, now or once all their gangs are stopped."""
    rooms: dict[tuple[str, int], int] = {}
    for supply in problem.supplies:
        for number, card in enumerate(supply.cards):
            _within(0, f"supplies: card {number} of {supply.node}", card.milli)
            rooms[supply.node, number] = card.milli
    nodes = {supply.node for supply in problem.supplies}
    for gang in problem.gangs:
        for node, number, share in gang.shares:
            _within(1, f"gangs: share of {gang.key} in milli-GPU", share.milli)
            if node in nodes and (node, number) not in rooms:
                raise ValueError(f"gangs: {gang.key} holds card {number} of {node}, which has none")
            rooms[node, number] = rooms.get((node, number), 0) + share.milli
    for (node, number), milli in rooms.items():
        if milli > WHOLE_GPU_MILLI:
            raise ValueError(
                f"gangs: those on card {number} of {node} and what is left of it make {milli}"
                f" milli-GPU; give {WHOLE_GPU_MILLI} or less"
            )


def _within(least: int, what: str, milli: int) -> None:
    if not least <= milli < WHOLE_GPU_MILLI:
        raise ValueError(f"{what} is {milli}; give {least} to {WHOLE_GPU_MILLI - 1}")


def _at_least(least: int, what: str, value: int) -> None:
    if value < least:
        raise ValueError(f"{what} is {value}; give {least} or more")


def _distinct(field: str, name: str, keys: list[str]) -> None:
    if len(set(keys)) != len(keys):
        twice = min(key for key, count in Counter(keys).items() if count > 1)
        raise ValueError(f"{field}: {name} {twice} appears twice; state each one once")
