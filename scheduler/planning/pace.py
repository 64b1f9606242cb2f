"""How fast demand rises, learnt per role, and how much room above it the SLO asks for.

Beside `beliefs`, the first step of a plan. A replica asked for now serves in one or two minutes,
so what matters is how far one-minute demand climbs in that time. The number of deviations kept
is moved by what the users saw, as in adaptive conformal inference (Gibbs and Candes, 2021):
each late share above the budget widens it, each below narrows it, so that in the long run the
late share is the budget whatever the demand is like.
"""

from math import exp, log

import msgspec

from scheduler.planning.memory import Level, Memory, Pace
from scheduler.planning.policy import Policy, RolePolicy
from scheduler.planning.snapshot import RoleSignal, Snapshot

RISE_SECONDS = 120.0
"""From asking for a replica to its first token; `warm-pools.md` section 2, weights on disk."""
PRIOR_VARIANCE = 0.08**2
"""Squared log-deviation of one-minute demand, as measured on Mooncake's conversation trace."""
PRIOR_SAMPLES = 40
MEMORY_SAMPLES = 2000
LOG_LIMIT = 1.5
"""One wild rise (a factor above e^1.5) counts as this and no more."""
STEP_PER_SECOND = 0.02 / 15
"""How fast late minutes widen the room, in deviations per second at a late share of 1."""
LEAST_SIGMAS, MOST_SIGMAS = 0.5, 4.0


def learn(snapshot: Snapshot, memory: Memory, policy: Policy) -> Memory:
    """Return the memory with this tick's signals folded in; missing ones change nothing."""
    known = {pace.role: pace for pace in memory.paces}
    for signal in snapshot.signals:
        profile = policy.role(signal.role)
        if profile is not None and signal.status == "live":
            old = known.get(signal.role) or _fresh(signal.role, profile)
            known[signal.role] = _next(old, signal, profile, snapshot.now_seconds)
    return msgspec.structs.replace(memory, paces=tuple(known[role] for role in sorted(known)))


def room(memory: Memory, role: str, profile: RolePolicy) -> float:
    """Return the factor above present demand that is to be held, 1 or more."""
    found = next((pace for pace in memory.paces if pace.role == role), None)
    pace = found or _fresh(role, profile)
    weight = pace.samples / (pace.samples + PRIOR_SAMPLES)
    variance = weight * pace.variance + (1 - weight) * PRIOR_VARIANCE
    return exp(pace.sigmas * float(variance**0.5))


def _fresh(role: str, profile: RolePolicy) -> Pace:
    return Pace(role=role, variance=0.0, sigmas=profile.rise_sigmas)


def _next(old: Pace, signal: RoleSignal, profile: RolePolicy, now_seconds: float) -> Pace:
    level = Level(now_seconds, signal.arrived_tokens_per_second)
    kept = tuple(one for one in old.levels if now_seconds - one.at_seconds <= RISE_SECONDS)
    rise = _rise(kept, level)
    count, variance = old.samples, old.variance
    if rise is not None:
        count = min(count, MEMORY_SAMPLES - 1) + 1
        variance += (2 * max(rise, 0.0) ** 2 - variance) / count
    passed = now_seconds - old.levels[-1].at_seconds if old.levels else 0.0
    step = STEP_PER_SECOND * min(passed, RISE_SECONDS)
    sigmas = old.sigmas + step * (signal.late_share - profile.late_budget)
    return Pace(
        role=old.role,
        levels=(*kept, level),
        variance=variance,
        samples=count,
        sigmas=min(max(sigmas, LEAST_SIGMAS), MOST_SIGMAS),
    )


def _rise(levels: tuple[Level, ...], level: Level) -> float | None:
    """Return log(now / about `RISE_SECONDS` ago), or None where that is not known."""
    if not levels or level.at_seconds - levels[0].at_seconds < RISE_SECONDS / 2:
        return None
    before = levels[0].tokens_per_second
    if before <= 0 or level.tokens_per_second <= 0:
        return None
    return max(-LOG_LIMIT, min(LOG_LIMIT, log(level.tokens_per_second / before)))
