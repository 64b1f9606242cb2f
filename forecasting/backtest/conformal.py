"""The conformal wrapper: the errors of a point forecast become its quantiles.

Errors are taken in square-root space over the last seven days, and only those whose target had
been seen at the origin count. Plain, they count alike. Scaled, they are measured in the present
volatility of the method's own errors and halve in weight every two days; that helps up to an hour
ahead, and further ahead it is not offered, because the volatility then says nothing.
"""

from __future__ import annotations

import numpy as np

from forecasting.grid import Floats, Grid, Ints

_WINDOW_DAYS = 7
_HALF_LIFE_DAYS = 2.0
_LEAST_VOLATILITY = 0.01
_GREATEST_RISE = 2.25
_ORIGINS_AT_ONCE = 64


def bands(
    points: Floats, seen: Floats, filled: Floats, grid: Grid, columns: Ints, *, scaled: bool
) -> Floats:
    """Quantile curves [target, origin, quantile] at `columns` from points at every bin.

    `points` and `seen` [target, bin] are rates said at, and coming after, each column; NaN where
    there are none. `filled` [bin] are the rates known by then. NaN where too few errors are
    known, and for scaled bands of targets more than an hour ahead.
    """
    said = np.sqrt(np.maximum(points, 0.0))
    error = np.sqrt(seen) - said
    out = np.full((points.shape[0], columns.size, len(grid.quantiles)), np.nan)
    window = _WINDOW_DAYS * grid.day
    for target, steps in enumerate(grid.target_steps):
        unit, half_life = np.ones(filled.size), np.inf
        if scaled:
            if steps > grid.hour:
                continue
            unit = volatility(error[target], filled, steps, grid)
            half_life = _HALF_LIFE_DAYS * grid.day
        offset = pool_quantiles(error[target] / unit, steps, columns, window, half_life, grid)
        out[target] = said[target, columns, None] + offset * unit[columns, None]
    highest = np.maximum.accumulate(np.nan_to_num(filled))[columns, None]
    rates: Floats = np.clip(np.maximum(out, 0.0) ** 2, 0.0, _GREATEST_RISE * highest)
    return rates


def volatility(error: Floats, filled: Floats, steps: int, grid: Grid) -> Floats:
    """Mean of two moving |errors| known at each column, half-lives an hour and a day [bin].

    A hundredth of the mean root is added, so that a series that never moves has a unit. NaN
    before the first error.
    """
    known = np.full(error.size, np.nan)
    known[steps:] = np.abs(error[:-steps]) if steps < error.size else known[steps:]
    hour, day = (_moving(known, half_life) for half_life in (grid.hour, grid.day))
    root = np.sqrt(filled)
    there = np.isfinite(root)
    total = np.cumsum(np.where(there, root, 0.0))
    mean = total / np.maximum(np.cumsum(there), 1)
    unit: Floats = (hour + day) / 2 + np.maximum(_LEAST_VOLATILITY * mean, 1e-9)
    return unit


def _moving(values: Floats, half_life: int) -> Floats:
    """Exponentially weighted mean, half-life in bins; gaps keep the last."""
    share = 1 - 0.5 ** (1 / half_life)
    out, mean = np.full(values.size, np.nan), np.nan
    for column, value in enumerate(values.tolist()):
        if value == value:  # noqa: PLR0124 -- not NaN
            mean = value if mean != mean else mean + share * (value - mean)  # noqa: PLR0124
        out[column] = mean
    return out


def pool_quantiles(
    errors: Floats, steps: int, columns: Ints, window: int, half_life: float, grid: Grid
) -> Floats:
    """Weighted quantiles of the errors known at each origin [origin, quantile].

    `errors` [bin] by the column they were made at; that of column s is known from s + steps on.
    An error weighs half as much every `half_life` bins and nothing after `window`. NaN where
    fewer errors are known than a quantile needs (1 / its distance to 0 or 1).

    `columns` ascend. The errors are sorted once; their weights relative to each other do not
    depend on the origin, so an origin only masks those outside its window.
    """
    made = np.flatnonzero(np.isfinite(errors))
    made = made[np.argsort(errors[made], kind="stable")]
    ordered, arrived = errors[made], made + steps
    weight = 0.5 ** ((arrived.max(initial=0) - arrived) / half_life)
    tau = np.array(grid.quantiles)
    least = np.ceil(1 / np.minimum(tau, 1 - tau) - 1e-9)
    out = np.full((columns.size, tau.size), np.nan)
    for start in range(0, columns.size, _ORIGINS_AT_ONCE):
        at = columns[start : start + _ORIGINS_AT_ONCE, None]
        used = np.flatnonzero((arrived <= at[-1]) & (arrived > at[0] - window))
        if not used.size:
            continue
        inside = (arrived[used] <= at) & (arrived[used] > at - window)
        mass = np.cumsum(inside * weight[used], axis=1)
        enough = inside.sum(axis=1)[:, None] >= least
        for index, share in enumerate(tau):
            # rounding must not push the goal past the last error that carries weight
            goal = mass[:, -1:] * share * (1 - 1e-12)
            found = ordered[used[np.argmax(mass >= goal, axis=1)]]
            out[start : start + at.size, index] = np.where(enough[:, index], found, np.nan)
    return out
