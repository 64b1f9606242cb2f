"""True capacity of a replica against numbers worked out by hand."""

import numpy as np
import pytest

from scheduler.planning.policy import Slo
from scheduler.simulation.capacity import decode, prefill_tokens_per_second, tokens_per_second
from scheduler.simulation.worldfile import Speed, load_world

SPEED = Speed(
    prefill=((500, 1000.0), (1500, 2000.0)),
    prefill_served_share=0.5,
    alpha_ms=10.0,
    beta_ms=0.1,
    gamma_ms=0.2,
    kv_tokens=200_000,
    max_sequences=256,
)


@pytest.mark.parametrize(
    ("prompt", "rate"), [(1, 500), (500, 500), (1000, 750), (1500, 1000), (9000, 1000)]
)
def test_prefill_is_interpolated_by_prompt_length(prompt: float, rate: float) -> None:
    assert prefill_tokens_per_second(SPEED, prompt) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("context", "tpot", "batch"),
    [
        (2000, 1.0, 100),  # memory: 200,000 / 2,000
        (500, 1.0, 256),  # the engine's cap: memory would hold 400
        (500, 0.02, 50),  # the SLO: (20 - 10) / (0.1 + 0.2 x 0.5)
        (500, 0.001, 1),  # an SLO out of reach leaves one sequence
    ],
)
def test_the_batch_is_bounded_three_ways(context: float, tpot: float, batch: float) -> None:
    found = decode(SPEED, context - 100, 200.0, Slo(tpot_seconds=tpot))
    assert found.batch == pytest.approx(batch)
    slope = (0.1 + 0.2 * context / 1000) / 1000
    assert found.tokens_per_second == pytest.approx(batch / (0.01 + batch * slope))


def test_arrays_give_arrays() -> None:
    world = load_world()
    lengths = (np.array([500.0, 4000.0]), np.array([100.0, 100.0]))
    for role in ("prefill", "decode"):
        rates = tokens_per_second(world, "chat", role, "H100-SXM-80GB", lengths)
        one = tokens_per_second(world, "chat", role, "H100-SXM-80GB", (4000.0, 100.0))
        assert rates.shape == (2,)
        assert rates[1] == one


def test_published_request_rates_are_met() -> None:
    """The fits' source states requests/s for Qwen3-32B on H100, 800 in, 2000 out: 2.566."""
    rate = tokens_per_second(load_world(), "chat", "decode", "H100-SXM-80GB", (800.0, 2000.0))
    assert rate / 2000 == pytest.approx(2.566, rel=0.02)
