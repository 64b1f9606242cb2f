"""Seasonal naive: the same slot of the newest whole period before."""

from __future__ import annotations

import numpy as np

from forecasting.grid import Floats, Grid, Ints
from forecasting.values import WEEK_DAYS


def yesterday(rates: Floats, steps: Ints, grid: Grid) -> Floats:
    """The value of 24 hours before the target."""
    return _before(rates, steps, grid.day)


def last_week(rates: Floats, steps: Ints, grid: Grid) -> Floats:
    """The value of seven days before the target."""
    return _before(rates, steps, WEEK_DAYS * grid.day)


def _before(rates: Floats, steps: Ints, period: int) -> Floats:
    """Steps are at most a day, so that one period before a target is always known."""
    column = np.arange(rates.size)[:, None] + steps - period
    return np.where(column >= 0, rates[np.maximum(column, 0)], np.nan)
