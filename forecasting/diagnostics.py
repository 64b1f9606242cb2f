"""What a series is like, for people: its age, its tides, and whether its errors are random.

Computed on demand from the state of the forecaster, never in the tick. Everything is measured on
square roots, as the forecast is; seasons on hourly means of them. statsmodels is imported when
asked for, because its import takes longer than many ticks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isnan

import msgspec
import numpy as np

from forecasting.forecast import State
from forecasting.grid import ORIGINS_PER_HOUR, Floats, Grid
from forecasting.members import MEMBERS, voices
from forecasting.panel import Panel, make_panel
from forecasting.replay import replay
from forecasting.values import DAY, HOUR

_DAY_HOURS, _WEEK_HOURS = 24, 168
_LEAST_CYCLES = 2
# So much of a cycle may be missing at its beginning.
_CYCLE_SLACK = 0.05
_LEAST_KNOWN = 0.75
_LEAST_ERRORS = 96
_RANDOM_P = 0.05


class Errors(msgspec.Struct, frozen=True, kw_only=True):
    """What the errors of the nearest horizon, said every half hour, do among themselves.

    `correlation` is the largest in size with an earlier error, `lag_seconds` before; `p_value` of
    Ljung & Box (1978) over a day of lags: below 0.05 the errors are not random.
    """

    count: int
    correlation: float
    lag_seconds: float
    p_value: float

    @property
    def random(self) -> bool:
        """Whether nothing speaks against it."""
        return self.p_value >= _RANDOM_P


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """One series; None: too little is known to say.

    `known_seconds` is the sum of its known bins, `zero_share` the share of them in which nothing
    came, `newest_age_seconds` how long before the newest bin the newest known one ended. Season
    strengths are 0 to 1, the week's after the day's was taken out.
    """

    known_seconds: float
    newest_age_seconds: float | None = None
    zero_share: float | None = None
    season_day: float | None = None
    season_week: float | None = None
    autocorrelation_day: float | None = None
    autocorrelation_week: float | None = None
    errors: Errors | None = None


def diagnose(state: State, key: str, weights: dict[str, float]) -> Diagnosis:
    """Look at one series; `weights` of the members are those of its forecast.

    Takes some tenths of a second. A key that the state does not hold is diagnosed as unknown.
    """
    if key not in state.store.keys:
        return Diagnosis(known_seconds=0.0)
    row = np.array([state.store.keys.index(key)])
    panel = make_panel(state.store, state.grid).take(row)
    known, z = panel.known[0], panel.z[0]
    if not known.any():
        return Diagnosis(known_seconds=0.0)
    hourly = hourly_means(np.where(known, z, np.nan), panel.hour)
    day, week = season_strengths(hourly, (_DAY_HOURS, _WEEK_HOURS))
    same_hour, same_week_hour = autocorrelation(hourly, (_DAY_HOURS, _WEEK_HOURS))
    bin_seconds = state.grid.bin_seconds
    return Diagnosis(
        known_seconds=float(known.sum() * bin_seconds),
        newest_age_seconds=float((known.size - 1 - np.flatnonzero(known)[-1]) * bin_seconds),
        zero_share=float((z[known] == 0).mean()),
        season_day=day,
        season_week=week,
        autocorrelation_day=same_hour,
        autocorrelation_week=same_week_hour,
        errors=check(near_errors(panel, state.grid, weights)),
    )


def past_rates(state: State, key: str, end_seconds: float, bins: int) -> tuple[float | None, ...]:
    """Rates of the `bins` that end at `end_seconds`, oldest first; None: unknown.

    Bins before the store's first, and all of a key that it does not hold, are unknown.
    """
    if key not in state.store.keys:
        return (None,) * bins
    panel = make_panel(state.store, state.grid)
    row = state.store.keys.index(key)
    rates = np.where(panel.known[row], panel.z[row] ** 2, np.nan)
    stop = rates.size - (state.store.end - round(end_seconds / state.grid.bin_seconds))
    start = max(0, stop - bins)
    found = rates[start : max(stop, 0)].tolist()
    return (None,) * (bins - len(found)) + tuple(None if isnan(rate) else rate for rate in found)


def hourly_means(values: Floats, hour: int) -> Floats:
    """Means of whole hours [hour] counted from the end; NaN where less than half is known."""
    whole = values[values.size % hour :].reshape(-1, hour)
    known = np.isfinite(whole)
    total = np.where(known, whole, 0.0).sum(axis=1)
    count = known.sum(axis=1)
    out = np.full(count.size, np.nan)
    means: Floats = np.divide(total, count, out=out, where=2 * count >= hour)
    return means


def season_strengths(
    values: Sequence[float] | Floats, periods: tuple[int, ...]
) -> tuple[float | None, ...]:
    """How much of what moves beside the trend is season, for each period, shortest first.

    1 - var(remainder) / var(season + remainder) of a robust STL with a fixed season, as Wang,
    Smith & Hyndman (2006), less what noise would score: a season of n cycles explains 1/n of
    noise. 0 is no season, 1 nothing but season; each period is measured after the shorter ones
    were taken out. NaN marks unknown values, which are interpolated. None below two cycles, where
    a quarter is unknown, and for a series that never moves.
    """
    left = np.asarray(values, dtype=np.float64)
    if any(shorter >= longer for shorter, longer in pairwise(periods)):
        raise ValueError(f"periods: {periods} must ascend")
    out: list[float | None] = []
    for period in periods:
        strength, left = _season(left, period)
        out.append(strength)
    return tuple(out)


def _season(values: Floats, period: int) -> tuple[float | None, Floats]:
    """The strength of one season, and the values without it."""
    from statsmodels.tsa.seasonal import STL  # noqa: PLC0415 -- slow to import

    known = np.isfinite(values)
    span = values.size - int(np.argmax(known)) if known.any() else 0
    cycles = int(span / period + _CYCLE_SLACK)
    used = slice(values.size - min(cycles * period, values.size), None)
    if cycles < _LEAST_CYCLES or period < _LEAST_CYCLES or known[used].mean() < _LEAST_KNOWN:
        return None, values
    bins = np.arange(values.size)[used]
    filled = np.interp(bins, bins[known[used]], values[used][known[used]])
    fixed = 10 * filled.size + 1
    parts = STL(filled, period=period, seasonal=fixed, seasonal_deg=0, robust=True).fit()
    moving = float(np.var(parts.seasonal + parts.resid))
    if moving <= np.finfo(np.float64).eps * float(np.mean(filled**2)):
        return None, values
    explained = 1.0 - float(np.var(parts.resid)) / moving
    without = values.copy()
    without[used] -= parts.seasonal
    return min(1.0, max(0.0, (explained - 1 / cycles) / (1 - 1 / cycles))), without


def autocorrelation(
    values: Sequence[float] | Floats, lags: Sequence[int]
) -> tuple[float | None, ...]:
    """Correlation of the series with itself at each lag, averaged over the pairs there are.

    NaN marks unknown values. None for a lag beyond half of the span since the first known value,
    and everywhere for a series that never moves.
    """
    from statsmodels.tsa.stattools import acf  # noqa: PLC0415 -- slow to import

    series = np.asarray(values, dtype=np.float64)
    known = np.isfinite(series)
    if known.sum() < _LEAST_CYCLES or np.ptp(series[known]) <= 0:
        return tuple(None for _ in lags)
    series = series[int(np.argmax(known)) :]
    longest = min(max(lags), series.size // 2)
    found = acf(series, nlags=longest, adjusted=True, fft=False, missing="conservative")
    return tuple(
        float(found[lag]) if lag <= longest and np.isfinite(found[lag]) else None for lag in lags
    )


def near_errors(panel: Panel, grid: Grid, weights: dict[str, float]) -> Floats:
    """Errors in roots [origin] of the first series' members, weighted, at the nearest horizon.

    Said from each half hour of the recent past as the replay says them; NaN where the target or
    every member is unknown.
    """
    names = voices(tuple(MEMBERS))
    if not any(weights.get(name, 0.0) > 0 for name in names):
        return np.zeros(0)
    past, _, _ = replay(panel, grid, tuple(MEMBERS.values()))
    said = past.said[0, :, 0]
    share = np.where(
        np.isfinite(said), np.array([weights.get(name, 0.0) for name in names])[:, None], 0.0
    )
    total = share.sum(axis=0)
    mixed = (share * np.nan_to_num(said)).sum(axis=0)
    mean = np.divide(mixed, total, out=np.full_like(mixed, np.nan), where=total > 0)
    errors: Floats = past.seen[0, 0] - mean
    return errors


def check(errors: Floats) -> Errors | None:
    """Whether errors [half hour] tell something of later ones; None where there are too few.

    A feed with wider bins leaves a regular pattern of unknown errors; only every n-th is looked
    at then, n the commonest distance between two known ones.
    """
    from statsmodels.tsa.stattools import acf, q_stat  # noqa: PLC0415 -- slow to import

    known = np.flatnonzero(np.isfinite(errors))
    if known.size < _LEAST_ERRORS or np.ptp(errors[known]) <= 0:
        return None
    every = int(np.bincount(np.diff(known)).argmax())
    spaced = errors[known[0] :: every]
    lags = int(DAY / HOUR) * ORIGINS_PER_HOUR // every
    count = int(np.isfinite(spaced).sum())
    if count < max(_LEAST_ERRORS, 2 * lags):
        return None
    found = acf(spaced, nlags=lags, adjusted=True, fft=False, missing="conservative")[1:]
    _, p_values = q_stat(found, count)
    largest = int(np.argmax(np.abs(found)))
    return Errors(
        count=count,
        correlation=float(found[largest]),
        lag_seconds=(largest + 1) * every * HOUR / ORIGINS_PER_HOUR,
        p_value=float(p_values[-1]),
    )
