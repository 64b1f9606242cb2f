"""Whether a packing may leave: every claim checked against the problem, from nothing else.

Shares no code with the rungs on purpose, so that a mistake there is not repeated here. A needless
kill is one whose GPUs no online replica of this very packing stands on.
"""

from collections import Counter
from typing import Literal

from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.problem import (
    Gang,
    Member,
    OnlineRequest,
    Packing,
    Placed,
    Problem,
    Shape,
    Supply,
    Tiers,
)
from binpacking.verifycards import cards_left, shares, spared
from binpacking.verifypools import differences, lonely
from binpacking.verifyspread import spreads
from binpacking.verifywakes import lateness, saves, wakes, woken

Beside = Literal["cpu_milli", "memory_mib"]
_BESIDE: tuple[Beside, ...] = ("cpu_milli", "memory_mib")


def verify(problem: Problem, packing: Packing) -> tuple[str, ...]:
    """What is wrong with the packing, one sentence each; empty means accepted."""
    wrong = _keys(problem, packing)
    if wrong:
        return tuple(wrong)
    wrong += _seats(problem, packing)
    wrong += _capacity(problem, packing)
    wrong += wakes(problem, packing)
    wrong += _kills(problem, packing)
    wrong += _limits(problem, packing)
    wrong += _replicas(problem, packing)
    wrong += spreads(problem, packing)
    wrong += lonely(problem, packing)
    wrong += _claims(problem, packing)
    return tuple(wrong)


def _keys(problem: Problem, packing: Packing) -> list[str]:
    """Every key and node is known, and nothing single appears twice."""
    nodes = {supply.node for supply in problem.supplies}
    online = {request.key for request in problem.online}
    batch = {request.key for request in problem.batch}
    gangs = {gang.key for gang in problem.gangs}
    wrong = [f"{p.key}: no such online request" for p in packing.online if p.key not in online]
    wrong += [f"{p.key}: no such batch request" for p in packing.batch if p.key not in batch]
    wrong += [f"{key}: no such gang to stop" for key in packing.killed if key not in gangs]
    started = [placed.key for placed in packing.batch]
    wrong += [f"{key}: started {n} times" for key, n in Counter(started).items() if n > 1]
    wrong += [f"{key}: stopped {n} times" for key, n in Counter(packing.killed).items() if n > 1]
    wrong += [f"{key}: both started and stopped" for key in packing.killed if key in started]
    for placed in (*packing.online, *packing.batch):
        wrong += [f"{placed.key}: no such node {n}" for n, _ in placed.parts if n not in nodes]
    return wrong


def _seats(problem: Problem, packing: Packing) -> list[str]:
    """Shape, leaf and GPU model of every placement."""
    online = {request.key: request for request in problem.online}
    batch = {request.key: request for request in problem.batch}
    supplies = {supply.node: supply for supply in problem.supplies}
    wrong: list[str] = []
    for placed in packing.online:
        request = online[placed.key]
        if request.members:
            wrong += _group(supplies, placed, request)
        else:
            wrong += _pod(supplies, placed.key, placed.parts, request.shape)
        wrong += _models(supplies, placed, tuple(request.capacity_milli))
    for placed in packing.batch:
        job = batch[placed.key]
        wrong += _pod(supplies, placed.key, placed.parts, job.shape)
        if job.gpu_models:
            wrong += _models(supplies, placed, job.gpu_models)
    return wrong


def _group(supplies: dict[str, Supply], placed: Placed, request: OnlineRequest) -> list[str]:
    """The parts pod by pod, then all of them within the group's reach."""
    wrong, parts = [], list(placed.parts)
    for member in request.members:
        for _ in range(member.count):
            pod, parts = parts[: member.shape.pieces], parts[member.shape.pieces :]
            wrong += _pod(supplies, f"{placed.key} {member.role}", tuple(pod), member.shape)
    if parts:
        wrong.append(f"{placed.key}: {len(parts)} pieces more than its members have")
    leaves = {supplies[node].leaf for node, _ in placed.parts}
    if request.reach == "leaf" and len(leaves) > 1:
        wrong.append(f"{placed.key}: pods stand under more than one leaf")
    if len({leaf[:-2] for leaf in leaves}) > 1:
        wrong.append(f"{placed.key}: pods stand under more than one spine pod")
    return wrong


def _pod(
    supplies: dict[str, Supply], name: str, parts: tuple[tuple[str, int], ...], shape: Shape
) -> list[str]:
    wrong = []
    if [gpus for _, gpus in parts] != [shape.gpus] * shape.pieces:
        wrong.append(f"{name}: parts are not {shape.pieces} pieces of {shape.gpus} GPUs")
    if len({supplies[node].leaf for node, _ in parts}) > 1:
        wrong.append(f"{name}: pieces stand under more than one leaf")
    return wrong


def _models(supplies: dict[str, Supply], placed: Placed, allowed: tuple[str, ...]) -> list[str]:
    found = {supplies[node].gpu_model for node, _ in placed.parts}
    return [
        f"{placed.key}: GPU model {model} is not allowed" for model in sorted(found - {*allowed})
    ]


def _left(problem: Problem, packing: Packing, *, batch: bool) -> dict[str, int]:
    """Free GPUs per supplied node after the kills, the online replicas and, where asked for, the
    batch jobs; of the cards that pods share, those that all have left are among them.
    """
    left = {supply.node: supply.free for supply in problem.supplies}
    for (node, _), card in cards_left(problem, packing, batch=batch).items():
        left[node] += card.whole_again
    stopped = set(packing.killed)
    for gang in problem.gangs:
        if gang.key in stopped:
            for node, gpus in gang.parts:
                if node in left:
                    left[node] += gpus
    for placed in (*packing.online, *(packing.batch if batch else ())):
        for node, gpus in placed.parts:
            left[node] -= gpus
    return left


def _capacity(problem: Problem, packing: Packing) -> list[str]:
    left = _left(problem, packing, batch=True)
    wrong = [f"{node}: {-gpus} GPUs too many" for node, gpus in left.items() if gpus < 0]
    pieces = [*_online_pieces(problem, packing), *_batch_pieces(problem, packing)]
    for resource in _BESIDE:
        known = _left_beside(problem, packing, pieces, resource)
        wrong += [f"{node}: {-n} {resource} too much" for node, n in known.items() if n < 0]
    return wrong + shares(problem, packing)


def _kills(problem: Problem, packing: Packing) -> list[str]:
    """Every stopped gang holds GPUs, CPU or memory that an online replica stands on, or GPUs that
    those units slept on which save more than the stop costs.
    """
    left = _left(problem, packing, batch=False)
    pieces = _online_pieces(problem, packing)
    beside = {one: _left_beside(problem, packing, pieces, one) for one in _BESIDE}
    stopped = set(packing.killed)
    keys = set(woken(packing))
    units = [unit for unit in problem.standby if unit.key in keys]
    return [
        f"{gang.key}: stopped without need"
        for gang in problem.gangs
        if gang.key in stopped
        and spared(problem, packing, gang, left)
        and all(_spared(gang, left, resource) for resource, left in beside.items())
        and sum(saves(problem, unit) for unit in units if gang.key in unit.under) <= gang.cost
    ]


def _spared(gang: Gang, left: dict[str, int], resource: Beside) -> bool:
    """Whether as much of it as the gang held on each node is not used."""
    count = Counter(_nodes(gang))
    return all(
        left[node] >= parts * _amount(gang, resource)
        for node, parts in count.items()
        if node in left
    )


def _left_beside(
    problem: Problem, packing: Packing, pieces: list[tuple[str, Shape]], resource: Beside
) -> dict[str, int]:
    """Free CPU or memory after the kills, less what these pieces ask of their nodes.

    Only nodes of which it is known.
    """
    free = ((supply.node, getattr(supply, resource)) for supply in problem.supplies)
    left = {node: amount for node, amount in free if amount is not None}
    if not left:
        return left
    stopped = set(packing.killed)
    for gang in problem.gangs:
        for node in _nodes(gang):
            if node in left and gang.key in stopped:
                left[node] += _amount(gang, resource)
    for node, shape in pieces:
        if node in left:
            left[node] -= _amount(shape, resource)
    return left


def _amount(of: Gang | Shape, resource: Beside) -> int:
    return of.cpu_milli if resource == "cpu_milli" else of.memory_mib


def _nodes(gang: Gang) -> list[str]:
    """The node of every part and every share."""
    return [*(node for node, _ in gang.parts), *(held.node for held in gang.shares)]


def _online_pieces(problem: Problem, packing: Packing) -> list[tuple[str, Shape]]:
    """(node, shape) of every piece of every replica."""
    shapes: dict[str, list[Shape]] = {}
    for request in problem.online:
        pods = request.members or (Member("", 1, request.shape),)
        shapes[request.key] = [
            one.shape for one in pods for _ in range(one.count * one.shape.pieces)
        ]
    return [
        (node, shape)
        for placed in packing.online
        for (node, _), shape in zip(placed.parts, shapes[placed.key], strict=False)
    ]


def _batch_pieces(problem: Problem, packing: Packing) -> list[tuple[str, Shape]]:
    shape = {job.key: job.shape for job in problem.batch}
    return [(node, shape[placed.key]) for placed in packing.batch for node, _ in placed.parts]


def _limits(problem: Problem, packing: Packing) -> list[str]:
    stopped = set(packing.killed)
    return [
        f"{limit.name}: {len(stopped & set(limit.gangs))} stops, at most {limit.most} allowed"
        for limit in problem.stop_limits
        if len(stopped & set(limit.gangs)) > limit.most
    ]


def _replicas(problem: Problem, packing: Packing) -> list[str]:
    """No more replicas than the limit allows and the shortage needs."""
    wrong, models = [], _models_of(problem)
    for request in problem.online:
        yields = _yields(models, packing, request)
        if len(yields) > request.limit:
            wrong.append(f"{request.key}: {len(yields)} replicas, at most {request.limit} allowed")
        if yields and sum(yields) - min(yields) >= request.shortage_milli:
            wrong.append(f"{request.key}: a replica more than the shortage needs")
    return wrong


def _models_of(problem: Problem) -> dict[str, str]:
    return {supply.node: supply.gpu_model for supply in problem.supplies}


def _yields(models: dict[str, str], packing: Packing, request: OnlineRequest) -> list[int]:
    """Milli-replicas of each replica placed for this request, by its least capable GPU model."""
    return [
        min(request.capacity_milli.get(models[node], 0) for node, _ in placed.parts)
        for placed in packing.online
        if placed.key == request.key and placed.parts
    ]


def _claims(problem: Problem, packing: Packing) -> list[str]:
    """The packing's `unserved` and `tiers` are what its placements and kills amount to."""
    unserved: dict[str, int] = {}
    lost_milli, models = 0, _models_of(problem)
    for request in problem.online:
        missing = request.shortage_milli - sum(_yields(models, packing, request))
        if missing > 0:
            unserved[request.key] = missing
            pods = request.members or (Member("", 1, request.shape),)
            micro = missing * sum(
                one.count * one.shape.pieces * (1000 * one.shape.gpus + one.shape.share.milli)
                for one in pods
            )
            lost_milli += (micro + 999) // 1000
    wrong = []
    if unserved != packing.unserved:
        wrong.append(f"unserved: claimed {packing.unserved}, found {unserved}")
    stopped, started = set(packing.killed), {placed.key for placed in packing.batch}
    late = lateness(problem, packing)
    tiers = Tiers(
        unserved_milli_gpus=lost_milli,
        loss=sum(gang.cost for gang in problem.gangs if gang.key in stopped) + late,
        batch_value=sum(job.value for job in problem.batch if job.key in started),
        fragmentation_milli_gpus=_wasted(problem, packing),
        apart=differences(problem, packing),
        split=_split(problem, packing),
        lateness=late,
    )
    if tiers != packing.tiers:
        wrong.append(f"tiers: claimed {packing.tiers}, found {tiers}")
    return wrong


def _split(problem: Problem, packing: Packing) -> int:
    """Replicas of fixed groups under several leaves."""
    leaf = {supply.node: supply.leaf for supply in problem.supplies}
    fixed = {request.key for request in problem.online if request.members}
    return sum(
        len({leaf[node] for node, _ in placed.parts}) > 1
        for placed in packing.online
        if placed.key in fixed
    )


def _wasted(problem: Problem, packing: Packing) -> int:
    """Expected milli-GPUs of no use to the mix on what stays free, node by node, card by card."""
    left = _left(problem, packing, batch=True)
    cards = cards_left(problem, packing, batch=True).values()
    rest = [card.milli for card in cards if card.milli < WHOLE_GPU_MILLI]
    total = sum(weight for _, weight in (*problem.mix, *problem.card_mix))
    wasted = 1000 * sum(gpus % size * one for gpus in left.values() for size, one in problem.mix)
    wasted += sum(rest) * sum(weight for _, weight in problem.mix)
    for size, weight in problem.card_mix:
        wasted += weight * sum(milli % size for milli in rest)
        wasted += weight * sum(left.values()) * (WHOLE_GPU_MILLI % size)
    return wasted // total if total else 0
