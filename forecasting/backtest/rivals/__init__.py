"""The rivals: simple and shipped ways to predict a bin, one idea a module, all of one shape.

A rival says a path of points from every bin; the wrapper in `conformal` makes quantiles of it.
Its point for a lead is the largest of its path inside the lead, with errors of its own. Each has
two methods: NAME with plain bands, NAME-scaled with volatility-scaled ones, up to an hour ahead.
`window-maximum-raw` is the window maximum as autoscalers use it, without a band: one curve that
stands for every quantile, so it has no loss and no coverage, and only its over-provision counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from forecasting.backtest.conformal import bands
from forecasting.backtest.protocol import Protocol, Series, imputed, origins, targets
from forecasting.backtest.rivals.fourier import fourier
from forecasting.backtest.rivals.held import constant, moving_average, window_maximum
from forecasting.backtest.rivals.kalman import kalman
from forecasting.backtest.rivals.seasonal import last_week, yesterday
from forecasting.grid import Floats, Grid, Ints

Rival = Callable[[Floats, Ints, Grid], Floats]
"""(rates [bin] without gaps, steps [step], grid) -> points [bin, step]; NaN: no forecast."""

RIVALS: dict[str, Rival] = {
    "constant": constant,
    "seasonal-naive-24h": yesterday,
    "seasonal-naive-7d": last_week,
    "kalman": kalman,
    "moving-average": moving_average,
    "window-maximum": window_maximum,
    "fft": fourier,
}
SCALED = "-scaled"
RAW = "-raw"
RIVAL_METHODS = (*RIVALS, *(name + SCALED for name in RIVALS), "window-maximum" + RAW)


def rival_curves(series: Series, protocol: Protocol, names: Sequence[str]) -> list[Floats]:
    """Quantile curves [target, origin, quantile] of each of `RIVAL_METHODS` that is named."""
    grid = protocol.grid(series.bin_seconds)
    columns = origins(series, protocol)
    every = np.arange(series.rate.size)
    seen = targets(series, grid, every)
    filled = imputed(series, grid.day)
    curves = []
    for name in names:
        path = rival_points(name.removesuffix(SCALED).removesuffix(RAW), filled, grid)
        points = grid.target_values(path).T
        if has_bands(name):
            scaled = name.endswith(SCALED)
            curves.append(bands(points, seen, filled, grid, columns, scaled=scaled))
        else:
            curves.append(np.repeat(points[:, columns, None], len(grid.quantiles), axis=2))
    return curves


def has_bands(method: str) -> bool:
    """Whether the curves of a method are quantiles, which have a loss and a coverage."""
    return not method.endswith(RAW)


def rival_points(name: str, filled: Floats, grid: Grid) -> Floats:
    """Points of a rival at every bin [bin, step]; NaN before the first known bin."""
    out = np.full((filled.size, grid.steps.size), np.nan)
    known = np.flatnonzero(np.isfinite(filled))
    if known.size:
        out[known[0] :] = RIVALS[name](filled[known[0] :], grid.steps, grid)
    return out
