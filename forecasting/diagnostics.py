"""How tidal a series is: season strength and autocorrelation, for people, not for the tick.

statsmodels is imported when asked for, because its import takes longer than many ticks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from forecasting.grid import Floats

_LEAST_PERIODS = 2


def season_strength(values: Sequence[float] | Floats, period_bins: int) -> float | None:
    """1 - var(remainder) / var(season + remainder) of a robust STL, cut off at 0.

    Wang, Smith & Hyndman (2006): 0 is no season of `period_bins`, 1 nothing but season. NaN
    marks unknown bins, which are interpolated. None below two periods of known bins, or for a
    series that never moves.
    """
    from statsmodels.tsa.seasonal import STL  # noqa: PLC0415 -- slow to import

    series = np.asarray(values, dtype=np.float64)
    known = np.isfinite(series)
    if known.sum() < max(_LEAST_PERIODS * period_bins, 1) or period_bins < _LEAST_PERIODS:
        return None
    bins = np.arange(series.size)
    filled = np.interp(bins, bins[known], series[known])
    parts = STL(filled, period=period_bins, robust=True).fit()
    moving = float(np.var(parts.seasonal + parts.resid))
    if moving <= np.finfo(np.float64).eps * float(np.mean(filled**2)):
        return None
    return max(0.0, 1.0 - float(np.var(parts.resid)) / moving)


def autocorrelation(
    values: Sequence[float] | Floats, lags_bins: Sequence[int]
) -> tuple[float | None, ...]:
    """Correlation of the series with itself at each lag, averaged over the pairs there are.

    NaN marks unknown bins. None for a lag as long as the series, and everywhere for a series
    that never moves.
    """
    from statsmodels.tsa.stattools import acf  # noqa: PLC0415 -- slow to import

    series = np.asarray(values, dtype=np.float64)
    known = series[np.isfinite(series)]
    if known.size < _LEAST_PERIODS or np.ptp(known) <= 0:
        return tuple(None for _ in lags_bins)
    longest = min(max(lags_bins), series.size - 1)
    found = acf(series, nlags=longest, adjusted=True, fft=False, missing="conservative")
    return tuple(float(found[lag]) if lag <= longest else None for lag in lags_bins)
