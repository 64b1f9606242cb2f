"""A look's answer becomes a role's signal and its measured capacity; pure.

Demand is what arrives, engines count what they serve. Over a window

    arrived = served + growth of the backlog x mean tokens per request

where the backlog is what waits, and also what runs where tokens are counted at the end of a
request (SGLang without its realtime counters). The mean comes from ten minutes of tokens and of
finished requests; so arrivals and queued tokens are estimates where there is a queue. Tokens
still to be made by running requests are in no number.

Capacity is measured only at the limit: prompts have waited for the whole window at an engine that
prefills, or its KV cache has been full for the whole window at one that decodes, and (decoding)
the SLO still held. Then the tokens/s that the engine served are what it can do with this traffic.
A waiting queue says nothing at a decoding engine: transfers of KV wait there too. The queue's own
wait makes a prefill late, not its speed, so its SLO is not asked for. Engines' phase timers are
not used: they overlap inside a batch, and no counter tells by how much. Not seen are prompts that
differ from today's, and what a replica could do where it is never full; the policy's profile
stands then. Series do not name the GPU: a role with ready replicas on two GPU models says
nothing about either.
"""

from collections.abc import Iterable, Mapping
from math import inf
from statistics import median
from typing import Literal

import msgspec

from scheduler.adapters.prometheus.connection import Value
from scheduler.adapters.prometheus.queries import QUEUES
from scheduler.planning.policy import Slo
from scheduler.planning.snapshot import CapacitySignal, RoleSignal

MOST_LATE = 0.05
"""Share of late requests up to which a full decoding engine counts as inside its SLO."""

Buckets = Mapping[float, float]
"""Upper bound of a bucket in seconds -> requests in the window at or below it."""


class Duties(msgspec.Struct, frozen=True):
    """What a role does: the stream that drives it, and which delays are its own."""

    stream: Literal["prompt", "generated"]
    ttft: bool
    tpot: bool


class Reading(msgspec.Struct, frozen=True):
    """One look: sums by meaning, buckets of the histograms, tokens/s of pods at their limit."""

    sums: Mapping[str, float]
    ttft: Buckets
    tpot: Buckets
    limits: tuple[float, ...]

    @property
    def newest_seconds(self) -> float:
        """When the newest sample was taken; long ago where there is none."""
        return self.sums.get("newest", -inf)


class Flow(msgspec.Struct, frozen=True):
    """Tokens of one stream in a window, per second, and those that wait; None: unknown."""

    arrived: float | None
    served: float | None
    queued: float | None
    requests_open: float


def reading(vector: Iterable[Value]) -> Reading:
    """Sort a look's elements by meaning; of histograms the first candidate with values counts."""
    sums: dict[str, float] = {}
    buckets: dict[str, dict[float, float]] = {}
    limits = []
    for element in vector:
        meaning = element.labels.get("meaning", "")
        if "le" in element.labels:
            buckets.setdefault(meaning, {})[float(element.labels["le"])] = element.value
        elif meaning == "each":
            limits.append(element.value)
        else:
            sums[meaning] = element.value
    return Reading(sums, _first(buckets, "ttft"), _first(buckets, "tpot"), tuple(sorted(limits)))


def _first(buckets: Mapping[str, Buckets], kind: str) -> Buckets:
    names = sorted(name for name in buckets if name.startswith(kind))
    return next((buckets[name] for name in names if max(buckets[name].values()) > 0), {})


def late_share(buckets: Buckets, limit_seconds: float) -> float:
    """Return the share of requests above a limit, on a straight line inside its bucket.

    In the last bucket, which has no end, all count as late.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return 0.0
    below, start = 0.0, 0.0
    for bound in bounds:
        if bound > limit_seconds:
            if bound < inf:
                within = (limit_seconds - start) / (bound - start)
                below += within * (buckets[bound] - below)
            break
        below, start = buckets[bound], bound
    return min(max(1 - below / total, 0.0), 1.0)


def flow(seen: Reading, stream: str, window_seconds: float) -> Flow:
    """Return the tokens of a stream in a look."""
    sums = seen.sums
    live, finished = sums.get(f"{stream}_live"), sums.get(f"{stream}_finished")
    waiting = sum(sums.get(name, 0.0) for name in QUEUES)
    waited = sum(sums.get(f"before_{name}", 0.0) for name in QUEUES)
    grown = waiting - waited if "before_waiting" in sums else 0.0
    running = sums.get("running", 0.0)
    if live is None:
        grown += running - sums.get("before_running", running)
    served = live if live is not None else finished
    if served is None and "running" in sums and running + waiting == 0:
        served = 0.0  # a counter is born with its first request
    length = mean_tokens(seen, stream)
    return Flow(
        arrived=None if served is None else max(served + grown * (length or 0) / window_seconds, 0),
        served=served,
        queued=waiting * length if length is not None else (0.0 if waiting == 0 else None),
        requests_open=waiting + running,
    )


def mean_tokens(seen: Reading, stream: str) -> float | None:
    """Return tokens per request over the last minutes; None where no request ended."""
    requests = seen.sums.get("long_requests", 0.0)
    at_end = seen.sums.get(f"long_{stream}_finished")
    tokens = at_end if at_end is not None else seen.sums.get(f"long_{stream}_live")
    return tokens / requests if tokens is not None and requests > 0 else None


def late(seen: Reading, duties: Duties, slo: Slo) -> float:
    """Return the share of late requests by the delays that are the role's; the worse of two."""
    prompt = mean_tokens(seen, "prompt") or 0.0
    ttft = slo.ttft_seconds + slo.ttft_seconds_per_1k_prompt_tokens * prompt / 1000
    shares = [0.0]
    if duties.ttft:
        shares.append(late_share(seen.ttft, ttft))
    if duties.tpot:
        shares.append(late_share(seen.tpot, slo.tpot_seconds))
    return max(shares)


def signal(
    key: str,
    seen: Reading,
    duties: Duties,
    slo: Slo,
    window_seconds: float,
    ready: int,
    capacity_tokens_per_second: float,
) -> RoleSignal:
    """Return the signal of a role whose samples are fresh.

    `ready` is how many replicas should report, 0 where nobody knows; several pods of one replica
    may report, or only its leader, so that no fewer than `ready` is all that can be asked.
    """
    now = flow(seen, duties.stream, window_seconds)
    unknown = now.arrived is None or now.queued is None
    missing = seen.sums.get("fresh", 0.0) < ready
    idle = not now.arrived and not now.served and now.requests_open == 0
    served = now.served or 0.0
    full = capacity_tokens_per_second
    return RoleSignal(
        role=key,
        status="partial" if unknown or missing else "idle" if idle else "live",
        window_seconds=window_seconds,
        arrived_tokens_per_second=now.arrived or 0.0,
        served_tokens_per_second=served,
        queued_tokens=now.queued or 0.0,
        utilisation=min(1.0, served / full) if full > 0 else 0.0,
        late_share=late(seen, duties, slo),
    )


def capacity(
    key: str, gpu_model: str, seen: Reading | None, duties: Duties, slo: Slo
) -> CapacitySignal:
    """Return what pods at their limit served, the middle one of them; see the module's text."""
    limits = seen.limits if seen is not None else ()
    slow = duties.tpot and seen is not None and late_share(seen.tpot, slo.tpot_seconds) > MOST_LATE
    if slow or not limits:
        return CapacitySignal(role=key, gpu_model=gpu_model, tokens_per_second=0.0, samples=0)
    return CapacitySignal(
        role=key, gpu_model=gpu_model, tokens_per_second=median(limits), samples=len(limits)
    )
