"""What was, comes again: the same bin an hour or a day before, at full resolution.

A nightly batch that starts at 02:00 sharp, or a job of every full hour, is as sharp here as it
was.
"""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.grid import Floats, Grid, Ints, Reals
from forecasting.panel import Panel, at_newest


class Yesterday(msgspec.Struct, frozen=True):
    """Every coming bin looks like the one 24 hours before it."""

    votes: bool = True

    def fit(self, panel: Panel, cut: int, grid: Grid) -> tuple[Floats, ...]:
        """Nothing to learn."""
        return ()

    def path(self, panel: Panel, fit: tuple[Reals, ...], origins: Ints, steps: Ints) -> Floats:
        """[series, origin, step]; NaN where that bin was before the first known one."""
        return _looked_up(panel, origins[:, None] + steps - panel.day)


class Hourly(msgspec.Struct, frozen=True):
    """Bins of the coming hour look like the same minute of the past hour, later ones like now."""

    votes: bool = False

    def fit(self, panel: Panel, cut: int, grid: Grid) -> tuple[Floats, ...]:
        """Nothing to learn."""
        return ()

    def path(self, panel: Panel, fit: tuple[Reals, ...], origins: Ints, steps: Ints) -> Floats:
        """[series, origin, step]; NaN where that bin was before the first known one."""
        back = _looked_up(panel, origins[:, None] + steps - panel.hour * (steps <= panel.hour))
        now, _ = at_newest(panel, panel.z, origins)
        return np.where(steps <= panel.hour, back, now[:, :, None])


def _looked_up(panel: Panel, column: Ints) -> Floats:
    """Filled roots at these columns [origin, step]; NaN where nothing was known yet."""
    inside = np.clip(column, 0, panel.z.shape[1] - 1)
    known = (column >= 0) & (panel.newest[:, inside] >= 0)
    return np.where(known, panel.filled[:, inside], np.nan)
