"""What the engines taught us: capacity of a replica, and how bursty a role's minutes are.

First step of a plan. The policy's capacity profile is a prior worth `PRIOR_SAMPLES`
measurements; measurements move the belief, so a profile that is off does not stay wrong.
Ignorance changes nothing.
"""

from math import log

import msgspec

from scheduler.planning.memory import Belief, Burst, Memory
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import RoleSignal, Snapshot

PRIOR_SAMPLES = 4
MEMORY_SAMPLES = 400
"""Older measurements fade beyond this many, so that a new engine version is learnt."""
BURST_PRIOR_VARIANCE = 0.10**2
BURST_PRIOR_SAMPLES = 20
BURST_LOG_LIMIT = 1.5
"""One wild minute (a factor above e^1.5) counts as this and no more."""


def learn(snapshot: Snapshot, memory: Memory, policy: Policy) -> Memory:
    """Return the memory with this tick's measurements folded in."""
    return msgspec.structs.replace(
        memory,
        beliefs=_capacities(snapshot, memory),
        bursts=_bursts(snapshot, memory, policy),
    )


def capacity(memory: Memory, policy: Policy, role: str) -> dict[str, float]:
    """Return believed tokens/s of one replica per allowed GPU model, in order of preference."""
    profile = policy.role(role)
    if profile is None:
        return {}
    learnt = {belief.gpu_model: belief for belief in memory.beliefs if belief.role == role}
    return {
        gpu_model: _blend(prior, learnt.get(gpu_model))
        for gpu_model, prior in profile.capacity_tokens_per_second.items()
    }


def burst_sigma(memory: Memory, role: str) -> float:
    """Return the learnt standard deviation of log(minute / forecast median)."""
    for burst in memory.bursts:
        if burst.role == role:
            weight = burst.samples / (burst.samples + BURST_PRIOR_SAMPLES)
            return float((weight * burst.variance + (1 - weight) * BURST_PRIOR_VARIANCE) ** 0.5)
    return float(BURST_PRIOR_VARIANCE**0.5)


def _blend(prior: float, belief: Belief | None) -> float:
    if belief is None:
        return prior
    total = PRIOR_SAMPLES + belief.samples
    return (PRIOR_SAMPLES * prior + belief.samples * belief.tokens_per_second) / total


def _capacities(snapshot: Snapshot, memory: Memory) -> tuple[Belief, ...]:
    known = {(belief.role, belief.gpu_model): belief for belief in memory.beliefs}
    for seen in snapshot.capacities:
        if seen.samples <= 0 or seen.tokens_per_second <= 0:
            continue
        key = (seen.role, seen.gpu_model)
        old = known.get(key, Belief(seen.role, seen.gpu_model, 0.0, 0))
        count = min(old.samples, MEMORY_SAMPLES - 1) + 1
        rate = old.tokens_per_second + (seen.tokens_per_second - old.tokens_per_second) / count
        known[key] = Belief(seen.role, seen.gpu_model, rate, count)
    return tuple(known[key] for key in sorted(known))


def _bursts(snapshot: Snapshot, memory: Memory, policy: Policy) -> tuple[Burst, ...]:
    known = {burst.role: burst for burst in memory.bursts}
    for signal in snapshot.signals:
        stray = _stray(snapshot, policy, signal)
        if stray is None:
            continue
        old = known.get(signal.role, Burst(signal.role, 0.0, 0))
        count = min(old.samples, MEMORY_SAMPLES - 1) + 1
        variance = old.variance + (stray**2 - old.variance) / count
        known[signal.role] = Burst(signal.role, variance, count)
    return tuple(known[role] for role in sorted(known))


def _stray(snapshot: Snapshot, policy: Policy, signal: RoleSignal) -> float | None:
    """Return log(observed minute / forecast median), or None where either is unknown."""
    median = median_now(snapshot, policy, signal.role)
    if signal.status != "live" or median is None or median <= 0:
        return None
    if signal.arrived_tokens_per_second <= 0:
        return None
    stray = log(signal.arrived_tokens_per_second / median)
    return max(-BURST_LOG_LIMIT, min(BURST_LOG_LIMIT, stray))


def series_key(policy: Policy, role: str) -> str:
    """Return the demand series that drives a role, or "" for a role without policy."""
    profile = policy.role(role)
    return f"{role.partition('/')[0]}/{profile.tokens}_tokens" if profile else ""


def median_now(snapshot: Snapshot, policy: Policy, role: str) -> float | None:
    """Return the forecast's median tokens/s for the bin that is running now."""
    forecasts = snapshot.forecasts
    found = forecasts.series.get(series_key(policy, role)) if forecasts else None
    if forecasts is None or found is None or found.status in ("stale", "absent"):
        return None
    return found.at[0][forecasts.quantiles.index(0.5)]
