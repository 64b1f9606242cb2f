"""What is, goes on: the last known value, or a mean or the largest of the recent past, held.

Hard to beat up to half an hour ahead, and a day ahead where there is no season.
"""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.grid import Floats, Grid, Ints, Reals
from forecasting.panel import Panel, at_newest, trailing_mean


class Last(msgspec.Struct, frozen=True):
    """Every coming bin looks like the newest known one."""

    votes: bool = True
    regressed: bool = True

    def fit(self, panel: Panel, cut: int, grid: Grid) -> tuple[Floats, ...]:
        """Nothing to learn."""
        return ()

    def path(self, panel: Panel, fit: tuple[Reals, ...], origins: Ints, steps: Ints) -> Floats:
        """[series, origin, step]; NaN before the first known bin."""
        value, _ = at_newest(panel, panel.z, origins)
        return np.repeat(value[:, :, None], steps.size, axis=2)


class Average(msgspec.Struct, frozen=True):
    """Every coming bin looks like the mean of the last `hours`."""

    hours: float
    votes: bool = True
    regressed: bool = True

    def fit(self, panel: Panel, cut: int, grid: Grid) -> tuple[Floats, ...]:
        """Nothing to learn."""
        return ()

    def path(self, panel: Panel, fit: tuple[Reals, ...], origins: Ints, steps: Ints) -> Floats:
        """[series, origin, step]; NaN before the first known bin."""
        past = panel.newest >= 0
        window = max(1, round(self.hours * panel.hour))
        mean = trailing_mean(panel.filled, past, origins, window)
        return np.repeat(mean[:, :, None], steps.size, axis=2)


class Highest(msgspec.Struct, frozen=True):
    """Every coming bin looks like the largest of the last `hours`: a dip ends as it began."""

    hours: float
    votes: bool = True
    regressed: bool = True

    def fit(self, panel: Panel, cut: int, grid: Grid) -> tuple[Floats, ...]:
        """Nothing to learn."""
        return ()

    def path(self, panel: Panel, fit: tuple[Reals, ...], origins: Ints, steps: Ints) -> Floats:
        """[series, origin, step]; NaN before the first known bin."""
        window = max(1, round(self.hours * panel.hour))
        column = np.maximum(origins[:, None] - np.arange(window), 0)
        highest = panel.filled[:, column].max(axis=2)
        known = panel.newest[:, origins] >= 0
        return np.repeat(np.where(known, highest, np.nan)[:, :, None], steps.size, axis=2)
