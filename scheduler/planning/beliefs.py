"""What the engines taught us: the capacity of a replica of each role on each GPU model.

First step of a plan. The policy's capacity profile is a prior worth `PRIOR_SAMPLES`
measurements; measurements move the belief, so a profile that is off does not stay wrong.
Ignorance changes nothing.
"""

import msgspec

from scheduler.planning.memory import Belief, Memory
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import Snapshot

PRIOR_SAMPLES = 4
MEMORY_SAMPLES = 400
"""Older measurements fade beyond this many, so that a new engine version is learnt."""


def learn(snapshot: Snapshot, memory: Memory) -> Memory:
    """Return the memory with this tick's measurements folded in."""
    return msgspec.structs.replace(memory, beliefs=_capacities(snapshot, memory))


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


def series_key(policy: Policy, role: str) -> str:
    """Return the demand series that drives a role, or "" for a role without policy."""
    profile = policy.role(role)
    return f"{role.partition('/')[0]}/{profile.tokens}_tokens" if profile else ""
