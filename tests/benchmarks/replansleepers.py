"""Engines asleep in a replan instance: who holds which GPU, which units sleep where.

Drawn from the seed after the instance, which stays as it is. GPUs of a node are numbered in the
order running groups, gangs, free ones. A share of the nodes, of those with room for one, holds one
or two units; each is one pod (of one node) of a service that may run there, on GPUs in a row
among those that no online group holds, so that units may share GPUs and lie under several gangs.
What waking saves is drawn once per service and role. All this is invented.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from binpacking.problem import Problem
from binpacking.standby import Standby
from scheduler.simulation.instances import GPUS_PER_NODE, Instance
from tests.benchmarks.replanproblem import SECONDS_PER_HOUR, Plan, gang_key, node_name, service_key

LATE_PRICE = 10
"""Priority-weighted GPU-seconds that a second of lateness of one GPU counts as."""

_MOST_UNITS, _SAVED_SECONDS = 2, (30, 300)

ONLINE, FREE = -2, -1
"""Who holds a GPU, where it is no gang, by number."""


class Sleeper(msgspec.Struct, frozen=True, kw_only=True):
    """A unit asleep."""

    number: int
    service: int
    role: str
    node: int
    devices: tuple[int, ...]
    gangs: tuple[int, ...]
    """Numbers of the gangs that hold some of them."""
    saved_seconds: int

    @property
    def saves(self) -> float:
        """Priority-weighted GPU-hours."""
        return LATE_PRICE * len(self.devices) * self.saved_seconds / SECONDS_PER_HOUR


def holders(instance: Instance) -> list[list[int]]:
    """By node: who holds each GPU."""
    found: list[list[int]] = [[] for _ in instance.free_gpus]
    for group in instance.groups:
        for piece in group.pieces:
            found[piece.node] += [ONLINE] * piece.gpus
    for gang in instance.gangs:
        for piece in gang.pieces:
            found[piece.node] += [gang.number] * piece.gpus
    return [held + [FREE] * (GPUS_PER_NODE - len(held)) for held in found]


def draw(instance: Instance, seed: int, share: float) -> tuple[Sleeper, ...]:
    """Draw units on so many of the nodes, in order of node."""
    if not 0 <= share <= 1:
        raise ValueError(f"sleepers is {share}: give a share of the nodes from 0 to 1")
    random = np.random.default_rng([seed, 1])
    low, high = _SAVED_SECONDS
    saved = random.integers(low, high, (len(instance.services), 2), endpoint=True)
    leaf_of = {node: leaf for leaf, nodes in enumerate(instance.leaf_nodes) for node in nodes}
    found: list[Sleeper] = []
    for node, held in enumerate(holders(instance)):
        if random.random() >= share:
            continue
        useful = [device for device, holder in enumerate(held) if holder != ONLINE]
        kinds = _kinds(instance, instance.leaf_models[leaf_of[node]], len(useful))
        for _ in range(int(random.integers(_MOST_UNITS)) + 1 if kinds else 0):
            service, role, gpus = kinds[int(random.integers(len(kinds)))]
            first = int(random.integers(len(useful) - gpus + 1))
            devices = tuple(useful[first : first + gpus])
            found.append(
                Sleeper(
                    number=len(found),
                    service=service,
                    role=role,
                    node=node,
                    devices=devices,
                    gangs=tuple(sorted({held[d] for d in devices} - {FREE})),
                    saved_seconds=int(saved[service, int(role == "decode")]),
                )
            )
    return tuple(found)


def _kinds(instance: Instance, model: int, gpus: int) -> list[tuple[int, str, int]]:
    """(service, role, GPUs) of pods of one node that may run on the model and fit."""
    return [
        (number, role, size)
        for number, service in enumerate(instance.services)
        if model in service.gpu_models
        for role, size in (("prefill", service.prefill_gpus), ("decode", service.decode_gpus))
        if size <= gpus
    ]


def with_sleepers(problem: Problem, sleepers: Sequence[Sleeper]) -> Problem:
    """State the units in an instance's problem."""
    units = tuple(
        Standby(
            key=f"u{one.number:05}",
            request=service_key(one.service),
            role=one.role,
            node=node_name(one.node),
            devices=one.devices,
            under=tuple(gang_key(number) for number in one.gangs),
            saved_seconds=one.saved_seconds,
        )
        for one in sleepers
    )
    return msgspec.structs.replace(problem, standby=units, late_price=LATE_PRICE)


def lateness(instance: Instance, sleepers: Sequence[Sleeper], hit: Sequence[Sleeper]) -> float:
    """Priority-weighted GPU-hours that the best units of each role would have saved, as many as
    the event has pods of it, less what those hit save.
    """
    total = 0.0
    for number, (service, wanted) in enumerate(
        zip(instance.services, instance.wanted_groups, strict=True)
    ):
        for role, pods in (("prefill", service.prefill_pods), ("decode", service.decode_pods)):
            mine = [one.saves for one in sleepers if (one.service, one.role) == (number, role)]
            total += sum(sorted(mine, reverse=True)[: pods * wanted])
    return total - sum(one.saves for one in hit)


def hits(sleepers: Sequence[Sleeper], plan: Plan) -> list[Sleeper]:
    """The units that the plan's pods can wake where they stand, those that save most."""
    killed = set(plan.killed)
    by_node: dict[int, list[Sleeper]] = {}
    for one in sleepers:
        if killed.issuperset(one.gangs):
            by_node.setdefault(one.node, []).append(one)
    pods: dict[int, dict[tuple[int, str], int]] = {}
    for group in plan.placed:
        for node, _, role in group.pieces:
            there = pods.setdefault(node, {})
            there[group.service, role] = there.get((group.service, role), 0) + 1
    return [one for node, some in by_node.items() for one in _most(some, pods.get(node, {}))]


def _most(sleepers: Sequence[Sleeper], pods: dict[tuple[int, str], int]) -> list[Sleeper]:
    """The best of all sets that share no GPU and have a pod each."""
    if not sleepers:
        return []
    first, *others = sleepers
    best = _most(others, pods)
    kind = (first.service, first.role)
    if pods.get(kind, 0):
        apart = [one for one in others if not {*one.devices} & {*first.devices}]
        with_it = [first, *_most(apart, pods | {kind: pods[kind] - 1})]
        if sum(one.saves for one in with_it) > sum(one.saves for one in best):
            best = with_it
    return best
