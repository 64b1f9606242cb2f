"""From shortages to new replicas: places them, recalls the jobs in their way.

After shrinking, before lending. Replicas that already wait for a node are counted before new
ones are asked for, and none is asked for that has no slot.
"""

from collections.abc import Iterable, Iterator

import msgspec

from binpacking.problem import Packing, Problem
from preemption.victims import Demand, demands
from scheduler.planning import admission, closeness, placing, recalls, refusals, spreading
from scheduler.planning.actions import (
    Action,
    NotifyJob,
    ResizeJob,
    ScaleRole,
    Sizing,
    SolverAnswer,
    StopJob,
    Unplaced,
)
from scheduler.planning.holdings import Holding
from scheduler.planning.situation import Haste, Situation, Tactics, Victims
from scheduler.planning.sizing import others_hand
from scheduler.planning.snapshot import Reservation


class Growth(msgspec.Struct, frozen=True):
    """What packing the online shortages led to."""

    actions: tuple[Action, ...]
    reservations: tuple[Reservation, ...]
    unplaced: tuple[Unplaced, ...]
    answer: SolverAnswer | None


def grow(
    situation: Situation,
    sizings: tuple[Sizing, ...],
    shrinking: frozenset[str],
    tactics: Tactics,
) -> Growth:
    """Place what the roles lack; roles in `shrinking` lack nothing."""
    lacking = [
        (holding, wanted.wanted_milli - holding.covered_milli)
        for holding, wanted in zip(situation.held, sizings, strict=True)
        if holding.role not in shrinking and wanted.wanted_milli > holding.covered_milli
    ]
    growing = frozenset(holding.role for holding, _ in lacking)
    shortages = tuple(
        placing.shortage_of(situation, holding, milli, growing) for holding, milli in lacking
    )
    if not shortages:
        return Growth(_scale_up(situation, shrinking, Packing()), (), (), None)
    haste = tactics.haste(situation, sizings)
    victims = tactics.victims(situation, haste)
    question = placing.online_problem(situation, shortages, victims)
    packing, answer = placing.answered(question, situation.effort)
    reservations = placing.reservations(situation, packing.online, "a replica of")
    gone = _recall(situation, demands(question, packing, victims.claimants), packing, haste)
    scaled = _scale_up(situation, shrinking, packing)
    unplaced = tuple(_lacks(situation, shortages, (question, packing), victims))
    return Growth((*gone, *scaled), reservations, unplaced, answer)


def _scale_up(
    situation: Situation, shrinking: frozenset[str], packing: Packing
) -> tuple[ScaleRole, ...]:
    return tuple(
        _more(situation, holding, count, packing)
        for holding in situation.held
        if holding.role not in shrinking and not others_hand(holding, situation.now)
        for count in (_missing_replicas(holding, packing),)
        if count > 0
    )


def _missing_replicas(holding: Holding, packing: Packing) -> int:
    """Return how many replicas must be asked for, so that every slot finds one.

    Those that were asked for and that their controller has not made yet will take one each: it
    may take long, and asking once more would bring as many again. While it has yet to take some
    away, slots kept from before ask for none: who is there now may fill them.
    """
    placed = sum(placed.key == holding.role for placed in packing.online)
    there = len(holding.bound) + len(holding.unbound)
    not_made = max(0, holding.target.replicas - there)
    kept = 0 if there > holding.target.replicas else len(holding.reservations)
    return kept + placed - len(holding.unbound) - not_made


def _more(situation: Situation, holding: Holding, count: int, packing: Packing) -> ScaleRole:
    woken = sum(one.key == holding.role for one in packing.online if one.wakes)
    wakes = f", {woken} of them by waking a standby unit" if woken else ""
    current = len(holding.bound) + len(holding.unbound)
    terms = spreading.terms_of(situation.snapshot, situation.policy, holding.target)
    short = f"; it {terms.shortfall}" if terms is not None and terms.shortfall else ""
    return ScaleRole(
        role=holding.role,
        expected_replicas=holding.target.replicas,
        replicas=holding.target.replicas + count,
        code="demand_rises",
        sentence=f"{holding.role}: {count} more replicas{wakes}, {current} run or come{short}",
    )


def _recall(
    situation: Situation, taken: tuple[Demand, ...], packing: Packing, haste: Haste
) -> tuple[NotifyJob | StopJob | ResizeJob, ...]:
    jobs = {job.id: job for job in situation.snapshot.jobs}
    takers = {node: placed.key for placed in packing.online for node, _ in placed.parts}
    told: list[NotifyJob | StopJob | ResizeJob] = []
    for demand in taken:
        job = jobs[demand.key]
        going = [pod.node for pod in job.staying[len(job.staying) - demand.pods :]]
        role = next((takers[node] for node in sorted(going) if node in takers), "")
        if demand.whole:
            told.append(recalls.recall(job, role, situation.now, haste.notice_seconds))
        else:
            told.append(recalls.give_up(job, demand, role))
    return tuple(told)


def _lacks(
    situation: Situation,
    shortages: Iterable[placing.Shortage],
    answered: tuple[Problem, Packing],
    victims: Victims,
) -> Iterator[Unplaced]:
    """Yield what found no place, and why nobody could give way for it."""
    question, packing = answered
    asked = {one.holding.role: one for one in shortages}
    who = refusals.summary(victims, packing.killed) if packing.unserved else ""
    for key, milli in sorted(packing.unserved.items()):
        lacks = f"{key} lacks {milli / 1000:.1f} replicas"
        apart = _barred(situation, asked[key], packing)
        beside = closeness.barred(situation.snapshot, question, key, packing)
        if beside:
            yield Unplaced(key, milli, f"{lacks}: it {beside}; {who}", "proximity")
        elif apart:
            why = f"{apart}; elsewhere no further GPU can be freed; {who}"
            yield Unplaced(key, milli, f"{lacks}: {why}", "spread")
        else:
            shut = admission.refusals(situation.snapshot, asked[key].holding.target)
            why = "; ".join(("no further GPU can be freed", who, *shut))
            yield Unplaced(key, milli, f"{lacks}: {why}")


def _barred(situation: Situation, lack: placing.Shortage, packing: Packing) -> str:
    """Return where the role's floor lets no more replicas go."""
    terms = spreading.terms_of(situation.snapshot, situation.policy, lack.holding.target)
    if lack.spread is None or terms is None:
        return ""
    placed = (one.parts for one in packing.online if one.key == lack.holding.role)
    return spreading.barred(lack.spread, terms, placed)
