"""Turns shortages and offers into packing problems, and packings into actions.

Two questions are put to the same ladder: first the online shortages with the jobs that may give
way, then the waiting jobs on what is left. The first is more important, and settling it first
keeps both small.
"""

from math import ceil

import msgspec

from binpacking.ladder import solve
from binpacking.problem import (
    BatchRequest,
    Effort,
    OnlineRequest,
    Packing,
    Placed,
    Problem,
    Shape,
    Supply,
)
from preemption.budgets import limits
from preemption.candidates import candidates
from preemption.values import NEVER_SECONDS, Claimant, Refusal, Rules
from preemption.victims import gangs
from scheduler.planning.actions import SolverAnswer
from scheduler.planning.holdings import Holding
from scheduler.planning.memory import Memory
from scheduler.planning.policy import Policy
from scheduler.planning.situation import Situation, Victims
from scheduler.planning.snapshot import Job, Reservation, Snapshot


class Shortage(msgspec.Struct, frozen=True):
    """What a role lacks, in thousandths of a reference replica."""

    holding: Holding
    milli: int
    group: str = ""
    """Its model, where the roles of that wish to stand together."""
    near: tuple[tuple[str, ...], ...] = ()
    """Leaves where replicas of the model stand, or have a place reserved."""


def effort_of(name: str, policy: Policy) -> Effort:
    """Return the packing effort of a quick or a full plan."""
    return Effort(
        name="full" if name == "full" else "quick",
        program=name == "full" and policy.packing.program,
        node_limit=policy.packing.node_limit,
    )


def shortage_of(situation: Situation, holding: Holding, milli: int) -> Shortage:
    """Return what a role lacks, and beside what it wishes to stand."""
    model = holding.target.model
    rules = situation.policy.models.get(model)
    if rules is None or rules.proximity == "any":
        return Shortage(holding, milli)
    return Shortage(holding, milli, model, _stands(situation, model))


def _stands(situation: Situation, model: str) -> tuple[tuple[str, ...], ...]:
    leaves = {node.name: node.leaf for node in situation.snapshot.nodes}
    mine = [holding for holding in situation.held if holding.target.model == model]
    parts = [one.parts for holding in mine for one in holding.bound]
    parts += [one.parts for holding in mine for one in holding.reservations]
    nodes = {node for each in parts for node, _ in each}
    return tuple(sorted({leaves[node] for node in nodes if node in leaves}))


def pack_online(
    supplies: tuple[Supply, ...],
    shortages: tuple[Shortage, ...],
    victims: Victims,
    effort: Effort,
) -> tuple[Packing, SolverAnswer | None]:
    """Place the shortages, stopping the jobs that lose least."""
    online = tuple(_request(shortage) for shortage in shortages if shortage.milli > 0)
    if not online:
        return Packing(), None
    problem = Problem(
        supplies=supplies, online=online, gangs=victims.gangs, stop_limits=victims.limits
    )
    return _answer(problem, effort)


def pack_batch(
    supplies: tuple[Supply, ...], requests: tuple[BatchRequest, ...], effort: Effort
) -> tuple[Packing, SolverAnswer | None]:
    """Start the waiting jobs that are worth most on what is free."""
    if not requests or not any(supply.free for supply in supplies):
        return Packing(), None
    return _answer(Problem(supplies=supplies, batch=requests), effort)


def least_loss_victims(situation: Situation, notice_seconds: float) -> Victims:
    """Return the running jobs that may give way, each at the work that stopping it loses.

    A job that still waits for some of its pods is left to start: its reservation stands, so its
    GPUs would be counted twice.
    """
    memory, now = situation.memory, situation.now
    coming = {reservation.owner for reservation in situation.reserved}
    every, _ = claimants(situation.snapshot, memory, situation.policy)
    willing = tuple(one for one in every if one.key not in coming)
    return Victims(
        gangs(willing, now, notice_seconds=notice_seconds),
        limits(willing, rules(situation.policy), memory.stops, now),
    )


def claimants(
    snapshot: Snapshot, memory: Memory, policy: Policy
) -> tuple[tuple[Claimant, ...], tuple[Refusal, ...]]:
    """Return the running jobs that may be asked to give way, and why the others may not."""
    running = tuple(
        _claimant(job, memory, snapshot.now_seconds)
        for job in snapshot.jobs
        if job.state in ("starting", "running")
    )
    return candidates(running, rules(policy), memory.stops, snapshot.now_seconds)


def reservations(
    situation: Situation, placed: tuple[Placed, ...], what: str
) -> tuple[Reservation, ...]:
    """Return the reservations that hold placements until their pods are bound."""
    now = situation.now
    return tuple(
        Reservation(
            id=f"{one.key}@{now:.3f}-{number}",
            owner=one.key,
            parts=tuple(sorted(one.parts)),
            created_seconds=now,
            expires_seconds=now + situation.policy.packing.reservation_seconds,
            reason=f"{what} {one.key}",
            epoch=situation.snapshot.epoch,
        )
        for number, one in enumerate(placed)
    )


def rules(policy: Policy) -> Rules:
    """Return the disruption contract's terms in the policy."""
    terms = policy.preemption
    return Rules(
        minimum_runtime_seconds=terms.minimum_runtime_seconds,
        notice_seconds=terms.notice_seconds,
        stops_per_hour=terms.stops_per_hour,
        tenant_stops_per_hour=terms.tenant_stops_per_hour,
    )


def _request(shortage: Shortage) -> OnlineRequest:
    holding = shortage.holding
    least = min(holding.capacity_milli.values())
    return OnlineRequest(
        key=holding.role,
        shape=Shape(holding.target.pods_per_replica, holding.target.gpus_per_pod),
        capacity_milli=holding.capacity_milli,
        shortage_milli=shortage.milli,
        limit=ceil(shortage.milli / least),
        group=shortage.group,
        near=shortage.near,
    )


def _claimant(job: Job, memory: Memory, now_seconds: float) -> Claimant:
    return Claimant(
        key=job.id,
        tenant=job.tenant,
        priority=job.priority,
        gpus=job.gpus,
        parts=job.parts,
        started_seconds=now_seconds if job.started_seconds is None else job.started_seconds,
        last_checkpoint_seconds=job.last_checkpoint_seconds,
        checkpoint_write_seconds=job.checkpoint_write_seconds,
        restart_seconds=job.restart_seconds,
        opted_out=not job.preemptible,
        protected_until_seconds=memory.protected_until_seconds.get(job.id, NEVER_SECONDS),
    )


def _answer(problem: Problem, effort: Effort) -> tuple[Packing, SolverAnswer]:
    packing = solve(problem, effort)
    return packing, SolverAnswer(
        rung=packing.rung,
        gap=packing.gap,
        problem=msgspec.msgpack.encode(problem),
        packing=msgspec.msgpack.encode(packing),
    )
