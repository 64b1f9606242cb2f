"""The batched normal equations against statsmodels, which solves one series at a time."""

import numpy as np
import pytest
import statsmodels.api as sm
from statsmodels.tsa.ar_model import AutoReg

from forecasting.grid import Floats, Ints
from forecasting.members.harmonic import fit_autoregression, fit_tides, residual_map, tides

WEEK, BINS = 7 * 24, 400


@pytest.fixture
def chance() -> np.random.Generator:
    return np.random.default_rng(3)


def autoregressive(chance: np.random.Generator, phi: list[float]) -> Floats:
    out = np.zeros(BINS)
    for t in range(len(phi), BINS):
        out[t] = sum(c * out[t - 1 - i] for i, c in enumerate(phi)) + chance.normal()
    return out


def design(cycles: Ints, week: int, slots: Ints) -> Floats:
    angles = 2 * np.pi * slots[:, None] * cycles / week
    return np.column_stack([np.ones(slots.size), np.cos(angles), np.sin(angles)])


@pytest.mark.parametrize("slot", [0, 100])
def test_tides_match_weighted_least_squares(chance: np.random.Generator, slot: int) -> None:
    cycles = np.array([1, 2, 7, 14, 35])
    z = chance.normal(size=(3, BINS)) + 10
    weight = chance.uniform(0.1, 1, size=(3, BINS)) * (chance.uniform(size=(3, BINS)) > 0.2)
    found = fit_tides(cycles, WEEK, weight, z, slot, np.zeros((3, 1 + 2 * cycles.size)))
    terms = design(cycles, WEEK, slot + np.arange(BINS))
    for row in range(3):
        expected = sm.WLS(z[row], terms, weights=weight[row]).fit().params
        np.testing.assert_allclose(found[row], expected, rtol=1e-5)
        fitted = tides(found, cycles, WEEK, slot + np.arange(BINS))[row]
        np.testing.assert_allclose(fitted, terms @ expected, rtol=1e-6)


def test_autoregression_and_its_path_match_autoreg(chance: np.random.Generator) -> None:
    series = np.stack([autoregressive(chance, phi) for phi in ([0.6, 0.2, -0.1], [0.3, 0.0, 0.4])])
    phi = fit_autoregression(series, np.ones(series.shape, dtype=np.bool_), 3)
    path = residual_map(phi, 50)
    for row in range(2):
        fitted = AutoReg(series[row], 3, trend="n").fit()
        np.testing.assert_allclose(phi[row], fitted.params, rtol=1e-6)
        newest_first = series[row, ::-1][:3]
        np.testing.assert_allclose(path[row] @ newest_first, fitted.forecast(50), atol=1e-6)


def test_rows_with_a_gap_teach_the_autoregression_nothing(chance: np.random.Generator) -> None:
    whole = autoregressive(chance, [0.7])
    known = np.ones((1, BINS), dtype=np.bool_)
    known[0, 200] = False
    holed = whole.copy()
    holed[200] = 1e6
    clean = np.delete(np.arange(1, BINS), [199, 200])
    expected = sm.OLS(whole[clean], whole[clean - 1]).fit().params
    np.testing.assert_allclose(fit_autoregression(holed[None], known, 1)[0], expected, rtol=1e-6)


def test_a_recursion_that_would_grow_is_held_inside_the_unit_circle() -> None:
    growing = np.exp(0.05 * np.arange(BINS, dtype=np.float64))[None]
    phi = fit_autoregression(growing, np.ones((1, BINS), dtype=np.bool_), 2)
    assert np.abs(residual_map(phi, 2000)).max() < 3
