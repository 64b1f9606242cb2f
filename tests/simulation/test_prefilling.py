"""Prefill: the fluid queue, and its share of late requests against an event simulation."""

from heapq import heapreplace

import numpy as np
import pytest

from scheduler.simulation.capacity import prefill_tokens_per_second
from scheduler.simulation.prefilling import Cohort, Prefill, Prefilled, Score, tail
from scheduler.simulation.serving import Fleet
from scheduler.simulation.worldfile import World, load_world
from tests.fixtures.demands import H100, run, trace

STEP = 5.0
NO_SERVICE = 1e-9


def serve(queue: Prefill, now: float, prompt: float, rate: float) -> tuple[float, list[Prefilled]]:
    """One step with cohorts of ten requests and a limit of 2 s."""
    cohort = Cohort(now, now + STEP, 10.0, prompt, 10.0, 2.0)
    return queue.step(now, STEP, cohort, rate, 1 if rate else 0, NO_SERVICE, 0.0)


def test_an_idle_queue_serves_as_requests_arrive() -> None:
    served, done = serve(Prefill(), 0.0, 50.0, 100.0)
    assert served == 50
    assert [(part.start, part.end) for part in done] == [pytest.approx((0, 5), abs=1e-6)]
    assert done[0].on_time == done[0].due == 60


def test_a_backlog_is_served_first_and_delays_the_rest() -> None:
    queue = Prefill()
    assert serve(queue, 0.0, 300.0, 0.0) == (0.0, [])
    served, done = serve(queue, 5.0, 100.0, 60.0)
    assert served == 300
    assert [(part.start, part.end) for part in done] == [pytest.approx((5, 10))]
    assert queue.queued == pytest.approx(100)
    served, done = serve(queue, 10.0, 100.0, 60.0)
    assert served == pytest.approx(200)
    assert done[0].end == pytest.approx(10 + 100 / 60)
    assert queue.queued == 0
    assert done[0].on_time == done[0].due / 2  # the first waited 5 s, the last 1.7 s
    assert done[1].on_time == done[1].due  # the first waited 1.7 s, the last none
    assert done[1].end == pytest.approx(15)


def test_what_waits_too_long_is_refused_and_missed() -> None:
    queue, score = Prefill(), Score()
    serve(queue, 0.0, 300.0, 0.0)
    serve(queue, 5.0, 300.0, 0.0)
    assert queue.refuse(before=6.0, score=score) == 300
    assert (score.due, score.met, score.late_prefill) == (310, 0, 310)
    assert queue.queued == 300


def test_the_tail_falls_with_time_and_replicas_and_rises_with_load() -> None:
    base = tail(0.9, 4, 0.3, STEP)
    assert base(-0.1) == 1
    assert 1 > base(0) > base(0.5) > base(1) > 0
    assert tail(0.9, 8, 0.3, STEP)(0.2) < base(0.2) < tail(0.97, 4, 0.3, STEP)(0.2)
    assert tail(0.9, 4, 0.6, STEP)(0.2) > base(0.2)
    assert tail(0.0, 1, 0.3, STEP)(0) == 0
    assert tail(2.0, 1, 0.0, STEP)(0.1) == 0  # no variability: the fluid says it all


def test_in_heavy_traffic_the_tail_is_that_of_the_mg1_queue() -> None:
    """Mean wait of those who wait: (ca^2 + cs^2) / 2 x E[S] / (1 - rho)."""
    rho, service, variability = 0.9, 1e-4, 2.0
    mean = variability / 2 * service / (1 - rho)
    ours = tail(rho, 1, service * variability, STEP)
    assert ours(3 * mean) / ours(0) == pytest.approx(np.exp(-3), rel=0.02)


def late_by_events(rate: float, service: float, sigma: float, seconds: float) -> float:
    """Share of tokens late at one server, Poisson arrivals, log-normal lengths, request by request.

    Every request has its own limit of 2 s + a quarter second per 1,000 of its tokens.
    """
    rng = np.random.default_rng(5)
    arrivals = np.cumsum(rng.exponential(1 / rate, int(rate * seconds)))
    sizes = np.exp(rng.normal(-sigma * sigma / 2, sigma, len(arrivals)))
    free, late = [0.0], 0.0
    for at, size in zip(arrivals.tolist(), sizes.tolist(), strict=True):
        end = max(free[0], at) + size * service
        heapreplace(free, end)
        late += size if end - at > 2 + 0.25 * size * 1.2 else 0.0
    return float(late / sizes.sum())


@pytest.mark.parametrize("load", [0.9, 0.95])
def test_late_prefill_is_that_of_an_event_simulation(load: float) -> None:
    document = load_world().model_dump()
    world = World.model_validate({**document, "noise": {**document["noise"], "minute_sd": 0.0}})
    speed = world.engine("chat").speeds[H100]
    service = 1200.0 / float(prefill_tokens_per_second(speed, 1200.0))
    # scaled so that one prefill replica, of 2 GPUs, has this load; decode is next to nothing
    demand = run(
        world,
        {"chat": trace([10.0] * 144, generated=0.01)},
        gpus={H100: 1000},
        peak_share=2 * load / 1000,
    )
    fleet, due, late = Fleet(world, demand), 0.0, 0.0
    ready = {("chat", "prefill", H100): 1, ("chat", "decode", H100): 100}
    for index in range(demand.steps):
        report = fleet.step(index, ready, {}, {})
        due += report.tokens_due["chat"]
        late += report.tokens_late_prefill["chat"]
    exact = late_by_events(load / service, service, world.noise.prompt_length_sigma, 86400.0)
    assert late / due == pytest.approx(exact, rel=0.3)
