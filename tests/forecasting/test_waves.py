"""The tide of shrunk waves: what it keeps of noise, a day, a week, and where it looks."""

import numpy as np
import pytest

from forecasting.grid import Floats, make_grid
from forecasting.members.harmonic import Harmonic, tides
from forecasting.members.waves import Waves
from forecasting.panel import Panel, panel_of

GRID = make_grid(3600.0, (3600.0,), (3600.0,), (0.5, 0.9))
HOURS = np.arange(28 * 24)
DAY_TIDE = 5 + 2 * np.sin(2 * np.pi * HOURS / 24) + np.cos(6 * np.pi * HOURS / 24)
WEEKEND = 1.5 * (HOURS // 24 % 7 >= 5)
NOISE = np.random.default_rng(4).normal(0, 1, HOURS.size)


def panel(z: Floats, first: int = 0) -> Panel:
    known = np.ones((1, z.size), np.bool_)
    return panel_of(z[None], known, known, first, GRID)


def tide_of(z: Floats, first: int = 0) -> Floats:
    """What a fit of the whole says of its own bins."""
    member = Waves()
    beta, _ = member.fit(panel(z, first), z.size, GRID)
    said: Floats = tides(beta, member.cycles(24), 7 * 24, first + np.arange(z.size))[0]
    return said


@pytest.mark.parametrize("days", [14, 21, 28])
@pytest.mark.parametrize("first", [0, 1000])
def test_tides_without_noise_come_back_whole(days: int, first: int) -> None:
    z = (DAY_TIDE + WEEKEND)[: days * 24]
    assert np.abs(tide_of(z, first) - z).max() < 0.25  # three cycles a week round a weekend off
    assert np.allclose(tide_of(DAY_TIDE[: days * 24], first), DAY_TIDE[: days * 24])


def test_noise_is_no_tide() -> None:
    kept = tide_of(5 + NOISE) - 5
    assert np.sqrt(np.mean(kept**2)) < 0.25
    free = np.fft.rfft(NOISE.reshape(4, 168).mean(axis=0))
    assert np.sqrt(np.mean(np.fft.irfft(free, 168) ** 2)) > 0.4  # all waves of the week unshrunk


def test_a_tide_is_found_in_noise() -> None:
    truth = DAY_TIDE + WEEKEND
    assert np.sqrt(np.mean((tide_of(truth + NOISE) - truth) ** 2)) < 0.4


def test_the_young_get_a_regression_on_a_few_terms() -> None:
    z = (DAY_TIDE + NOISE)[: 13 * 24]
    few = Waves().few
    beta, _ = few.fit(panel(z), z.size, GRID)
    said = tides(beta, few.cycles(24), 7 * 24, np.arange(z.size))[0]
    assert np.allclose(tide_of(z), said)


def test_the_very_young_get_nothing() -> None:
    beta, _ = Waves().fit(panel(DAY_TIDE[:24]), 24, GRID)
    assert np.isnan(beta[0, 0])


def test_gaps_count_as_the_day_before() -> None:
    z = DAY_TIDE.copy()
    known = np.ones((1, z.size), np.bool_)
    known[0, 100:110] = known[0, 500:520] = False
    beta, _ = Waves().fit(panel_of(np.where(known, z, 0), known, known, 0, GRID), z.size, GRID)
    said = tides(beta, Waves().cycles(24), 7 * 24, HOURS)[0]
    assert np.abs(said - DAY_TIDE).max() < 0.05


def test_the_first_week_is_no_reason_for_weekly_terms() -> None:
    z = np.where(HOURS[: 6 * 24] < 72, 4.0, 6.0)
    beta, _ = Harmonic().fit(panel(z), z.size, GRID)
    assert np.abs(beta[0, 1:7]).max() < 1e-3
