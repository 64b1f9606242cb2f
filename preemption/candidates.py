"""Who may be asked to give way, and why the others may not.

The first reason that applies is given, in the order of `values.Why`: what lasts before what
passes, the job's own state before budgets. A budget refuses only once it is used up; how much of
it one plan may use is for the packer's limits (see `budgets`).
"""

from collections import Counter
from collections.abc import Sequence
from math import inf

import msgspec

from binpacking.inventory import WHOLE_GPU_MILLI
from preemption.budgets import (
    SAME_SECONDS,
    job_stops,
    share_left,
    stops_left,
    tenant_stops_left,
)
from preemption.cost import at_stake_seconds
from preemption.values import Claimant, Refusal, Rules, Stop, Why

LONGEST_WRITE_SECONDS = 600.0
"""A checkpoint that is told to be in writing for longer protects nobody: the writer may hang."""


class _Spent(msgspec.Struct, frozen=True):
    """What is left of the budgets."""

    left: int
    tenant_left: dict[str, int]
    job_stops: Counter[str]
    share_left: dict[str, int]


def candidates(
    claimants: Sequence[Claimant],
    rules: Rules,
    stops: Sequence[Stop],
    now_seconds: float,
    *,
    notice_seconds: float,
    most_lost_seconds: float = inf,
) -> tuple[tuple[Claimant, ...], tuple[Refusal, ...]]:
    """Claimants that may be stopped now, and a refusal for each of the others, in given order.

    `claimants` are all running jobs: a tenant's share is counted over them. A job that is writing a
    checkpoint may be given notice, under which it completes it, but may not be stopped at once.
    One that would lose more than `most_lost_seconds` of work is spared, unless it can be shrunk.
    """
    told = {  # a job that is seen unchanged after this time was not told after all
        (stop.job, stop.attempt) for stop in stops if now_seconds - stop.at_seconds < SAME_SECONDS
    }
    spent = _Spent(
        stops_left(rules, stops, now_seconds),
        tenant_stops_left(rules, stops, now_seconds, [c.tenant for c in claimants]),
        job_stops(stops, now_seconds),
        share_left(claimants, rules),
    )
    allowed: list[Claimant] = []
    refused: list[Refusal] = []
    for claimant in claimants:
        found = _standing(claimant, rules)
        if found is None and (claimant.key, claimant.attempt) in told:
            found = "told", "was told to give way; the cluster does not show it yet"
        found = (
            found
            or _state(claimant, rules, now_seconds, notice_seconds)
            or _stake(claimant, now_seconds, notice_seconds, most_lost_seconds)
            or _budget(claimant, rules, spent)
        )
        if found is None:
            allowed.append(claimant)
        else:
            refused.append(Refusal(claimant.key, found[0], f"{claimant.key} {found[1]}"))
    return tuple(allowed), tuple(refused)


def _standing(claimant: Claimant, rules: Rules) -> tuple[Why, str] | None:
    """What its owner or its rank forbids."""
    if claimant.opted_out:
        return "opted_out", f"has opted out of preemption: {claimant.opted_out}"
    least = rules.online_priority
    if least is not None and claimant.priority >= least:
        return "priority", f"has priority {claimant.priority}, online work has {least}"
    if claimant.held:
        return "held", f"must not be evicted now: {claimant.held}"
    return None


def _state(
    claimant: Claimant, rules: Rules, now_seconds: float, notice_seconds: float
) -> tuple[Why, str] | None:
    """What the job is doing now forbids."""
    write_seconds = claimant.checkpoint_write_seconds
    warned = write_seconds is not None and write_seconds <= notice_seconds
    if claimant.writing_since_seconds is not None and not warned:
        writes_seconds = now_seconds - claimant.writing_since_seconds
        if writes_seconds < LONGEST_WRITE_SECONDS:
            return "writing", f"has been writing a checkpoint for {writes_seconds:.0f} s"
    ran_seconds = now_seconds - claimant.started_seconds
    if ran_seconds < rules.minimum_runtime_seconds:
        missing_seconds = rules.minimum_runtime_seconds - ran_seconds
        return "minimum_runtime", f"is {missing_seconds:.0f} s short of its minimum runtime"
    if claimant.attempt > 1 and ran_seconds < rules.protected_seconds:
        left_seconds = rules.protected_seconds - ran_seconds
        return "protected", f"is protected for {left_seconds:.0f} s more after its resume"
    return None


def _stake(
    claimant: Claimant, now_seconds: float, notice_seconds: float, most_lost_seconds: float
) -> tuple[Why, str] | None:
    """What it would lose forbids."""
    loses_seconds = at_stake_seconds(claimant, now_seconds, notice_seconds=notice_seconds)
    if claimant.spare_parts or loses_seconds <= most_lost_seconds:
        return None
    return "dear", f"would lose {loses_seconds / 60:.0f} min of work for room that none needs yet"


def _budget(claimant: Claimant, rules: Rules, spent: _Spent) -> tuple[Why, str] | None:
    """What the tenant's share and the hour's stops forbid."""
    tenant = claimant.tenant
    spare = claimant.spare_parts
    least = spare[-1][1] * WHOLE_GPU_MILLI if spare else claimant.milli_gpus
    if least > spent.share_left.get(tenant, least):
        share = rules.guaranteed_gpus[tenant]
        return "tenant_share", f"runs on: tenant {tenant} is guaranteed {share} GPUs"
    if spent.left == 0:
        return "budget", f"runs on: {rules.stops_per_hour} stops this hour are used up"
    if spent.tenant_left[tenant] == 0:
        allowed = rules.tenant_stops_per_hour
        return "tenant_budget", f"runs on: tenant {tenant}'s {allowed} stops this hour are used up"
    if spent.job_stops[claimant.key] >= rules.job_stops_per_hour:
        allowed = rules.job_stops_per_hour
        return "job_budget", f"runs on: its {allowed} stops this hour are used up"
    return None
