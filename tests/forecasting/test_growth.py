"""Bands widen with what is said where errors do, and only there."""

import numpy as np
import pytest

from forecasting import Sample, forecast, initial_state
from forecasting.calibration import lift
from forecasting.grid import Floats

BIN, BINS = 300.0, 288


def growths(roots: Floats) -> Floats:
    """What is learnt of a series of roots, for each horizon up to two hours."""
    rates = np.maximum(roots, 0.0) ** 2
    samples = [Sample("x", BIN * number, BIN, rate) for number, rate in enumerate(rates.tolist())]
    _, state = forecast(initial_state(), samples, BIN * rates.size)
    assert state.knowledge is not None
    return np.asarray(state.knowledge.calibration.growth[0, :5])


def tide(days: int = 8) -> Floats:
    return np.asarray(30 + 25 * np.sin(2 * np.pi * np.arange(days * BINS) / BINS))


def test_errors_in_proportion_to_demand_grow_and_counting_errors_do_not() -> None:
    noise = np.random.default_rng(3).normal(size=tide().size)
    assert (growths(tide() * (1 + 0.15 * noise)) > 0).mean() > 0.5
    assert (growths(tide() + 2.0 * noise) == 0).all()


@pytest.mark.parametrize(
    ("said", "level", "growth", "expected"),
    [
        (4.0, 1.0, 0.0, 1.0),
        (4.0, 1.0, 0.5, 2.0),
        (9.0, 1.0, 0.5, 2.0),  # four times the level at most
        (0.0, 1.0, 0.5, 0.1**0.5),
        (3.0, 0.0, 0.5, 1.0),  # nothing known of the level
    ],
)
def test_lift(said: float, level: float, growth: float, expected: float) -> None:
    found = lift(np.array([said]), np.array([level]), np.array([growth]))
    assert found == pytest.approx(expected)
