"""From candidates to the packer's gangs, and from stopped gangs back to jobs that go or shrink.

A job goes whole: all its pods are one gang. An elastic job is two gangs, its surplus (the pods
that it can do without) and the rest; whoever stops the rest stops the job, and shrinking is
cheaper than that, so a job is shrunk where that will do. Pods leave from the end, and no more of
them than the packing needs.
"""

from collections import Counter
from collections.abc import Sequence

import msgspec

from binpacking.problem import Gang, Packing, Problem, StopLimit
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
        found.append(Gang(key=claimant.key, parts=_of_use(stays), cost=loss))
        if spare:
            key = claimant.key + SURPLUS
            found.append(Gang(key=key, parts=_of_use(spare), cost=shrink_cost(claimant)))
    return tuple(found)


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
    gpus_of: dict[str, dict[str, int]] = {}
    for claimant in willing:
        own = gpus_of.setdefault(claimant.tenant, {})
        own[claimant.key] = claimant.gpus  # the surplus goes with it
        if claimant.spare_parts:
            own[claimant.key + SURPLUS] = _gpus(claimant.spare_parts)
    keys = {tenant: tuple(own) for tenant, own in gpus_of.items()}
    shares = share_limits(gpus_of, share_left(everybody, rules))
    return (*limits(keys, rules, stops, now_seconds), *shares)


def demands(
    problem: Problem, packing: Packing, claimants: Sequence[Claimant]
) -> tuple[Demand, ...]:
    """What the packing takes of which job, in given order, surplus trimmed to what it needs."""
    killed = set(packing.killed)
    left = _left(problem, packing)
    found = []
    for claimant in claimants:
        if claimant.key in killed:
            found.append(Demand(claimant.key, len(claimant.parts), whole=True))
        elif claimant.key + SURPLUS in killed:
            gone = _trimmed(claimant.spare_parts, left)
            found.append(Demand(claimant.key, gone, whole=False))
    return tuple(demand for demand in found if demand.pods)


def _left(problem: Problem, packing: Packing) -> Counter[str]:
    """GPUs that the packing leaves free on each node."""
    killed = set(packing.killed)
    left = Counter({supply.node: supply.free for supply in problem.supplies})
    for gang in problem.gangs:
        if gang.key in killed:
            for node, gpus in gang.parts:
                left[node] += gpus
    for placed in (*packing.online, *packing.batch):
        for node, gpus in placed.parts:
            left[node] -= gpus
    return left


def _trimmed(spare: Parts, left: Counter[str]) -> int:
    """How many pods from the end must go; the first of the spare ones stay where there is room."""
    for kept, (node, gpus) in enumerate(spare):
        if left[node] < gpus:
            return len(spare) - kept
        left[node] -= gpus
    return 0


def _gpus(parts: Parts) -> int:
    return sum(gpus for _, gpus in parts)
