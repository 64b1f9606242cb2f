"""Prefill of one model as a fluid queue: first come, first served, by all ready replicas.

Arrivals of a step are spread evenly over it, and the queue is served at the replicas' joint speed.
That gives each part of a cohort its wait. Two things are too small for the fluid and are added:
the request's own service, and queueing inside a step.

Queueing inside a step: an arrival finds all n replicas busy with probability rho^(sqrt(2 (n + 1))
- 1) (Sakasegawa 1977, "An approximation formula L_q = alpha beta^rho / (1 - rho)"). Work per
replica then moves like Brownian motion of variance (ca^2 + cs^2) E[S] / n per second, tied to the
step's own total, as the fluid carries what differs between steps. The reflection principle for
the bridge gives P(wait > x) = exp(-2 x (x + T (1 - rho)) / (variance T)) over a step of T; where
x is small against T (1 - rho) that is the exponential tail of the M/G/n queue in heavy traffic.
"""

from collections import deque
from collections.abc import Callable
from math import exp, sqrt

_NOTHING = 1e-9


class Score:
    """Tokens of one model's requests that came to their end in a step; mutable."""

    __slots__ = ("due", "late_prefill", "met")

    def __init__(self) -> None:
        """Start at zero."""
        self.due = self.met = self.late_prefill = 0.0


class Cohort:
    """Requests that arrived evenly over [`arrived`, `arrived_end`] and wait for prefill."""

    __slots__ = ("arrived", "arrived_end", "generated", "limit", "prompt", "requests")

    def __init__(
        self,
        arrived: float,
        arrived_end: float,
        requests: float,
        prompt: float,
        generated: float,
        limit: float,
    ) -> None:
        """`limit` is the longest TTFT inside the SLO; tokens are totals."""
        self.arrived = arrived
        self.arrived_end = arrived_end
        self.requests = requests
        self.prompt = prompt
        self.generated = generated
        self.limit = limit


class Prefilled:
    """Requests that completed prefill evenly over [`start`, `end`] and wait for decode."""

    __slots__ = ("arrived", "due", "end", "generated", "on_time", "requests", "start")

    def __init__(
        self,
        start: float,
        end: float,
        requests: float,
        generated: float,
        due: float,
        on_time: float,
        arrived: float,
    ) -> None:
        """`due` are prompt and generated tokens, `on_time` those of them with a good TTFT."""
        self.start = start
        self.end = end
        self.requests = requests
        self.generated = generated
        self.due = due
        self.on_time = on_time
        self.arrived = arrived


class Prefill:
    """The queue of one model; mutable, stepped by `Fleet`."""

    __slots__ = ("queue", "queued")

    def __init__(self) -> None:
        """Start empty."""
        self.queue: deque[Cohort] = deque()
        self.queued = 0.0
        """Prompt tokens."""

    def refuse(self, before: float, score: Score) -> float:
        """Drop what arrived before a time; return its prompt tokens."""
        dropped = 0.0
        while self.queue and self.queue[0].arrived_end < before:
            cohort = self.queue.popleft()
            dropped += cohort.prompt
            tokens = cohort.prompt + cohort.generated
            score.due += tokens
            score.late_prefill += tokens
        self.queued -= dropped
        return dropped

    def step(
        self,
        now: float,
        step: float,
        cohort: Cohort,
        rate: float,
        replicas: int,
        service: float,
        variability: float,
    ) -> tuple[float, list[Prefilled]]:
        """Serve one step; return the prompt tokens served and the requests completed.

        `rate` is tokens/s of all replicas, `service` E[S], `variability` ca^2 + cs^2.
        """
        if cohort.requests > 0:
            self.queue.append(cohort)
            self.queued += cohort.prompt
        budget = rate * step
        if not replicas:
            return 0.0, []
        late_share = tail(cohort.prompt / budget, replicas, service * variability, step)
        done = []
        left, clock = budget, now
        while self.queue and left > _NOTHING:
            head = self.queue[0]
            part = self.queue.popleft() if head.prompt <= left else _first(head, left)
            start = max(clock, part.arrived)
            clock += part.prompt / rate
            left -= part.prompt
            end = max(clock, part.arrived_end)
            done.append(_completed(part, start, end, service, late_share))
        self.queued = self.queued - budget + left if self.queue else 0.0
        return budget - left, done

    def tokens_due(self) -> float:
        """Return prompt and generated tokens of all that wait."""
        return sum(cohort.prompt + cohort.generated for cohort in self.queue)


def tail(
    utilisation: float, replicas: int, variance: float, step: float
) -> Callable[[float], float]:
    """Return P(wait inside the step > x) as a function of x; 1 where x is negative.

    `variance` is (ca^2 + cs^2) E[S], in seconds.
    """
    rho = min(utilisation, 1.0)
    busy = rho ** (sqrt(2 * (replicas + 1)) - 1)
    slope = -2 * replicas / max(variance * step, _NOTHING)
    drift = step * (1 - rho)

    def beyond(x: float) -> float:
        return busy * exp(slope * x * (x + drift)) if x >= 0 else 1.0

    return beyond


def _completed(
    part: Cohort, start: float, end: float, service: float, late_share: Callable[[float], float]
) -> Prefilled:
    """Return the requests whose prefill began evenly over [start, end] and takes `service`."""
    slack = part.limit - service
    late = late_share(slack - start + part.arrived) + late_share(slack - end + part.arrived_end)
    due = part.prompt + part.generated
    return Prefilled(
        start + service,
        end + service,
        part.requests,
        part.generated,
        due,
        due * (1 - late / 2),
        part.arrived_end,
    )


def _first(cohort: Cohort, prompt: float) -> Cohort:
    """Cut the earliest arrivals with that many prompt tokens off a cohort."""
    share = prompt / cohort.prompt
    cut = cohort.arrived + share * (cohort.arrived_end - cohort.arrived)
    part = Cohort(
        cohort.arrived,
        cut,
        cohort.requests * share,
        prompt,
        cohort.generated * share,
        cohort.limit,
    )
    cohort.arrived = cut
    cohort.requests -= part.requests
    cohort.prompt -= prompt
    cohort.generated -= part.generated
    return part
