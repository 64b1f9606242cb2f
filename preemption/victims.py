"""From candidates to the packer's gangs, and from stopped gangs back to jobs that go or shrink.

A job goes whole: all its pods are one gang. An elastic job is two gangs, its surplus (the pods
that it can do without) and the rest; whoever stops the rest stops the job, and shrinking is
cheaper than that, so a job is shrunk where that will do. Pods leave from the end, and no more of
them than the packing needs.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.layout import PLENTY
from binpacking.problem import Gang, Packing, Piece, Problem, StopLimit
from binpacking.shares import Held
from binpacking.verifycards import cards_left
from preemption.budgets import limits, share_left, share_limits
from preemption.cost import cost, shrink_cost
from preemption.values import Claimant, Parts, Rules, Stop

SURPLUS = " (surplus pods)"
"""Ends the key of an elastic job's surplus."""


class Demand(msgspec.Struct, frozen=True):
    """What a packing takes of one job: the whole of it, or its last pods."""

    key: str
    pods: int
    """How many of its pods go, counted from the end."""
    whole: bool


def gangs(
    claimants: Sequence[Claimant], now_seconds: float, *, notice_seconds: float
) -> tuple[Gang, ...]:
    """The candidates as gangs the packer may stop, in order of key, each at its cost."""
    found: list[Gang] = []
    for claimant in sorted(claimants, key=lambda claimant: claimant.key):
        spare = claimant.spare_parts
        stays = claimant.parts[: len(claimant.parts) - len(spare)]
        loss = cost(claimant, now_seconds, notice_seconds=notice_seconds)
        found.append(_gang(claimant, claimant.key, stays, loss, claimant.shares))
        if spare:
            found.append(_gang(claimant, claimant.key + SURPLUS, spare, shrink_cost(claimant)))
    return tuple(found)


def _gang(
    claimant: Claimant, key: str, parts: Parts, loss: int, shares: tuple[Held, ...] = ()
) -> Gang:
    return Gang(
        key=key,
        parts=_of_use(parts),
        cost=loss,
        cpu_milli=claimant.cpu_milli_per_pod,
        memory_mib=claimant.memory_mib_per_pod,
        shares=shares,
    )


def _of_use(parts: Parts) -> Parts:
    """In order of node, less those whose GPUs serve nobody else."""
    return tuple(sorted(part for part in parts if part[1]))


def bounds(
    everybody: Sequence[Claimant],
    willing: Sequence[Claimant],
    rules: Rules,
    stops: Sequence[Stop],
    now_seconds: float,
) -> tuple[StopLimit, ...]:
    """How many of the willing ones' gangs one plan may stop, by budgets and by shares."""
    milli_of: dict[str, dict[str, int]] = {}
    for claimant in willing:
        own = milli_of.setdefault(claimant.tenant, {})
        own[claimant.key] = claimant.milli_gpus  # the surplus goes with it
        if claimant.spare_parts:
            own[claimant.key + SURPLUS] = _gpus(claimant.spare_parts) * WHOLE_GPU_MILLI
    keys = {tenant: tuple(own) for tenant, own in milli_of.items()}
    shares = share_limits(milli_of, share_left(everybody, rules))
    return (*limits(keys, rules, stops, now_seconds), *shares)


def demands(
    problem: Problem, packing: Packing, claimants: Sequence[Claimant]
) -> tuple[Demand, ...]:
    """What the packing takes of which job, in given order, surplus trimmed to what it needs."""
    killed = set(packing.killed)
    left = _Left(problem, packing)
    found = []
    for claimant in claimants:
        if claimant.key in killed:
            found.append(Demand(claimant.key, len(claimant.parts), whole=True))
        elif claimant.key + SURPLUS in killed:
            gone = _trimmed(claimant, left)
            found.append(Demand(claimant.key, gone, whole=False))
    return tuple(demand for demand in found if demand.pods)


class _Left:
    """What the packing leaves free on each node, while pods are seen to stay."""

    def __init__(self, problem: Problem, packing: Packing) -> None:
        supplies = problem.supplies
        self.gpus = Counter({one.node: one.free for one in supplies})
        self.cpu = Counter({one.node: _known(one.cpu_milli) for one in supplies})
        self.memory = Counter({one.node: _known(one.memory_mib) for one in supplies})
        for gang in problem.gangs:
            if gang.key in packing.killed:
                parts = (*gang.parts, *((held.node, 0) for held in gang.shares))
                for node, gpus in parts:
                    self.take(node, -gpus, -gang.cpu_milli, -gang.memory_mib)
        for node, piece in _pieces(problem, packing):
            self.take(node, *piece.amounts)
        for (node, _), card in cards_left(problem, packing, batch=True).items():
            self.take(node, -card.whole_again, 0, 0)

    def take(self, node: str, gpus: int, cpu: int, memory: int) -> None:
        self.gpus[node] -= gpus
        self.cpu[node] -= cpu
        self.memory[node] -= memory

    def holds(self, node: str, gpus: int, cpu: int, memory: int) -> bool:
        enough = self.cpu[node] >= cpu and self.memory[node] >= memory
        return enough and self.gpus[node] >= gpus


def _known(free: int | None) -> int:
    return PLENTY if free is None else free


def _pieces(problem: Problem, packing: Packing) -> Iterator[tuple[str, Piece]]:
    """(node, piece) of everything placed."""
    asked = {
        one.key: [m.shape.piece for m in one.pods for _ in range(m.count * m.shape.pieces)]
        for one in problem.online
    }
    for placed in packing.online:
        for (node, _), piece in zip(placed.parts, asked[placed.key], strict=True):
            yield node, piece
    jobs = {one.key: one.shape.piece for one in problem.batch}
    for placed in packing.batch:
        yield from ((node, jobs[placed.key]) for node, _ in placed.parts)


def _trimmed(claimant: Claimant, left: _Left) -> int:
    """How many pods from the end must go; the first of the spare ones stay where there is room."""
    spare = claimant.spare_parts
    for kept, (node, gpus) in enumerate(spare):
        pod = (node, gpus, claimant.cpu_milli_per_pod, claimant.memory_mib_per_pod)
        if gpus and not left.holds(*pod):
            return len(spare) - kept
        left.take(*pod)
    return 0


def _gpus(parts: Parts) -> int:
    return sum(gpus for _, gpus in parts)
