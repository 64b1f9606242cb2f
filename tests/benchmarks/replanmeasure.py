"""What a plan amounts to, counted from the instance and the plan alone."""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from scheduler.simulation.instances import Instance, RunningGang, pieces_of
from tests.benchmarks.replanproblem import Plan, Seated, Started
from tests.benchmarks.replansleepers import Sleeper, hits, lateness

MIX = ((1, 0.35), (2, 0.20), (4, 0.20), (8, 0.25))
"""Shapes to come: GPUs on one node, and their share."""

Piece = tuple[int, int]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one plan."""

    unserved_gpus: int
    loss: float
    """Priority-weighted GPU-hours, lateness included."""
    sleepers: int
    sleepers_hit: int
    lateness: float
    """What the units left asleep would have saved, as many as were of use (`replansleepers`)."""
    batch_priority_gpus: int
    fragmentation_gpus: float
    split_groups: int
    topology_violations: int
    nonminimal_victim_sets: int
    """1 where one victim of the plan could run on with every group still in its leaves, every unit
    awake that does not sleep under it, and no more loss."""
    materialised: bool
    """Every piece has its GPUs on a node, and nothing is placed that nobody asked for."""


def measure(instance: Instance, plan: Plan, sleepers: Sequence[Sleeper] = ()) -> Figures:
    """Count a plan's figures."""
    gangs = {gang.number: gang for gang in instance.gangs}
    killed = [gangs[number] for number in plan.killed if number in gangs]
    leaf = {node: s for s, nodes in enumerate(instance.leaf_nodes) for node in nodes}
    served = sum(instance.services[one.service].gpus for one in plan.placed)
    left = _left(instance, killed, plan)
    hit = hits(sleepers, plan)
    late = lateness(instance, sleepers, hit)
    return Figures(
        unserved_gpus=instance.wanted_gpus - served,
        loss=round(sum(gang.cost for gang in killed) + late, 9),
        sleepers=len(sleepers),
        sleepers_hit=len(hit),
        lateness=round(late, 9),
        batch_priority_gpus=sum(one.gpus * one.priority for one in plan.started),
        fragmentation_gpus=round(
            sum(share * (free % size) for free in left for size, share in MIX), 9
        ),
        split_groups=sum(len(_leaves(leaf, one)) > 1 for one in plan.placed),
        topology_violations=_violations(instance, leaf, plan),
        nonminimal_victim_sets=int(_has_needless(instance, killed, plan, hit)),
        materialised=min(left) >= 0 and _as_asked(instance, plan, gangs),
    )


def with_batch(instance: Instance, plan: Plan) -> Plan:
    """Start waiting gangs by priority, then size, each in the leaf and nodes that fit best."""
    gangs = {gang.number: gang for gang in instance.gangs}
    free = _left(instance, [gangs[number] for number in plan.killed], plan)
    started: list[Started] = []
    for one in sorted(instance.pending, key=lambda one: (-one.priority, -one.gpus)):
        for _ in range(one.count):
            ways = [
                way
                for nodes in instance.leaf_nodes
                if (way := _best_fit(free, nodes, pieces_of(one.gpus))) is not None
            ]
            if not ways:
                break
            pieces = min(ways)[1]
            for node, gpus in pieces:
                free[node] -= gpus
            started.append(Started(one.gpus, one.priority, pieces))
    return msgspec.structs.replace(plan, started=tuple(started))


def _best_fit(
    free: Sequence[int], nodes: Iterable[int], sizes: Sequence[int]
) -> tuple[int, tuple[Piece, ...]] | None:
    """Return (free GPUs left on the nodes used, pieces); None where the leaf has no room."""
    room = {node: free[node] for node in nodes}
    pieces: list[Piece] = []
    for gpus in sizes:
        fitting = [(left, node) for node, left in room.items() if left >= gpus]
        if not fitting:
            return None
        node = min(fitting)[1]
        room[node] -= gpus
        pieces.append((node, gpus))
    return sum(room[node] for node in {node for node, _ in pieces}), tuple(pieces)


def _left(instance: Instance, killed: Iterable[RunningGang], plan: Plan) -> list[int]:
    left = list(instance.free_gpus)
    for gang in killed:
        for piece in gang.pieces:
            left[piece.node] += piece.gpus
    for node, gpus in _taken(plan):
        left[node] -= gpus
    return left


def _taken(plan: Plan) -> Iterable[Piece]:
    for one in plan.placed:
        yield from ((node, gpus) for node, gpus, _ in one.pieces)
    for other in plan.started:
        yield from other.pieces


def _leaves(leaf: dict[int, int], one: Seated) -> set[int]:
    return {leaf[node] for node, _, _ in one.pieces}


def _violations(instance: Instance, leaf: dict[int, int], plan: Plan) -> int:
    """Pods and gangs over several leaves, groups over several spine pods, wrong GPU models."""
    spine = {s: number for number, leaves in enumerate(instance.spine_pods) for s in leaves}
    wrong = 0
    for one in plan.placed:
        service = instance.services[one.service]
        leaves = _leaves(leaf, one)
        wrong += len({spine[s] for s in leaves}) > 1
        wrong += any(instance.leaf_models[s] not in service.gpu_models for s in leaves)
        wrong += sum(
            len({leaf[node] for node, _, _ in pod}) > 1
            for role, gpus in (("prefill", service.prefill_gpus), ("decode", service.decode_gpus))
            for pod in _pods([piece for piece in one.pieces if piece[2] == role], gpus)
        )
    return wrong + sum(len({leaf[node] for node, _ in one.pieces}) > 1 for one in plan.started)


def _pods(pieces: list[tuple[int, int, str]], gpus: int) -> list[list[tuple[int, int, str]]]:
    count = len(pieces_of(gpus))
    return [pieces[start : start + count] for start in range(0, len(pieces), count)]


def _as_asked(instance: Instance, plan: Plan, gangs: dict[int, RunningGang]) -> bool:
    """Only gangs that run are killed, once; groups and gangs have their shapes, and none is new."""
    groups = Counter(one.service for one in plan.placed)
    starts = Counter((one.gpus, one.priority) for one in plan.started)
    waiting = {(one.gpus, one.priority): one.count for one in instance.pending}
    return (
        len(set(plan.killed)) == len(plan.killed)
        and gangs.keys() >= set(plan.killed)
        and all(count <= instance.wanted_groups[service] for service, count in groups.items())
        and all(count <= waiting.get(kind, 0) for kind, count in starts.items())
        and all(_shaped(instance, one) for one in plan.placed)
        and all(tuple(g for _, g in one.pieces) == pieces_of(one.gpus) for one in plan.started)
    )


def _shaped(instance: Instance, one: Seated) -> bool:
    service = instance.services[one.service]
    return all(
        sorted(gpus for _, gpus, found in one.pieces if found == role) == sorted(pieces)
        for role, pieces in (
            ("prefill", service.prefill_pieces),
            ("decode", service.decode_pieces),
        )
    )


def _has_needless(
    instance: Instance, killed: Sequence[RunningGang], plan: Plan, hit: Sequence[Sleeper]
) -> bool:
    """Return whether a victim could run on with the groups' pieces seated anew in their leaves.

    Units awake that do not sleep under it stay so; those that do save no more than it costs. The
    slot test is exact: all sizes are powers of two (`binpacking.slots`).
    """
    return any(
        sum(one.saves for one in hit if gang.number in one.gangs) <= gang.cost
        and _fits_anew(
            instance,
            [one for one in killed if one is not gang],
            plan,
            [one for one in hit if gang.number not in one.gangs],
            {piece.node for piece in gang.pieces},
        )
        for gang in killed
    )


def _fits_anew(
    instance: Instance,
    killed: Iterable[RunningGang],
    plan: Plan,
    awake: Iterable[Sleeper],
    nodes: set[int],
) -> bool:
    """Return whether all pieces in the leaves of these nodes fit, those awake where they are."""
    free = list(instance.free_gpus)
    for gang in killed:
        for piece in gang.pieces:
            free[piece.node] += piece.gpus
    pieces = Counter((node, gpus) for one in plan.placed for node, gpus, _ in one.pieces)
    for unit in awake:
        pieces[unit.node, len(unit.devices)] -= 1
        free[unit.node] -= len(unit.devices)
    return all(
        _fits(
            [free[node] for node in leaf],
            [gpus for (node, gpus), n in pieces.items() if node in leaf for _ in range(n)],
        )
        for leaf in instance.leaf_nodes
        if nodes.intersection(leaf)
    )


def _fits(free: Sequence[int], pieces: Sequence[int]) -> bool:
    return min(free) >= 0 and all(
        sum(gpus // size for gpus in pieces) <= sum(room // size for room in free)
        for size in (1, 2, 4, 8)
    )
