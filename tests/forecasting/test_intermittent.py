"""Series that are off most of the time: chances of being on, sizes, and their calibration."""

import numpy as np
import pytest

from forecasting.grid import Floats, make_grid
from forecasting.intermittent import fit_intermittent, intermittent_roots, is_intermittent
from forecasting.panel import Panel, panel_of

HORIZONS, LEADS = (600.0, 1800.0, 3600.0, 21600.0), (1800.0, 3600.0)
GRID = make_grid(600.0, HORIZONS, LEADS, (0.5, 0.9, 0.95))
DAY = GRID.day
TEN_MINUTES, HALF_HOUR, HOUR, SIX_HOURS, MAX_HALF, MAX_HOUR = range(6)


def seen(rates: Floats) -> Panel:
    known = np.ones(rates.shape, dtype=np.bool_)
    return panel_of(np.sqrt(rates), known, known, 0, GRID)


def sparse(rng: np.random.Generator, count: int, days: int) -> Floats:
    """Poisson events of one bin, each of a size of its own."""
    chance = rng.uniform(0.03, 0.15, (count, 1))
    size = 100 * rng.lognormal(0, 0.8, (count, days * DAY))
    return np.where(rng.random(size.shape) < chance, size, 0.0)


def sessions(rng: np.random.Generator, count: int, days: int) -> Floats:
    """Sessions of about an hour every half day, each at a level of its own."""
    out = np.zeros((count, days * DAY))
    for row in out:
        at = int(rng.exponential(60))
        while at < row.size:
            stop = at + 1 + int(rng.exponential(6))
            row[at:stop] = rng.gamma(8, 100 * rng.lognormal(0, 0.6) / 8, row[at:stop].size)
            at = stop + 1 + int(rng.exponential(60))
    return out


def nightly(rng: np.random.Generator, count: int, days: int) -> Floats:
    """A batch of an hour and a half at 02:00 sharp, nine nights of ten."""
    out = np.zeros((count, days, DAY))
    runs = rng.random((count, days)) < 0.9
    size = rng.gamma(20, 5, (count, days, 9))
    out[:, :, 12:21] = np.where(runs[..., None], size, 0.0)
    return out.reshape(count, -1)


FAMILIES = {"sparse": sparse, "sessions": sessions, "nightly": nightly}


def loss(came: Floats, said: Floats, tau: float) -> float:
    miss = came - said
    return float(np.maximum(tau * miss, (tau - 1) * miss).mean())


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_calibrated_and_better_than_the_rivals_with_conformal_bands(family: str) -> None:
    rng = np.random.default_rng(7)
    rates = FAMILIES[family](rng, 40, 18)
    learnt = fit_intermittent(seen(rates[:, : 14 * DAY]), GRID)
    said, came, held, naive = [], [], [], []
    past = rates[:, 7 * DAY : 14 * DAY]
    for now in range(14 * DAY, 18 * DAY - 37, 5):
        panel = seen(rates[:, now - 14 * DAY : now])
        said.append(intermittent_roots(panel, GRID, learnt) ** 2)
        ahead = [rates[:, now + step - 1] for step in GRID.horizon_steps]
        peaks = [rates[:, now : now + step].max(axis=1) for step in GRID.lead_steps]
        came.append(np.stack([*ahead, *peaks], axis=1))
        held.append(rates[:, now - 1])
        naive.append(rates[:, now + 2 - DAY])
    q, y = np.stack(said), np.stack(came)
    for index, tau in enumerate(GRID.quantiles):
        under = (y <= q[..., index]).mean(axis=(0, 1))
        strictly = (y < q[..., index]).mean(axis=(0, 1))
        # With a mass at zero P(Y < q) <= tau <= P(Y <= q) is all that a quantile can promise.
        assert (under >= tau - 0.03).all()
        assert (strictly <= tau + 0.03).all()
    half = GRID.horizon_steps[HALF_HOUR]
    for index, tau in ((1, 0.9), (2, 0.95)):
        own = loss(y[:, :, HALF_HOUR], q[:, :, HALF_HOUR, index], tau)
        step = np.sqrt(past[:, half:]) - np.sqrt(past[:, :-half])
        over = np.sqrt(past[:, DAY:]) - np.sqrt(past[:, :-DAY])
        for point, error in ((held, step), (naive, over)):
            band = np.sqrt(np.stack(point)) + np.quantile(error, tau, axis=1)
            rival = loss(y[:, :, HALF_HOUR], np.maximum(band, 0) ** 2, tau)
            assert own < 1.02 * rival


def test_the_median_may_be_zero_and_the_upper_quantile_is_not() -> None:
    rates = sparse(np.random.default_rng(3), 20, 14)
    roots = intermittent_roots(seen(rates), GRID, fit_intermittent(seen(rates), GRID))
    assert (roots[:, HALF_HOUR, 0] == 0).all()
    often = (rates > 0).mean(axis=1) > 0.08
    assert (roots[often, HALF_HOUR, 2] > 0).all()
    assert (roots[:, MAX_HOUR] >= roots[:, HOUR]).mean() > 0.95


def test_a_batch_is_announced_before_its_time_and_not_at_other_times() -> None:
    rates = nightly(np.random.default_rng(4), 10, 15)
    learnt = fit_intermittent(seen(rates[:, : 14 * DAY]), GRID)
    before = intermittent_roots(seen(rates[:, 11 : 14 * DAY + 11]), GRID, learnt)
    assert (before[:, HALF_HOUR, 1] ** 2 > 80).all()
    assert (before[:, MAX_HALF, 1] ** 2 > 80).all()
    noon = intermittent_roots(seen(rates[:, 72 : 14 * DAY + 72]), GRID, learnt)
    assert (noon[:, :HOUR, 1] == 0).all()


def test_while_a_series_is_on_its_size_follows_it() -> None:
    rates = sessions(np.random.default_rng(5), 8, 14)
    learnt = fit_intermittent(seen(rates), GRID)
    for level in (20.0, 400.0):
        on = rates.copy()
        on[:, -3:] = level
        upper = intermittent_roots(seen(on), GRID, learnt)[:, TEN_MINUTES, 1] ** 2
        assert level < np.median(upper) < 5 * level


def test_which_series_are_intermittent() -> None:
    on, known = np.array([0, 5, 100, 600, 10]), np.array([2016, 2016, 2016, 2016, 100])
    assert is_intermittent(on, known, GRID).tolist() == [False, False, True, False, False]
