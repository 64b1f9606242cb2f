"""Each rival and the wrapper against plain loops that follow the definition."""

import cmath
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.backtest.conformal import bands, pool_quantiles, volatility
from forecasting.backtest.rivals import RIVALS, rival_points
from forecasting.backtest.rivals.kalman import kalman
from forecasting.grid import Floats, Grid, Ints, make_grid
from forecasting.values import HOUR

GRID = make_grid(900.0, (900.0, HOUR, 6 * HOUR), (1800.0,), (0.1, 0.5, 0.9))
RATES = np.random.default_rng(3).gamma(4.0, 2.0, 3 * GRID.day)


def last(known: Floats, ahead: int, grid: Grid) -> float:
    return float(known[-1])


def mean(known: Floats, ahead: int, grid: Grid) -> float:
    return float(known[-2:].mean())


def largest(known: Floats, ahead: int, grid: Grid) -> float:
    return float(known[-2:].max())


def day_before(known: Floats, ahead: int, grid: Grid) -> float:
    at = known.size - 1 + ahead - grid.day
    return float(known[at]) if at >= 0 else np.nan


def week_before(known: Floats, ahead: int, grid: Grid) -> float:
    at = known.size - 1 + ahead - 7 * grid.day
    return float(known[at]) if at >= 0 else np.nan


def trend(known: Floats, ahead: int, grid: Grid) -> float:
    """The filter in matrices."""
    move, noise = np.array([[1.0, 1.0], [0.0, 1.0]]), np.diag([1.0, 0.1])
    look = np.array([[1.0, 0.0]])
    state, spread = np.array([[known[0]], [0.0]]), np.eye(2)
    for rate in known:
        state, spread = move @ state, move @ spread @ move.T + noise
        gain = spread @ look.T / (look @ spread @ look.T + 10.0)
        state = state + gain * (rate - look @ state)
        spread = (np.eye(2) - gain @ look) @ spread
    return max(float(state[0, 0] + ahead * state[1, 0]), 0.0)


def waves(known: Floats, ahead: int, grid: Grid) -> float:
    """The transform by its sum, wave by wave."""
    days = min(known.size // grid.day, 7)
    if days < 1:
        return np.nan
    window = known[-days * grid.day :]
    count = window.size
    found = []
    for number in range(1, count // 2 + 1):
        turn = [cmath.exp(-2j * cmath.pi * number * at / count) for at in range(count)]
        whole = complex(np.dot(window, turn)) / count
        found.append((abs(whole) * (1 if 2 * number == count else 2), number, whole))
    total = float(window.mean())
    for _, number, whole in sorted(found, reverse=True)[:16]:
        turned = (whole * cmath.exp(2j * cmath.pi * number * (ahead - 1) / count)).real
        total += turned if 2 * number == count else 2 * turned
    return max(total, 0.0)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("constant", last),
        ("moving-average", mean),
        ("window-maximum", largest),
        ("seasonal-naive-24h", day_before),
        ("seasonal-naive-7d", week_before),
        ("kalman", trend),
        ("fft", waves),
    ],
)
def test_a_rival_says_what_its_definition_says(
    name: str, plain: Callable[[Floats, int, Grid], float]
) -> None:
    points = rival_points(name, RATES, GRID)
    for column in (5, 95, 96, 200, RATES.size - 1):
        expected = [plain(RATES[: column + 1], int(ahead), GRID) for ahead in GRID.steps]
        np.testing.assert_allclose(points[column], expected, rtol=1e-9)


def test_every_rival_is_compared_with_its_definition_above() -> None:
    assert len(RIVALS) == 7


def test_a_week_ago_is_known_after_a_week() -> None:
    rates = np.arange(8.0 * GRID.day)
    points = rival_points("seasonal-naive-7d", rates, GRID)
    assert np.isnan(points[: 7 * GRID.day - 24]).all()
    assert points[-1].tolist() == (rates.size - 1 + GRID.steps - 7 * GRID.day).tolist()


def test_the_filter_tracks_a_straight_line() -> None:
    points = kalman(np.arange(5.0, 805.0, 2.0), GRID.steps, GRID)
    np.testing.assert_allclose(points[-1], 5.0 + 2.0 * (399 + GRID.steps), rtol=1e-6)


def test_before_the_first_known_bin_there_is_no_forecast() -> None:
    rates = RATES.copy()
    rates[:10] = np.nan
    for name in RIVALS:
        points = rival_points(name, rates, GRID)
        assert np.isnan(points[:10]).all()
        np.testing.assert_array_equal(points[10:], rival_points(name, rates[10:], GRID))


def plain_pool(
    errors: Floats, steps: int, column: int, window: int, half_life: float, tau: float
) -> float:
    """Smallest known error with at least tau of the weight at or below it."""
    known = [
        (errors[made], 0.5 ** ((column - made - steps) / half_life))
        for made in range(errors.size)
        if column - window < made + steps <= column and np.isfinite(errors[made])
    ]
    if len(known) < 1 / min(tau, 1 - tau) - 1e-9:
        return np.nan
    total, below = sum(weight for _, weight in known), 0.0
    for error, weight in sorted(known):
        below += weight
        if below >= tau * total * (1 - 1e-12):
            return float(error)
    raise AssertionError("the weights do not add up")


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    steps=st.integers(1, 9),
    window=st.integers(5, 80),
    half_life=st.sampled_from([np.inf, 12.0, 3.0]),
    missing=st.floats(0, 0.9),
)
def test_pools_are_weighted_quantiles_of_known_errors(
    seed: int, steps: int, window: int, half_life: float, missing: float
) -> None:
    rng = np.random.default_rng(seed)
    errors = np.where(rng.random(150) < missing, np.nan, rng.integers(-5, 6, 150).astype(float))
    columns: Ints = np.arange(4, 150, 2)
    found = pool_quantiles(errors, steps, columns, window, half_life, GRID)
    expected = [
        [plain_pool(errors, steps, column, window, half_life, tau) for tau in GRID.quantiles]
        for column in columns.tolist()
    ]
    np.testing.assert_array_equal(found, expected)


def test_volatility_is_the_mean_of_two_moving_errors_known_by_then() -> None:
    error = np.random.default_rng(1).normal(size=60)
    error[[7, 20, 21]] = np.nan
    filled, steps = RATES[:60], 3
    found = volatility(error, filled, steps, GRID)
    for column in range(60):
        parts = []
        for half_life in (GRID.hour, GRID.day):
            mean = np.nan
            for made in range(column - steps + 1):
                size = abs(error[made])
                if np.isfinite(size):
                    share = 1 - 0.5 ** (1 / half_life)
                    mean = size if np.isnan(mean) else (1 - share) * mean + share * size
            parts.append(mean)
        expected = np.mean(parts) + 0.01 * np.sqrt(filled[: column + 1]).mean()
        assert found[column] == pytest.approx(expected, nan_ok=True)


def test_bands_are_errors_of_roots_and_scaled_ones_end_after_an_hour() -> None:
    grid = make_grid(900.0, (900.0, 6 * HOUR), (HOUR,), (0.4, 0.9))
    count = 300
    points = np.full((3, count), 9.0)
    seen = np.tile(np.array([16.0, 4.0]), (3, count // 2))  # errors of roots: +1, -1
    columns = np.array([count - 1])
    plain = bands(points, seen, np.full(count, 9.0), grid, columns, scaled=False)
    np.testing.assert_allclose(plain[:, 0], [[4.0, 16.0]] * 3)
    scaled = bands(points, seen, np.full(count, 9.0), grid, columns, scaled=True)
    assert np.isnan(scaled[1]).all()
    np.testing.assert_allclose(scaled[[0, 2], 0], [[4.0, 16.0]] * 2, rtol=1e-6)


def test_no_band_is_negative_or_above_what_the_past_allows() -> None:
    points = np.full((4, 200), 1.0)
    seen = np.tile(np.array([0.0, 400.0]), (4, 100))
    found = bands(points, seen, np.full(200, 1.0), GRID, np.array([199]), scaled=False)
    assert found.min() == 0.0
    assert found.max() == 2.25
