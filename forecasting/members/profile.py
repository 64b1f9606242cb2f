"""The shape of the past days at the same time of day, lifted to the present level.

Both corrections fade: the level ratio of the last hour slowly, the miss of the newest bin fast.
"""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.grid import Floats, Grid, Ints, Reals
from forecasting.panel import Panel
from forecasting.values import WEEK_DAYS

# Days before that weigh next to nothing.
_FURTHEST_DAYS = 14
# What the same day of the week counts more than its age leaves it, as a share of yesterday.
_SAME_WEEKDAY = 1.0


class Profile(msgspec.Struct, frozen=True):
    """Weighted mean of the same slot over past days, times the recent level ratio.

    `day_decay` is the weight of a day against the one after it; the half-lives say how fast the
    level ratio and the newest miss stop counting with the steps ahead.
    """

    day_decay: float = 0.6
    ratio_half_life_hours: float = 12.0
    miss_half_life_hours: float = 2.0
    greatest_ratio: float = 2.0
    smooth_hours: float = 1.0
    votes: bool = True
    regressed: bool = True

    def fit(self, panel: Panel, cut: int, grid: Grid) -> tuple[Floats, ...]:
        """Nothing to keep: the profile is read off the ring at every origin."""
        return ()

    def path(self, panel: Panel, fit: tuple[Reals, ...], origins: Ints, steps: Ints) -> Floats:
        """[series, origin, step]; NaN where no past day knows the slot."""
        low = self._first(panel, origins)
        high = int(origins.max()) + int(steps.max()) + 1
        smooth, raw = day_shape(panel, low, high, self.day_decay, self._half_width(panel))
        ratio, miss, age = self._corrections(panel, smooth, origins, low)
        ahead = origins[:, None] + steps - low
        # The centred smoothing of a slot a full day ahead would look past the origin.
        blind = steps > panel.day - self._half_width(panel)
        shape = np.where(blind, raw[:, ahead], smooth[:, ahead])
        reach = age[:, :, None] + steps
        slow = 0.5 ** (reach / (self.ratio_half_life_hours * panel.hour))
        fast = 0.5 ** (reach / (self.miss_half_life_hours * panel.hour))
        return np.maximum(shape * ratio[:, :, None] ** slow + miss[:, :, None] * fast, 0.0)

    def _first(self, panel: Panel, origins: Ints) -> int:
        """The first column the corrections look at: an hour before the oldest newest known bin."""
        oldest = max(int(panel.newest[:, origins].min()), int(origins.min()) - panel.day)
        return max(0, oldest - panel.hour - self._half_width(panel))

    def _half_width(self, panel: Panel) -> int:
        return int(self.smooth_hours * panel.hour) // 2

    def _corrections(
        self, panel: Panel, shape: Floats, origins: Ints, low: int
    ) -> tuple[Floats, Floats, Floats]:
        """Level ratio, miss of the newest bin, and its age in bins, each [series, origin].

        All are measured at the newest known bin, so that after a gap they have faded further.
        """
        width = min(shape.shape[1], panel.z.shape[1] - low)
        z = panel.z[:, low : low + width]
        both = panel.known[:, low : low + width] & np.isfinite(shape[:, :width])
        expected = np.where(both, shape[:, :width], 0.0)
        recent = _window(np.where(both, z, 0.0), panel.hour)
        usual = _window(expected, panel.hour)
        column = panel.newest[:, origins] - low
        inside = np.maximum(column, 0)
        above = np.take_along_axis(recent, inside, 1)
        below = np.take_along_axis(usual, inside, 1)
        bound = self.greatest_ratio
        ratio = np.clip(_ratio(above, below), 1 / bound, bound)
        # A profile at zero has no ratio to the present; the miss then carries all of it.
        ratio = np.where((column < 0) | np.isnan(ratio), 1.0, ratio)
        miss = np.take_along_axis(z, inside, 1) - np.take_along_axis(shape, inside, 1) * ratio
        miss = np.where((column < 0) | np.isnan(miss), 0.0, miss)
        return ratio, miss, (origins - low - column).astype(np.float64)


class Typical(msgspec.Struct, frozen=True):
    """The shape of the past days as it is, at no other level: for a day ahead."""

    day_decay: float = 0.7
    smooth_hours: float = 1.0
    votes: bool = True
    regressed: bool = True

    def fit(self, panel: Panel, cut: int, grid: Grid) -> tuple[Floats, ...]:
        """Nothing to keep: the profile is read off the ring at every origin."""
        return ()

    def path(self, panel: Panel, fit: tuple[Reals, ...], origins: Ints, steps: Ints) -> Floats:
        """[series, origin, step]; NaN where no past day knows the slot."""
        low, high = int(origins.min()), int(origins.max()) + int(steps.max()) + 1
        half = int(self.smooth_hours * panel.hour) // 2
        smooth, raw = day_shape(panel, low, high, self.day_decay, half)
        ahead = origins[:, None] + steps - low
        return np.where(steps > panel.day - half, raw[:, ahead], smooth[:, ahead])


def day_shape(
    panel: Panel, low: int, high: int, day_decay: float, half_width: int
) -> tuple[Floats, Floats]:
    """Profile of columns low..high, smoothed and raw [series, column]; NaN if unknown.

    Each is the mean of the same slot over two weeks, weighted `day_decay` per day, the same day
    of the week above that; the smooth one also over `half_width` bins to either side.
    """
    total = np.zeros((panel.z.shape[0], high - low))
    weight = np.zeros_like(total)
    for days in range(1, min((high - 1) // panel.day, _FURTHEST_DAYS) + 1):
        start = max(low, days * panel.day)
        stop = min(high, panel.z.shape[1] + days * panel.day)
        source = slice(start - days * panel.day, stop - days * panel.day)
        share = day_decay ** (days - 1) + _SAME_WEEKDAY * (days % WEEK_DAYS == 0)
        total[:, start - low : stop - low] += share * panel.z[:, source]
        weight[:, start - low : stop - low] += share * panel.known[:, source]
    raw = _ratio(total, weight)
    if not half_width:
        return raw, raw
    return _ratio(_box_sum(total, half_width), _box_sum(weight, half_width)), raw


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def _box_sum(values: Floats, half: int) -> Floats:
    """Centred moving sums along the last axis, cut off at the ends."""
    total = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=total[:, 1:])
    column = np.arange(values.shape[1])
    high = np.minimum(column + half + 1, values.shape[1])
    return total[:, high] - total[:, np.maximum(column - half, 0)]


def _window(values: Floats, width: int) -> Floats:
    """Moving sums over the `width` columns that end at each column."""
    total = np.cumsum(values, axis=1)
    total[:, width:] -= total[:, :-width].copy()
    return total
