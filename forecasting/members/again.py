"""What was, comes again: the same bin an hour or a day before, at full resolution.

A nightly batch that starts at 02:00 sharp, or a job of every full hour, is as sharp here as it
was.
"""

from __future__ import annotations

import numpy as np

from forecasting.grid import Floats, Ints, Reals
from forecasting.members.unfitted import Unfitted
from forecasting.panel import Panel, at_newest, running
from forecasting.values import WEEK_DAYS


class Yesterday(Unfitted, frozen=True):
    """Every coming bin looks like the one 24 hours before it."""

    def path(self, panel: Panel, fit: tuple[Reals, ...], origins: Ints, steps: Ints) -> Floats:
        """[series, origin, step]; NaN where that bin was before the first known one."""
        return _looked_up(panel, origins[:, None] + steps - panel.day)


class LastWeek(Unfitted, frozen=True):
    """Every coming bin looks like the hours around the one seven days before it.

    It knows weekends after one week, but says too little about most days to be regressed on.
    """

    blur_hours: float = 2.0
    regressed: bool = False

    def path(self, panel: Panel, fit: tuple[Reals, ...], origins: Ints, steps: Ints) -> Floats:
        """[series, origin, step]; NaN where those hours were before the first known bin."""
        half = max(1, round(self.blur_hours * panel.hour)) // 2
        middle = origins[:, None] + steps - WEEK_DAYS * panel.day
        low, high = max(int(middle.min()) - half, 0), max(int(middle.max()) + half + 1, 0)
        total = running(panel.filled[:, low:high])
        start = np.clip(middle - half, 0, panel.z.shape[1])
        stop = np.clip(middle + half + 1, 0, panel.z.shape[1])
        known = (middle >= half) & (panel.newest[:, start] >= 0)
        inside = total[:, np.clip(stop - low, 0, None)] - total[:, np.clip(start - low, 0, None)]
        mean = inside / np.maximum(stop - start, 1)
        return np.where(known, mean, np.nan)


class Hourly(Unfitted, frozen=True):
    """Bins of the coming hour look like the same minute of the past hour, later ones like now."""

    votes: bool = False

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
