"""What members look at: all series on the square-root scale, with gaps marked and filled.

The square root makes the spread of counts nearly independent of their level (Bartlett 1936), so
that one residual pool serves night and day.
"""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.grid import Bools, Floats, Grid, Ints
from forecasting.store import Store

# Part of the daily mean that counts as spread even where a series never moves.
_LEAST_SPREAD = 0.01
# A gap is filled with the last value for this long, then with the same slot of the day before.
_HELD_HOURS = 0.5


class Panel(msgspec.Struct, frozen=True):
    """Roots of rates `z` [series, bin], 0.0 where not `known`; `first` is the number of bin 0.

    `newest` [series, bin] is the column of the newest known bin up to and including each bin,
    -1 where there is none yet. `filled` are the roots with every gap filled from its past, 0.0
    before the first known bin: for means and lags, never for errors. `closes` marks bins in
    which an observation ended.
    """

    z: Floats
    known: Bools
    newest: Ints
    filled: Floats
    closes: Bools
    first: int
    day: int
    hour: int

    def take(self, rows: Ints) -> Panel:
        """The same panel with only these series."""
        return Panel(
            self.z[rows],
            self.known[rows],
            self.newest[rows],
            self.filled[rows],
            self.closes[rows],
            self.first,
            self.day,
            self.hour,
        )


def make_panel(store: Store, grid: Grid) -> Panel:
    """The store as members see it: outages masked, square roots taken."""
    known = store.known
    z = np.where(known, store.rate, 0)
    np.sqrt(z, out=z)
    return panel_of(z.astype(np.float64), known, store.closes, store.end - z.shape[1], grid)


def panel_of(z: Floats, known: Bools, closes: Bools, first: int, grid: Grid) -> Panel:
    """A panel from roots `z`, 0.0 where not `known`."""
    columns = np.arange(z.shape[1])
    if known.all():
        newest = np.broadcast_to(columns, z.shape)
        return Panel(z, known, newest, z, closes, first, grid.day, grid.hour)
    newest = np.maximum.accumulate(np.where(known, columns, -1), axis=1)
    filled = _filled(z, newest, grid)
    return Panel(z, known, newest, filled, closes, first, grid.day, grid.hour)


def _filled(z: Floats, newest: Ints, grid: Grid) -> Floats:
    held = np.take_along_axis(z, np.maximum(newest, 0), axis=1)
    long = np.arange(z.shape[1]) - newest > max(1, round(_HELD_HOURS * grid.hour))
    for start in range(grid.day, z.shape[1], grid.day):
        stop = min(start + grid.day, z.shape[1])
        before = slice(start - grid.day, stop - grid.day)
        again = long[:, start:stop] & (newest[:, before] >= 0)
        held[:, start:stop] = np.where(again, held[:, before], held[:, start:stop])
    return held


def at_newest(panel: Panel, values: Floats, origins: Ints) -> tuple[Floats, Ints]:
    """`values` [series, bin] at the newest known bin per origin, and its age in bins.

    Both are [series, origin]; NaN where nothing is known yet.
    """
    column = panel.newest[:, origins]
    found = np.take_along_axis(values, np.maximum(column, 0), axis=1)
    return np.where(column >= 0, found, np.nan), origins - column


def level(panel: Panel, origins: Ints) -> Floats:
    """Mean root over the day that ends at each origin [series, origin]; 0.0 if all unknown."""
    return np.nan_to_num(trailing_mean(panel.z, panel.known, origins, panel.day))


def spread(panel: Panel, origins: Ints) -> Floats:
    """How much the roots move from bin to bin around each origin [series, origin].

    Mean absolute change, half from the last hour, half from the last day, plus 1 % of the level.
    """
    low = max(0, int(origins.min()) - panel.day)
    known, z = panel.known[:, low:], panel.z[:, low:]
    both = known[:, 1:] & known[:, :-1]
    change = np.where(both, np.abs(np.diff(z, axis=1)), 0.0)
    hour = trailing_mean(change, both, origins - low - 1, panel.hour)
    day = trailing_mean(change, both, origins - low - 1, panel.day)
    hour = np.where(np.isnan(hour), day, hour)
    return np.nan_to_num(hour + day) / 2 + _LEAST_SPREAD * level(panel, origins)


def trailing_mean(values: Floats, known: Bools, origins: Ints, window: int) -> Floats:
    """Mean of the known values in the `window` bins up to each origin; NaN where none is."""
    low = max(0, int(origins.min()) - window + 1)
    total = running(values[:, low:])
    count = running(known[:, low:])
    stop = np.maximum(origins - low + 1, 0)
    start = np.maximum(stop - window, 0)
    seen = count[:, stop] - count[:, start]
    summed = total[:, stop] - total[:, start]
    return np.divide(summed, seen, out=np.full_like(summed, np.nan), where=seen > 0)


def running(values: Floats | Bools) -> Floats:
    """Sums of everything before each column, so that window sums are differences."""
    out = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=out[:, 1:])
    return out
