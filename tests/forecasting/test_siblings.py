"""Young series lean on their siblings: free of scale, bounded, calibrated."""

import numpy as np
import pytest

from forecasting.grid import Bools, Floats, make_grid
from forecasting.panel import Panel, panel_of
from forecasting.siblings import Siblings, is_old, learn_siblings, metric_of, sibling_roots

GRID = make_grid(600.0, (600.0, 1800.0, 3600.0), (1800.0, 3600.0), (0.5, 0.9, 0.95))
DAY = GRID.day
HALF_HOUR, MAX_HALF_HOUR, P90 = 1, 3, 1
KEYS = tuple(f"m{number}/tokens" for number in range(12))


def family(seed: int, count: int, days: int) -> Floats:
    """A common tide, a wander of 3 hours, and scales that are apart by a factor of thousands."""
    rng = np.random.default_rng(seed)
    width = days * DAY
    tide = 1 + 0.6 * np.sin(2 * np.pi * np.arange(width) / DAY)
    wander = np.zeros((count, width))
    keep = np.exp(-1 / 18)
    for column in range(1, width):
        step = rng.normal(size=count) * 0.25 * np.sqrt(1 - keep**2)
        wander[:, column] = keep * wander[:, column - 1] + step
    return 10 ** rng.uniform(0, 4, (count, 1)) * tide * np.exp(wander)


def seen(rates: Floats, known: Bools | None = None) -> Panel:
    there = np.ones(rates.shape, dtype=np.bool_) if known is None else known
    return panel_of(np.where(there, np.sqrt(rates), 0), there, there, 0, GRID)


@pytest.fixture(scope="module")
def learnt() -> Siblings:
    found = learn_siblings(KEYS, seen(family(1, 12, 8)), GRID)
    assert found is not None
    return found


def born(rates: Floats, first: int) -> Panel:
    known = np.zeros(rates.shape, dtype=np.bool_)
    known[:, first:] = True
    return seen(rates, known)


def test_the_first_day_is_covered_and_beats_the_last_value(learnt: Siblings) -> None:
    rates = family(2, 30, 9)
    keys = tuple(f"new{row}/tokens" for row in range(30))
    first, half = 7 * DAY + 40, GRID.horizon_steps[HALF_HOUR]
    covered, peaks = [], []
    losses: list[Floats] = []
    rivals: list[Floats] = []
    for now in range(first + 2, first + DAY, 5):
        said = sibling_roots(keys, born(rates[:, :now], first), GRID, learnt) ** 2
        came = rates[:, now + half - 1]
        past = np.sqrt(rates[:, first:now])
        error = past[:, half:] - past[:, :-half] if now > first + 12 else past * 0.15
        rival = (past[:, -1] + np.quantile(error, 0.9, axis=1)) ** 2
        covered.append(came <= said[:, HALF_HOUR, P90])
        peaks.append(rates[:, now : now + half].max(axis=1) <= said[:, MAX_HALF_HOUR, P90])
        level = rates[:, first:].mean(axis=1)
        for out, upper in ((losses, said[:, HALF_HOUR, P90]), (rivals, rival)):
            miss = came - upper
            out.append(np.maximum(0.9 * miss, -0.1 * miss) / level)
    each = np.array(covered).mean(axis=0)
    assert 0.87 <= each.mean() <= 0.94
    assert np.quantile(each, 0.1) >= 0.8
    assert 0.86 <= np.mean(peaks) <= 0.95
    assert np.mean(losses) < np.mean(rivals)


def test_the_forecast_is_free_of_scale(learnt: Siblings) -> None:
    rates = family(3, 1, 8)
    one = sibling_roots(["a/tokens"], born(rates, 8 * DAY - 20), GRID, learnt)
    big = sibling_roots(["a/tokens"], born(1e6 * rates, 8 * DAY - 20), GRID, learnt)
    np.testing.assert_allclose(big, 1e3 * one, rtol=1e-6)


def test_the_siblings_tide_is_expected_of_a_newcomer(learnt: Siblings) -> None:
    hours = make_grid(600.0, (600.0, 1800.0, 3600.0), (1800.0, 3600.0), (0.5, 0.9, 0.95))
    flat = np.full((1, 8 * DAY), 50.0)
    up, down = 8 * DAY - DAY, 8 * DAY - DAY // 2  # mornings rise, evenings fall
    rising = sibling_roots(["a/tokens"], born(flat[:, :up], up - 6), hours, learnt)
    falling = sibling_roots(["a/tokens"], born(flat[:, :down], down - 6), hours, learnt)
    assert rising[0, 2, 0] > falling[0, 2, 0]


def test_a_series_never_seen_is_as_large_as_its_siblings(learnt: Siblings) -> None:
    nothing = np.zeros((2, 8 * DAY))
    panel = seen(nothing, nothing > 0)
    roots = sibling_roots(["new/tokens", "other/unheard"], panel, GRID, learnt)
    everybody = np.sqrt(family(1, 12, 8))
    assert everybody.min() < roots[0, 0, 0] < roots[0, 0, 1] <= everybody.max()
    assert np.array_equal(roots[0], roots[1])


def test_zeros_since_birth_say_nothing(learnt: Siblings) -> None:
    panel = born(np.zeros((1, 8 * DAY)), 8 * DAY - 10)
    assert np.isnan(sibling_roots(["a/tokens"], panel, GRID, learnt)).all()


@pytest.mark.parametrize("burst", [1e-9, 1e9])
def test_a_wild_start_stays_bounded(learnt: Siblings, burst: float) -> None:
    rates = np.full((1, 8 * DAY), 50.0)
    rates[0, -1] = 50.0 * burst
    roots = sibling_roots(["a/tokens"], born(rates, 8 * DAY - 6), GRID, learnt)
    assert np.isfinite(roots).all()
    assert roots.max() <= 10 * np.sqrt(rates.max())


def test_too_few_models_teach_nothing() -> None:
    keys = ("a/tokens", "a/requests", "b/tokens", "b/requests")
    assert learn_siblings(keys, seen(family(1, 4, 3)), GRID) is None
    assert metric_of("a/tokens") == "tokens"


def test_who_is_old_enough_to_teach() -> None:
    on, known = np.array([300, 300, 100, 0]), np.array([300, 200, 300, 300])
    assert is_old(on, known, GRID).tolist() == [True, False, False, False]
