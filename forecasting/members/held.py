"""What is, goes on: the last known value, or a mean or the largest of the recent past, held.

Hard to beat up to half an hour ahead, and a day ahead where there is no season.
"""

from __future__ import annotations

import numpy as np

from forecasting.grid import Floats, Ints, Reals
from forecasting.members.unfitted import Unfitted
from forecasting.panel import Panel, at_newest, trailing_mean


class Last(Unfitted, frozen=True):
    """Every coming bin looks like the newest known one."""

    def path(self, panel: Panel, fit: tuple[Reals, ...], origins: Ints, steps: Ints) -> Floats:
        """[series, origin, step]; NaN before the first known bin."""
        value, _ = at_newest(panel, panel.z, origins)
        return _held(value, steps)


class Average(Unfitted, frozen=True):
    """Every coming bin looks like the mean of the last `hours`."""

    hours: float

    def path(self, panel: Panel, fit: tuple[Reals, ...], origins: Ints, steps: Ints) -> Floats:
        """[series, origin, step]; NaN before the first known bin."""
        past = panel.newest >= 0
        window = max(1, round(self.hours * panel.hour))
        mean = trailing_mean(panel.filled, past, origins, window)
        return _held(mean, steps)


class Highest(Unfitted, frozen=True):
    """Every coming bin looks like the largest of the last `hours`: a dip ends as it began."""

    hours: float

    def path(self, panel: Panel, fit: tuple[Reals, ...], origins: Ints, steps: Ints) -> Floats:
        """[series, origin, step]; NaN before the first known bin."""
        window = max(1, round(self.hours * panel.hour))
        column = np.maximum(origins[:, None] - np.arange(window), 0)
        highest = panel.filled[:, column].max(axis=2)
        known = panel.newest[:, origins] >= 0
        return _held(np.where(known, highest, np.nan), steps)


def _held(value: Floats, steps: Ints) -> Floats:
    return np.repeat(value[:, :, None], steps.size, axis=2)
