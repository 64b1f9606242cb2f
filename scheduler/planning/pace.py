"""A role's present level of demand, how minutes stray from it, and how careful the SLO asks to be.

Beside `beliefs`, the first step of a plan. Forecasts are means over minutes; a queue forms within
one. So demand strays from the forecast in two independent ways, the forecast's own error and the
minutes' noise, and the room for both is their root sum of squares in logarithms. What no model
of the tail gets right is trimmed by what the users saw, as in adaptive conformal inference
(Gibbs and Candes, 2021): a late share above the budget makes the planner more careful, one below
less, so that in the long run the late share is the budget.
"""

from math import exp, hypot, log

import msgspec

from scheduler.planning.memory import Memory, Pace
from scheduler.planning.policy import Policy, RolePolicy
from scheduler.planning.snapshot import RoleSignal, Snapshot

LEVEL_SECONDS = 150.0
"""Time constant of the level: longer than minutes' noise, shorter than the tide."""
PRIOR_VARIANCE = 0.08**2
"""Squared log-deviation of one-minute demand, as measured on Mooncake's conversation trace."""
PRIOR_SAMPLES = 40
MEMORY_SAMPLES = 2000
JUMP_DEVIATIONS = 2.0
"""A minute this far above the level is the new level: waiting for proof makes a queue. In the
measured noise it counts as this many deviations at most, since a jump is no noise."""
CARE_PER_SECOND = 0.02 / 15
"""How fast care grows at a late share of 1."""
LEAST_CARE, MOST_CARE = 0.5, 1.8
MOST_ROOM = 3.0
"""After hours of silence quantiles lie orders of magnitude apart; no room is held for that."""
SETTLING_SECONDS = 900.0
"""Late minutes of a role that was just met say nothing of its room: nothing ran yet."""
LONGEST_STEP_SECONDS = 60.0


def learn(snapshot: Snapshot, memory: Memory, policy: Policy) -> Memory:
    """Return the memory with this tick's signals folded in; missing ones change nothing."""
    known = {pace.role: pace for pace in memory.paces}
    for signal in snapshot.signals:
        profile = policy.role(signal.role)
        if profile is not None and signal.status in ("live", "idle"):
            old = known.get(signal.role) or _fresh(signal, snapshot.now_seconds)
            known[signal.role] = _next(old, signal, profile, snapshot.now_seconds)
    return msgspec.structs.replace(memory, paces=tuple(known[role] for role in sorted(known)))


def found(memory: Memory, role: str) -> Pace | None:
    """Return what is known of a role's pace."""
    return next((pace for pace in memory.paces if pace.role == role), None)


def room(pace: Pace | None, forecast_spread: float, minute_sigmas: float) -> float:
    """Return the factor to hold above expected demand, from 1 to `MOST_ROOM`.

    `forecast_spread` is log(quantile / median) of the forecast.
    """
    variance = _variance(pace) if pace else PRIOR_VARIANCE
    care = pace.care if pace else 1.0
    spread = hypot(forecast_spread, minute_sigmas * float(variance**0.5))
    return exp(min(care * spread, log(MOST_ROOM)))


def _variance(pace: Pace) -> float:
    weight = pace.samples / (pace.samples + PRIOR_SAMPLES)
    return weight * pace.minute_variance + (1 - weight) * PRIOR_VARIANCE


def _fresh(signal: RoleSignal, now_seconds: float) -> Pace:
    return Pace(
        role=signal.role,
        since_seconds=now_seconds,
        at_seconds=now_seconds,
        level_tokens_per_second=signal.arrived_tokens_per_second,
        minute_variance=0.0,
        samples=0,
        care=1.0,
    )


def _next(old: Pace, signal: RoleSignal, profile: RolePolicy, now_seconds: float) -> Pace:
    passed = min(now_seconds - old.at_seconds, LONGEST_STEP_SECONDS)
    rate, level = signal.arrived_tokens_per_second, old.level_tokens_per_second
    stray = log(rate / level) if rate > 0 and level > 0 else 0.0
    most = JUMP_DEVIATIONS * float(_variance(old) ** 0.5)
    jumped = stray > most or (level == 0 and rate > 0)
    weight = 1.0 if jumped else 1 - exp(-passed / LEVEL_SECONDS)
    count = min(old.samples, MEMORY_SAMPLES - 1) + 1
    care = old.care
    if now_seconds - old.since_seconds > SETTLING_SECONDS:
        care += CARE_PER_SECOND * passed * (signal.late_share - profile.late_budget)
    return Pace(
        role=old.role,
        since_seconds=old.since_seconds,
        at_seconds=now_seconds,
        level_tokens_per_second=level + weight * (rate - level),
        minute_variance=old.minute_variance
        + (min(abs(stray), most) ** 2 - old.minute_variance) / count,
        samples=count,
        care=min(max(care, LEAST_CARE), MOST_CARE),
    )
