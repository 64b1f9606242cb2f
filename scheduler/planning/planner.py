"""The plan of one tick, as one sentence: learn, size, settle, shrink, grow, lend, enlarge,
consolidate.

`plan` is pure: the same snapshot, memory, policy and effort give the same plan and memory. It
touches nothing; the daemon applies the actions. Order matters and is least disruptive first:
what is surplus goes before anybody is asked to give way, and batch gets what is left.
"""

from math import inf
from typing import Literal

import msgspec

from preemption.budgets import SAME_SECONDS, happened, merged
from preemption.values import Stop
from scheduler.planning import beliefs, lending, pace, placing, recalls, sizing, supply
from scheduler.planning.actions import (
    Action,
    NotifyJob,
    Plan,
    ResizeJob,
    Sizing,
    StopJob,
    Unplaced,
)
from scheduler.planning.consolidating import moves
from scheduler.planning.enlarging import enlarge
from scheduler.planning.growing import grow
from scheduler.planning.holdings import holdings
from scheduler.planning.lendout import lend
from scheduler.planning.memory import Memory
from scheduler.planning.policy import Policy
from scheduler.planning.pricing import priced
from scheduler.planning.shrinking import shrink
from scheduler.planning.situation import Haste, Situation, Tactics
from scheduler.planning.snapshot import Job, Reservation, Snapshot
from scheduler.planning.tocome import by_share, by_size, pods_to_come

DEAR_SECONDS = 900.0
"""Unsaved work that is not given for mere room. Room is held against one time in ten or less; a
replica that comes too late then misses some two minutes, and online time is worth more."""


def tidal_sizes(situation: Situation) -> tuple[Sizing, ...]:
    """Size every role by the chain of estimators, then bound the ratios."""
    sized = (
        sizing.size(situation.snapshot, situation.memory, situation.policy, holding)
        for holding in situation.held
    )
    return sizing.bound_ratios(tuple(sized), situation.policy)


def tidal_haste(situation: Situation, sizings: tuple[Sizing, ...]) -> Haste:
    """Give notice when demand ahead is the reason, none when it is here already.

    Where what runs and comes will do for all that is expected, and only the room for errors and
    bursts is short, jobs with much unsaved work are spared: the room is rarely needed, the loss
    is certain, and a job that just started or may soon save its work gives way in a few minutes.
    """
    if any(sizing.urgent(holding, situation.snapshot) for holding in situation.held):
        return Haste(notice_seconds=0.0)
    short = any(
        sizing.firm_milli(wanted) > holding.covered_milli
        for holding, wanted in zip(situation.held, sizings, strict=True)
    )
    notice_seconds = situation.policy.preemption.notice_seconds
    return Haste(notice_seconds, inf if short else DEAR_SECONDS)


TIDAL = Tactics(
    size=tidal_sizes,
    haste=tidal_haste,
    victims=placing.least_loss_victims,
    offers=lending.tidal_offers,
)


def plan(snapshot: Snapshot, memory: Memory, policy: Policy, effort: str) -> tuple[Plan, Memory]:
    """Return what to do now and what to remember; `effort` is "heuristic", "quick" or "full"."""
    return plan_with(TIDAL, snapshot, memory, policy, effort)


def plan_with(
    tactics: Tactics, snapshot: Snapshot, memory: Memory, policy: Policy, effort: str
) -> tuple[Plan, Memory]:
    """Return the plan that these tactics lead to; rivals bring their own."""
    situation = _situation(snapshot, memory, policy, effort)
    sizings = tactics.size(situation)
    to_come = pods_to_come(snapshot, sizings)
    situation = msgspec.structs.replace(situation, mix=by_size(to_come), card_mix=by_share(to_come))
    stalled = tuple(
        recalls.stalled(snapshot, situation.reserved, policy.packing.reservation_seconds)
    )
    stops = (*recalls.due_stops(snapshot), *stalled)
    situation = msgspec.structs.replace(
        situation, told={**situation.told, **{one.job: _left_to(one) for one in stalled}}
    )
    surplus = shrink(snapshot, policy, situation.held, sizings)
    situation = _keep(situation, surplus.released)
    growth = grow(situation, sizings, surplus.roles, tactics)
    situation = _keep(situation, frozenset(), growth.reservations)
    lent = lend(situation, tactics)
    actions: tuple[Action, ...] = (*stops, *surplus.actions, *growth.actions, *lent.actions)
    enlarged = enlarge(situation, lent, tactics, actions)
    actions = (*actions, *enlarged.actions)
    actions = (*actions, *moves(situation, enlarged.free_by_node, actions))
    voted = sizing.remember_votes(situation.memory, sizings, snapshot.now_seconds, policy)
    remembered = _remember(voted, situation, actions)
    result = Plan(
        at_seconds=snapshot.now_seconds,
        source=_source(effort),
        actions=actions,
        reservations=(*situation.reserved, *lent.reservations, *enlarged.reservations),
        stops=remembered.stops,
        sizings=sizings,
        unplaced=growth.unplaced,
        lendable_gpus=lent.lendable_gpus,
        answers=tuple(answer for answer in (growth.answer, lent.answer) if answer),
        to_come=to_come,
        prices=priced(snapshot.nodes, to_come),
        summary=_summary(actions, growth.unplaced, lent.held_back),
    )
    return result, remembered


def _source(effort: str) -> Literal["full", "quick", "heuristic"]:
    match effort:
        case "full" | "heuristic":
            return effort
        case _:
            return "quick"


def _situation(snapshot: Snapshot, memory: Memory, policy: Policy, effort: str) -> Situation:
    if memory.since_seconds is None:
        memory = msgspec.structs.replace(memory, since_seconds=snapshot.now_seconds)
    memory = pace.learn(snapshot, beliefs.learn(snapshot, memory), policy)
    memory = msgspec.structs.replace(memory, stops=_stops(snapshot, memory))
    told = _told(snapshot, memory)
    reserved = supply.open_reservations(snapshot, told)
    return Situation(
        snapshot=snapshot,
        memory=memory,
        policy=policy,
        held=holdings(snapshot, memory, policy, reserved),
        reserved=reserved,
        told=told,
        effort=placing.effort_of(effort, policy),
    )


def _keep(
    situation: Situation,
    released: frozenset[str],
    added: tuple[Reservation, ...] = (),
) -> Situation:
    kept = tuple(r for r in situation.reserved if r.id not in released)
    return msgspec.structs.replace(situation, reserved=(*kept, *added))


def _stops(snapshot: Snapshot, memory: Memory) -> tuple[Stop, ...]:
    """Return the last hour's stops: those that came about, be they remembered or told by the plan
    in force, and those that only jobs tell of.
    """
    now = snapshot.now_seconds
    runs = {(job.id, job.attempt): len(job.staying) for job in snapshot.jobs if _runs(job)}
    told = tuple(
        Stop(at_seconds, job.id, job.tenant, attempt, pods)
        for job in snapshot.jobs
        for attempt, pods, at_seconds in job.stops
    )
    known = merged(memory.stops, snapshot.stops, now)
    return merged(happened(known, runs, now), told, now)


def _told(snapshot: Snapshot, memory: Memory) -> dict[str, int]:
    """Return the jobs that run on as if nobody had told them, for as long as that may be lag."""
    runs = {(job.id, job.attempt) for job in snapshot.jobs if _runs(job)}
    return {
        stop.job: stop.pods
        for stop in memory.stops
        if (stop.job, stop.attempt) in runs
        and snapshot.now_seconds - stop.at_seconds < SAME_SECONDS
    }


def _runs(job: Job) -> bool:
    return job.state in ("starting", "running")


def _remember(memory: Memory, situation: Situation, actions: tuple[Action, ...]) -> Memory:
    """Note who was told to give way, for the budgets; the end of a notice is no new stop.

    Where Tidal only recommends, nobody is told.
    """
    if situation.policy.mode != "act":
        return msgspec.structs.replace(memory, stops=situation.memory.stops)
    jobs = {job.id: job for job in situation.snapshot.jobs}
    stops = tuple(
        Stop(
            situation.now,
            job.id,
            job.tenant,
            job.attempt,
            _left_to(action),
        )
        for action in actions
        if isinstance(action, (NotifyJob, StopJob, ResizeJob))
        and action.code not in ("stalled", "grow")
        for job in (jobs[action.job],)
        if _runs(job)
    )
    return msgspec.structs.replace(memory, stops=(*situation.memory.stops, *stops))


def _left_to(action: NotifyJob | StopJob | ResizeJob) -> int:
    """Return with how many pods the job is to go on."""
    return action.pods if isinstance(action, ResizeJob) else 0


def _summary(actions: tuple[Action, ...], unplaced: tuple[Unplaced, ...], held_back: str) -> str:
    counts: dict[str, int] = {}
    for action in actions:
        name = type(action).__name__
        counts[name] = counts.get(name, 0) + 1
    parts = [f"{count} {name}" for name, count in sorted(counts.items())]
    lacking = f"; {len(unplaced)} roles lack GPUs" if unplaced else ""
    held = f"; {held_back}" if held_back else ""
    return (", ".join(parts) or "nothing to do") + lacking + held
