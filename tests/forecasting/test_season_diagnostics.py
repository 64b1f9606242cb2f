"""Season strength and autocorrelation tell a tide from noise and admit when they cannot."""

import numpy as np
import pytest

from forecasting.diagnostics import autocorrelation, season_strength

DAY = 24
HOURS = np.arange(10 * DAY)
TIDE = 100 + 50 * np.sin(2 * np.pi * HOURS / DAY)
NOISE = np.random.default_rng(7).normal(size=HOURS.size)


def test_a_tide_is_strong_and_noise_is_weak() -> None:
    tide = season_strength(TIDE + NOISE, DAY)
    noise = season_strength(NOISE, DAY)
    assert tide is not None
    assert noise is not None
    assert tide > 0.95
    assert noise < 0.6


def test_gaps_are_bridged() -> None:
    holed = np.where(HOURS % 17 == 3, np.nan, TIDE + NOISE)
    strength = season_strength(holed, DAY)
    assert strength is not None
    assert strength > 0.9
    assert autocorrelation(holed, [DAY])[0] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    "values", [np.ones(10 * DAY), TIDE[:DAY], np.full(10 * DAY, np.nan), np.zeros(10 * DAY)]
)
def test_no_verdict_without_movement_or_past(
    values: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> None:
    assert season_strength(values, DAY) is None


def test_autocorrelation_at_the_asked_lags() -> None:
    same, opposite, beyond = autocorrelation(TIDE, [DAY, DAY // 2, 1000])
    assert same == pytest.approx(1.0, abs=0.01)
    assert opposite == pytest.approx(-1.0, abs=0.05)
    assert beyond is None
    assert autocorrelation(np.ones(50), [1, 2]) == (None, None)
