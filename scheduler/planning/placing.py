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
    Spread,
    Supply,
)
from binpacking.shares import NO_SHARE, Held
from preemption.candidates import candidates
from preemption.values import Claimant, Refusal, Rules
from preemption.victims import bounds, gangs
from scheduler.planning.actions import SolverAnswer
from scheduler.planning.admission import Varieties, varieties
from scheduler.planning.asleep import late_price, standby
from scheduler.planning.closeness import company, pools
from scheduler.planning.holdings import Holding
from scheduler.planning.memory import Memory
from scheduler.planning.policy import Policy
from scheduler.planning.situation import Haste, Situation, Victims
from scheduler.planning.snapshot import Job, Parts, Reservation, Role, Snapshot
from scheduler.planning.spreading import spread_of, terms_of
from scheduler.planning.supply import (
    NOBODY,
    Told,
    barren,
    online_supplies,
    shares_held,
    usable,
)


class Shortage(msgspec.Struct, frozen=True):
    """What a role lacks, in thousandths of a reference replica."""

    holding: Holding
    milli: int
    spread: Spread | None = None

    @property
    def limit(self) -> int:
        """Most replicas that it may take."""
        return ceil(self.milli / min(self.holding.capacity_milli.values()))


def effort_of(name: str, policy: Policy) -> Effort:
    """Return the packing effort of a plan; a heuristic one asks no solver."""
    return Effort(
        name="full" if name == "full" else "quick",
        program=name != "heuristic" and policy.packing.program,
        node_limit=policy.packing.node_limit,
    )


def shortage_of(
    situation: Situation, holding: Holding, milli: int, growing: frozenset[str]
) -> Shortage:
    """Return what a role lacks, and how far apart its replicas must stand; `growing` all that lack.

    Those that run and those that a place is reserved for count as there.
    """
    lack = Shortage(holding, milli)
    snapshot, policy = situation.snapshot, situation.policy
    others = company(snapshot, policy, holding.role, growing)
    terms = terms_of(snapshot, policy, holding.target, others)
    if terms is None:
        return lack
    there = [one.parts for one in holding.bound]
    there += [one.parts for one in holding.reservations]
    return msgspec.structs.replace(lack, spread=spread_of(terms, there, lack.limit))


def online_problem(
    situation: Situation, shortages: tuple[Shortage, ...], victims: Victims
) -> Problem:
    """Return the question how the shortages are placed, stopping the jobs that lose least.

    Where engines of a role sleep, its replicas wake them if what that saves is worth the stops.
    """
    there = varieties(situation.snapshot)
    online = tuple(_request(shortage, there) for shortage in shortages)
    lacks = {shortage.holding.role: shortage.milli for shortage in shortages}
    shapes = {request.key: request.shape for request in online}
    return Problem(
        supplies=online_supplies(situation.snapshot, situation.reserved, situation.told),
        online=online,
        pools=tuple(pools(situation.snapshot, situation.policy, situation.held, lacks)),
        gangs=victims.gangs,
        stop_limits=victims.limits,
        standby=standby(situation, victims, shapes),
        late_price=late_price(victims),
        mix=situation.mix,
        card_mix=situation.card_mix,
    )


def pack_batch(
    supplies: tuple[Supply, ...],
    requests: tuple[BatchRequest, ...],
    situation: Situation,
    effort: Effort,
) -> tuple[Packing, SolverAnswer | None]:
    """Start the waiting jobs that are worth most on what is free."""
    if not requests or not any(supply.free or supply.cards for supply in supplies):
        return Packing(), None
    problem = Problem(
        supplies=supplies, batch=requests, mix=situation.mix, card_mix=situation.card_mix
    )
    return answered(problem, effort)


def least_loss_victims(situation: Situation, haste: Haste) -> Victims:
    """Return the running jobs that may give way, each at the work that stopping it loses.

    A job that still waits for some of its pods is left to start: its reservation stands, so its
    GPUs would be counted twice.
    """
    memory, now = situation.memory, situation.now
    coming = {reservation.owner for reservation in situation.reserved}
    terms = rules(situation.policy)
    every = running(situation.snapshot, situation.told)
    allowed, refused = candidates(
        every,
        terms,
        memory.stops,
        now,
        notice_seconds=haste.notice_seconds,
        most_lost_seconds=haste.most_lost_seconds,
    )
    coming |= situation.told.keys()
    starts = tuple(
        Refusal(one.key, "starting", f"{one.key} still waits for some of its pods")
        for one in allowed
        if one.key in coming
    )
    willing = tuple(one for one in allowed if one.key not in coming)
    return Victims(
        gangs(willing, now, notice_seconds=haste.notice_seconds),
        bounds(every, willing, terms, memory.stops, now),
        willing,
        (*refused, *starts),
    )


def claimants(
    snapshot: Snapshot, memory: Memory, policy: Policy
) -> tuple[tuple[Claimant, ...], tuple[Refusal, ...]]:
    """Return the running jobs that may be asked to give way, and why the others may not."""
    return candidates(
        running(snapshot),
        rules(policy),
        memory.stops,
        snapshot.now_seconds,
        notice_seconds=policy.preemption.notice_seconds,
    )


def running(snapshot: Snapshot, told: Told = NOBODY) -> tuple[Claimant, ...]:
    """Return all jobs that start or run as preemption sees them."""
    useless, held = barren(snapshot), shares_held(snapshot, told)
    return tuple(
        _claimant(job, snapshot.now_seconds, usable(job.staying, useless), held(job.staying))
        for job in snapshot.jobs
        if job.state in ("starting", "running")
    )


def reservations(
    situation: Situation, placed: tuple[Placed, ...], what: str
) -> tuple[Reservation, ...]:
    """Return the reservations that hold placements until their pods are bound."""
    now, snapshot = situation.now, situation.snapshot
    shares = {role.key: role.share_per_pod for role in snapshot.roles}
    shares |= {job.id: job.share_per_pod for job in snapshot.jobs}
    return tuple(
        Reservation(
            id=f"{one.key}@{now:.3f}-{number}",
            owner=one.key,
            parts=tuple(sorted(one.parts)),
            share=shares.get(one.key, NO_SHARE),
            created_seconds=now,
            expires_seconds=now + situation.policy.packing.reservation_seconds,
            wakes=one.wakes,
            reason=_reason(what, one),
            epoch=snapshot.epoch,
        )
        for number, one in enumerate(placed)
    )


def _reason(what: str, placed: Placed) -> str:
    woken = f", which wakes {' and '.join(placed.wakes)}" if placed.wakes else ""
    return f"{what} {placed.key}{woken}"


def rules(policy: Policy) -> Rules:
    """Return the disruption contract's terms in the policy."""
    terms = policy.preemption
    return Rules(
        minimum_runtime_seconds=terms.minimum_runtime_seconds,
        protected_seconds=terms.protected_seconds,
        stops_per_hour=terms.stops_per_hour,
        tenant_stops_per_hour=terms.tenant_stops_per_hour,
        job_stops_per_hour=terms.job_stops_per_hour,
        online_priority=terms.online_priority,
        guaranteed_gpus=terms.guaranteed_gpus,
    )


def _request(shortage: Shortage, there: Varieties) -> OnlineRequest:
    holding = shortage.holding
    return OnlineRequest(
        key=holding.role,
        shape=shape_of(holding.target, holding.target.pods_per_replica),
        capacity_milli=there.capacities(holding.target, holding.capacity_milli),
        shortage_milli=shortage.milli,
        limit=shortage.limit,
        spread=shortage.spread,
    )


def shape_of(owner: Role | Job, pods: int) -> Shape:
    """Return so many of its pods as the packer is asked for them."""
    return Shape(
        pods,
        owner.gpus_per_pod,
        owner.cpu_milli_per_pod,
        owner.memory_mib_per_pod,
        share=owner.share_per_pod,
    )


def _claimant(job: Job, now_seconds: float, parts: Parts, shares: tuple[Held, ...]) -> Claimant:
    """An elastic job may be shrunk once all its pods are there, and while it writes nothing.

    One that shares cards goes whole.
    """
    staying = job.staying
    whole = job.state == "running" and job.checkpoint_started_seconds is None and not shares
    elastic = whole and job.min_pods < len(staying)
    return Claimant(
        key=job.id,
        tenant=job.tenant,
        priority=job.priority,
        gpus=sum(pod.gpus for pod in staying),
        parts=parts,
        shares=shares,
        least_pods=job.min_pods if elastic else 0,
        cpu_milli_per_pod=job.cpu_milli_per_pod,
        memory_mib_per_pod=job.memory_mib_per_pod,
        started_seconds=now_seconds if job.started_seconds is None else job.started_seconds,
        last_checkpoint_seconds=job.last_checkpoint_seconds,
        checkpoint_write_seconds=job.checkpoint_write_seconds,
        writing_since_seconds=job.checkpoint_started_seconds,
        restart_seconds=job.restart_seconds,
        attempt=job.attempt,
        opted_out="" if job.preemptible else job.opt_out or "its owner says so",
        held=job.held_by,
    )


def answered(problem: Problem, effort: Effort) -> tuple[Packing, SolverAnswer]:
    """Return the packer's answer, and the same as the ledger keeps it."""
    packing = solve(problem, effort)
    return packing, SolverAnswer(
        rung=packing.rung,
        gap=packing.gap,
        problem=msgspec.msgpack.encode(problem),
        packing=msgspec.msgpack.encode(packing),
    )
