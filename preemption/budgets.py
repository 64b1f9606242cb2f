"""How many more stops the hourly budgets allow, for all tenants together and for each.

A budget counts the stops of the last 3600 seconds; what is left of it bounds the next plan as a
whole, not each job in it.
"""

from collections import Counter
from collections.abc import Sequence

from binpacking.problem import StopLimit
from preemption.values import Claimant, Rules, Stop

WINDOW_SECONDS = 3600.0
EVERYBODY = "all tenants"


def stops_left(rules: Rules, stops: Sequence[Stop], now_seconds: float) -> int:
    """Stops that the global budget still allows."""
    return max(0, rules.stops_per_hour - len(_recent(stops, now_seconds)))


def tenant_stops_left(
    rules: Rules, stops: Sequence[Stop], now_seconds: float, tenants: Sequence[str]
) -> dict[str, int]:
    """Stops that each tenant's budget still allows, tenants in order of name."""
    used = Counter(stop.tenant for stop in _recent(stops, now_seconds))
    return {
        tenant: max(0, rules.tenant_stops_per_hour - used[tenant])
        for tenant in sorted(set(tenants))
    }


def limits(
    claimants: Sequence[Claimant], rules: Rules, stops: Sequence[Stop], now_seconds: float
) -> tuple[StopLimit, ...]:
    """The budgets as the packer's limits over these claimants; those that cannot bind left out."""
    keys = tuple(claimant.key for claimant in claimants)
    found = [StopLimit(EVERYBODY, keys, stops_left(rules, stops, now_seconds))]
    left = tenant_stops_left(rules, stops, now_seconds, [c.tenant for c in claimants])
    for tenant, most in left.items():
        own = tuple(claimant.key for claimant in claimants if claimant.tenant == tenant)
        found.append(StopLimit(f"tenant {tenant}", own, most))
    return tuple(limit for limit in found if len(limit.gangs) > limit.most)


def _recent(stops: Sequence[Stop], now_seconds: float) -> list[Stop]:
    return [stop for stop in stops if now_seconds - stop.at_seconds < WINDOW_SECONDS]
