"""How many more stops the hourly budgets allow: for all tenants together, each tenant, each job.

A budget counts the stops of the last 3600 seconds; what is left of it bounds the next plan as a
whole, not each job in it. A job that is shrunk is disturbed as well, and counts. A tenant's
guaranteed GPUs bound a plan in the same way: see `share_limits`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate

from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.problem import StopLimit
from preemption.values import Claimant, Rules, Stop

WINDOW_SECONDS = 3600.0
SAME_SECONDS = 120.0
EVERYBODY = "all tenants"


def stops_left(rules: Rules, stops: Sequence[Stop], now_seconds: float) -> int:
    """Stops that the global budget still allows."""
    return max(0, rules.stops_per_hour - len(recent(stops, now_seconds)))


def tenant_stops_left(
    rules: Rules, stops: Sequence[Stop], now_seconds: float, tenants: Sequence[str]
) -> dict[str, int]:
    """Stops that each tenant's budget still allows, tenants in order of name."""
    used = Counter(stop.tenant for stop in recent(stops, now_seconds))
    return {
        tenant: max(0, rules.tenant_stops_per_hour - used[tenant])
        for tenant in sorted(set(tenants))
    }


def job_stops(stops: Sequence[Stop], now_seconds: float) -> Counter[str]:
    """Stops of each job within the window."""
    return Counter(stop.job for stop in recent(stops, now_seconds))


def share_left(claimants: Sequence[Claimant], rules: Rules) -> dict[str, int]:
    """Milli-GPU that each tenant with a guarantee holds above it, of all that it holds; may be
    below 0.
    """
    held: Counter[str] = Counter()
    for claimant in claimants:
        held[claimant.tenant] += claimant.milli_gpus
    return {
        tenant: held[tenant] - gpus * WHOLE_GPU_MILLI
        for tenant, gpus in sorted(rules.guaranteed_gpus.items())
    }


def limits(
    gangs_of: Mapping[str, Sequence[str]], rules: Rules, stops: Sequence[Stop], now_seconds: float
) -> tuple[StopLimit, ...]:
    """The hourly budgets as the packer's limits over tenant -> gangs; those that bind nobody not.

    The surplus of an elastic job and the rest of it are two gangs, and count twice if both go.
    """
    every = tuple(sorted(gang for gangs in gangs_of.values() for gang in gangs))
    found = [StopLimit(EVERYBODY, every, stops_left(rules, stops, now_seconds))]
    left = tenant_stops_left(rules, stops, now_seconds, tuple(gangs_of))
    for tenant, most in left.items():
        found.append(StopLimit(f"tenant {tenant}", tuple(sorted(gangs_of[tenant])), most))
    return tuple(limit for limit in found if len(limit.gangs) > limit.most)


def share_limits(
    gangs_of: Mapping[str, Mapping[str, int]], left: Mapping[str, int]
) -> tuple[StopLimit, ...]:
    """Guarantees as limits over tenant -> gang -> GPUs, or thousandths of them; `left` are those
    above each of the guarantees.

    A limit counts gangs, a guarantee GPUs: as many gangs may go as do not pass it even if they
    are the largest; one that alone passes it may not.
    """
    found = []
    for tenant, spare in sorted(left.items()):
        gangs = gangs_of.get(tenant, {})
        large = tuple(sorted(gang for gang, gpus in gangs.items() if gpus > spare))
        small = tuple(sorted(gang for gang, gpus in gangs.items() if gpus <= spare))
        sizes = sorted((gangs[gang] for gang in small), reverse=True)
        most = sum(1 for taken in accumulate(sizes) if taken <= spare)
        found += [StopLimit(f"share of {tenant}", large, 0)] if large else []
        found += [StopLimit(f"share of {tenant}", small, most)] if most < len(small) else []
    return tuple(found)


def recent(stops: Sequence[Stop], now_seconds: float) -> list[Stop]:
    """Return the stops within the window."""
    return [stop for stop in stops if now_seconds - stop.at_seconds < WINDOW_SECONDS]


def merged(
    remembered: Sequence[Stop], told: Sequence[Stop], now_seconds: float
) -> tuple[Stop, ...]:
    """Return the stops within the window from both sources, each once, in order of time.

    The cluster's clock has whole seconds and may differ: two stops of one run of a job that are
    less than `SAME_SECONDS` apart are one and the same.
    """
    found = recent(remembered, now_seconds)
    times: dict[tuple[str, int], list[float]] = {}
    for stop in found:
        times.setdefault((stop.job, stop.attempt), []).append(stop.at_seconds)
    for stop in recent(told, now_seconds):
        known = times.setdefault((stop.job, stop.attempt), [])
        if all(abs(stop.at_seconds - at) >= SAME_SECONDS for at in known):
            known.append(stop.at_seconds)
            found.append(stop)
    return tuple(sorted(found, key=lambda stop: (stop.at_seconds, stop.job)))


def happened(
    stops: Sequence[Stop], runs: Mapping[tuple[str, int], int], now_seconds: float
) -> list[Stop]:
    """Return the stops less those that nothing came of.

    `runs` are the pods of (job, attempt) where nobody has told it to go, as seen now. One that
    runs on with more pods than it was left, `SAME_SECONDS` after it was told, was not told; as long
    again later it may have got pods back, and that says nothing.
    """
    return [
        stop
        for stop in stops
        if not SAME_SECONDS <= now_seconds - stop.at_seconds < 2 * SAME_SECONDS
        or runs.get((stop.job, stop.attempt), 0) <= stop.pods
    ]
