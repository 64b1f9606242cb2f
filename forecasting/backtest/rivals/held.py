"""One number of the recent past, held for every bin to come."""

from __future__ import annotations

import numpy as np

from forecasting.grid import Floats, Grid, Ints

_WINDOW_HOURS = 0.5


def constant(rates: Floats, steps: Ints, grid: Grid) -> Floats:
    """The last value."""
    return _held(rates, steps)


def moving_average(rates: Floats, steps: Ints, grid: Grid) -> Floats:
    """Mean of the last half hour; of what there is at the start."""
    width = _width(grid)
    total = np.cumsum(rates)
    total[width:] -= total[:-width].copy()
    return _held(np.maximum(total, 0.0) / np.minimum(np.arange(rates.size) + 1, width), steps)


def window_maximum(rates: Floats, steps: Ints, grid: Grid) -> Floats:
    """Largest of the last half hour, as an autoscaler's stabilisation window keeps it."""
    width = _width(grid)
    padded = np.concatenate([np.zeros(width - 1), rates])
    return _held(np.lib.stride_tricks.sliding_window_view(padded, width).max(axis=1), steps)


def _width(grid: Grid) -> int:
    return max(1, round(_WINDOW_HOURS * grid.hour))


def _held(values: Floats, steps: Ints) -> Floats:
    return np.repeat(values[:, None], steps.size, axis=1)
