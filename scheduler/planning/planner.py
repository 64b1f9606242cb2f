"""The plan of one tick, as one sentence: learn, size, settle, shrink, grow, lend, consolidate.

`plan` is pure: the same snapshot, memory, policy and effort give the same plan and memory. It
touches nothing; the daemon applies the actions. Order matters and is least disruptive first:
what is surplus goes before anybody is asked to give way, and batch gets what is left.
"""

import msgspec

from preemption.values import Stop
from scheduler.planning import beliefs, lending, pace, placing, recalls, sizing, supply
from scheduler.planning.actions import (
    Action,
    NotifyJob,
    Plan,
    Sizing,
    StartJob,
    StopJob,
    Unplaced,
)
from scheduler.planning.consolidating import moves
from scheduler.planning.growing import grow
from scheduler.planning.holdings import holdings
from scheduler.planning.lendout import lend
from scheduler.planning.memory import Memory
from scheduler.planning.policy import Policy
from scheduler.planning.shrinking import shrink
from scheduler.planning.situation import Situation, Tactics
from scheduler.planning.snapshot import Reservation, Snapshot

BUDGET_WINDOW_SECONDS = 3600.0


def tidal_sizes(situation: Situation) -> tuple[Sizing, ...]:
    """Size every role by the chain of estimators, then bound the ratios."""
    sized = (
        sizing.size(situation.snapshot, situation.memory, situation.policy, holding)
        for holding in situation.held
    )
    return sizing.bound_ratios(tuple(sized), situation.policy)


def tidal_notice(situation: Situation) -> float:
    """Give notice when demand ahead is the reason, none when it is here already."""
    urgent = any(sizing.urgent(holding, situation.snapshot) for holding in situation.held)
    return 0.0 if urgent else situation.policy.preemption.notice_seconds


TIDAL = Tactics(
    size=tidal_sizes,
    notice_seconds=tidal_notice,
    victims=placing.least_loss_victims,
    offers=lending.tidal_offers,
)


def plan(snapshot: Snapshot, memory: Memory, policy: Policy, effort: str) -> tuple[Plan, Memory]:
    """Return what to do now and what to remember; `effort` is "quick" or "full"."""
    return plan_with(TIDAL, snapshot, memory, policy, effort)


def plan_with(
    tactics: Tactics, snapshot: Snapshot, memory: Memory, policy: Policy, effort: str
) -> tuple[Plan, Memory]:
    """Return the plan that these tactics lead to; rivals bring their own."""
    situation = _situation(snapshot, memory, policy, effort)
    sizings = tactics.size(situation)
    stops = recalls.due_stops(snapshot)
    surplus = shrink(snapshot, situation.held, sizings)
    situation = _keep(situation, surplus.released)
    growth = grow(situation, sizings, surplus.roles, tactics)
    situation = _keep(situation, frozenset(), growth.reservations)
    lent = lend(situation, tactics)
    actions: tuple[Action, ...] = (*stops, *surplus.actions, *growth.actions, *lent.actions)
    actions = (*actions, *moves(situation, lent, actions))
    result = Plan(
        at_seconds=snapshot.now_seconds,
        source="full" if effort == "full" else "quick",
        actions=actions,
        reservations=(*situation.reserved, *lent.reservations),
        sizings=sizings,
        unplaced=growth.unplaced,
        lendable_gpus=lent.lendable_gpus,
        answers=tuple(answer for answer in (growth.answer, lent.answer) if answer),
        summary=_summary(actions, growth.unplaced, lent.held_back),
    )
    voted = sizing.remember_votes(situation.memory, sizings, snapshot.now_seconds, policy)
    return result, _remember(voted, situation, actions)


def _situation(snapshot: Snapshot, memory: Memory, policy: Policy, effort: str) -> Situation:
    if memory.since_seconds is None:
        memory = msgspec.structs.replace(memory, since_seconds=snapshot.now_seconds)
    memory = pace.learn(snapshot, beliefs.learn(snapshot, memory), policy)
    reserved = supply.open_reservations(snapshot)
    return Situation(
        snapshot=snapshot,
        memory=memory,
        policy=policy,
        held=holdings(snapshot, memory, policy, reserved),
        reserved=reserved,
        effort=placing.effort_of(effort, policy),
    )


def _keep(
    situation: Situation,
    released: frozenset[str],
    added: tuple[Reservation, ...] = (),
) -> Situation:
    kept = tuple(r for r in situation.reserved if r.id not in released)
    return msgspec.structs.replace(situation, reserved=(*kept, *added))


def _remember(memory: Memory, situation: Situation, actions: tuple[Action, ...]) -> Memory:
    """Note what was stopped, for the budgets, and who is protected once it runs again."""
    now = situation.now
    jobs = {job.id: job for job in situation.snapshot.jobs}
    stops = [stop for stop in memory.stops if now - stop.at_seconds < BUDGET_WINDOW_SECONDS]
    protected = {k: t for k, t in memory.protected_until_seconds.items() if t > now and k in jobs}
    for action in actions:
        if isinstance(action, (NotifyJob, StopJob)):
            job = jobs[action.job]
            if job.state in ("starting", "running"):
                stops.append(Stop(now, job.id, job.tenant))
        elif isinstance(action, StartJob) and jobs[action.job].attempt:
            protected[action.job] = now + situation.policy.preemption.protected_seconds
    return msgspec.structs.replace(memory, stops=tuple(stops), protected_until_seconds=protected)


def _summary(actions: tuple[Action, ...], unplaced: tuple[Unplaced, ...], held_back: str) -> str:
    counts: dict[str, int] = {}
    for action in actions:
        name = type(action).__name__
        counts[name] = counts.get(name, 0) + 1
    parts = [f"{count} {name}" for name, count in sorted(counts.items())]
    lacking = f"; {len(unplaced)} roles lack GPUs" if unplaced else ""
    held = f"; {held_back}" if held_back else ""
    return (", ".join(parts) or "nothing to do") + lacking + held
