"""Who may be asked to give way, and why the others may not.

The first reason that applies is given, in the order: opted out, minimum runtime, protected after
a resume, global budget, tenant's budget. A budget refuses only once it is used up; how much of
it one plan may use is for the packer's limits (see `budgets`).
"""

from collections.abc import Sequence

from preemption.budgets import stops_left, tenant_stops_left
from preemption.values import Claimant, Refusal, Rules, Stop


def candidates(
    claimants: Sequence[Claimant], rules: Rules, stops: Sequence[Stop], now_seconds: float
) -> tuple[tuple[Claimant, ...], tuple[Refusal, ...]]:
    """Claimants that may be stopped now, and a refusal for each of the others, in given order."""
    left = stops_left(rules, stops, now_seconds)
    tenant_left = tenant_stops_left(rules, stops, now_seconds, [c.tenant for c in claimants])
    allowed: list[Claimant] = []
    refused: list[Refusal] = []
    for claimant in claimants:
        refusal = _terms(claimant, rules, now_seconds) or _budget(
            claimant, rules, left, tenant_left[claimant.tenant]
        )
        if refusal is None:
            allowed.append(claimant)
        else:
            refused.append(refusal)
    return tuple(allowed), tuple(refused)


def _terms(claimant: Claimant, rules: Rules, now_seconds: float) -> Refusal | None:
    """What the job's own state forbids."""
    key = claimant.key
    if claimant.opted_out:
        return Refusal(key, "opted_out", f"{key} has opted out of preemption")
    missing_seconds = claimant.started_seconds + rules.minimum_runtime_seconds - now_seconds
    if missing_seconds > 0:
        sentence = f"{key} is {missing_seconds:.0f} s short of its minimum runtime"
        return Refusal(key, "minimum_runtime", sentence)
    protected_seconds = claimant.protected_until_seconds - now_seconds
    if protected_seconds > 0:
        sentence = f"{key} is protected for {protected_seconds:.0f} s more after its resume"
        return Refusal(key, "protected", sentence)
    return None


def _budget(claimant: Claimant, rules: Rules, left: int, tenant_left: int) -> Refusal | None:
    """What the hour's stops forbid."""
    key = claimant.key
    if left == 0:
        sentence = f"{key} runs on: {rules.stops_per_hour} stops this hour are used up"
        return Refusal(key, "budget", sentence)
    if tenant_left == 0:
        allowed = rules.tenant_stops_per_hour
        sentence = (
            f"{key} runs on: tenant {claimant.tenant}'s {allowed} stops this hour are used up"
        )
        return Refusal(key, "tenant_budget", sentence)
    return None
