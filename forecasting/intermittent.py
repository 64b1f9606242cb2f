"""Series that are off most of the time: the probability of being on, and how much then.

A root plus a symmetric error says little about a series that is zero in three bins of four. Here a
target is first an event, "on at that time" or "on at any time within the lead", whose probability
is a logistic regression on what is on now, how long it has been off, how busy the last day was,
and how often the same event came true at this time on the days before. The size of an event is a
quantile function of past sizes, relative to the present size while the series is on. A quantile
tau of the mixture is 0 where the probability is at most 1 - tau, else the size's quantile at
1 - (1 - tau) / probability.
"""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.calibration import weighted_quantiles
from forecasting.grid import Bools, Floats, Grid, Ints, Singles
from forecasting.panel import Panel

# A series is intermittent below this share of bins that are not zero; it must have been on in
# this many bins, of this many days, for its events to be learnt.
_MOST_ON = 0.25
_LEAST_ON_BINS = 6
_LEAST_DAYS = 3.0
_ORIGINS_PER_HOUR = 2
_DAYS_BACK = 13
_DAY_DECAY = 0.85
_PROFILE_PRIOR_DAYS = 1.0
# Hours either side over which "at this time" is smoothed for a single bin.
_BLUR_HOURS = 0.25
_RECENT_HOURS = (1.0, 6.0)
_HALF_LIFE_DAYS = 7.0
_RIDGE = 0.1
_STEPS_OF_NEWTON = 8
# Neighbouring origins share their event, so each counts for less than a whole one.
_ORIGIN_WORTH = 0.5
_LEVELS = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.94, 0.97, 0.985, 0.995)
# A size not seen yet: a part of an event, this much above the largest root.
_UNSEEN_RISE = 1.15
_UNSEEN_WORTH = 0.3
_LEAST_EVENTS = 4
_GREATEST_RATIO = 5.0


class Intermittent(msgspec.Struct, frozen=True):
    """What was learnt, first axis the series.

    `slope` [series, target, feature] of the log odds; NaN where not learnt. `size`
    [series, target, level] roots of events seen from an off bin, and from an on bin `size_on`;
    `ratio` the latter relative to the root at the origin; `follows` [series, target] whether that
    is the tighter one.
    """

    slope: Singles
    size: Singles
    size_on: Singles
    ratio: Singles
    follows: Bools


class _Look(msgspec.Struct, frozen=True):
    """What is known at some origins: `features` [series, target, origin, feature], `on` and
    `root` [series, origin] of the newest known bin.
    """

    features: Floats
    on: Bools
    root: Floats


def is_intermittent(on: Ints, known: Ints, grid: Grid) -> Bools:
    """Which series are off most of the time, and have been on often enough to learn from.

    `on`, `known` [series]: bins that are not zero, and known bins.
    """
    long = known >= _LEAST_DAYS * grid.day
    return long & (on >= _LEAST_ON_BINS) & (on < _MOST_ON * known)


def fit_intermittent(panel: Panel, grid: Grid) -> Intermittent:
    """Learn from the events of the ring; about 200 bytes per target and series."""
    width = panel.z.shape[1]
    every = max(1, grid.hour // _ORIGINS_PER_HOUR)
    origins = np.arange(width - 1, panel.day, -every)[::-1]
    look = _looked(panel, grid, origins)
    event, size = _events(panel, grid, origins)
    recency = 0.5 ** ((width - 1 - origins) / (_HALF_LIFE_DAYS * panel.day))
    seen = panel.newest[:, origins] >= 0
    weight = np.where(np.isfinite(event) & seen[:, None], recency, 0.0)
    slope = _logistic(look.features, np.nan_to_num(event), weight * _ORIGIN_WORTH)
    happened = (event > 0) & (weight > 0)
    on = look.on[:, None]
    ratio = np.clip(size / np.maximum(look.root, 1e-12)[:, None], 0, _GREATEST_RATIO)
    sizes = [
        _size_levels(np.where(happened & which, value, np.nan), recency)
        for which, value in ((~on, size), (on, size), (on, ratio))
    ]
    either = _size_levels(np.where(happened, size, np.nan), recency)
    off, held = (np.where(np.isnan(one), either, one) for one in sizes[:2])
    follows = _spread(sizes[2]) < _spread(sizes[1])
    small = [one.astype(np.float32) for one in (slope, off, held, sizes[2])]
    return Intermittent(small[0], small[1], small[2], small[3], follows)


def intermittent_roots(panel: Panel, grid: Grid, learnt: Intermittent) -> Floats:
    """Quantiles of every target from the last column, as roots [series, target, quantile].

    NaN for series of which nothing was learnt.
    """
    look = _looked(panel, grid, np.array([panel.z.shape[1] - 1]))
    odds = (look.features[:, :, 0] * learnt.slope).sum(axis=-1)
    chance = 1 / (1 + np.exp(-np.clip(odds, -30, 30)))
    on = look.on[:, 0][:, None, None]
    held = np.where(
        learnt.follows[..., None], learnt.ratio * look.root[:, 0][:, None, None], learnt.size_on
    )
    levels = np.where(on, held, learnt.size).astype(np.float64)
    within = 1 - (1 - np.array(grid.quantiles)) / np.maximum(chance, 1e-12)[..., None]
    roots = np.where(within > 0, _interpolated(levels, within), 0.0)
    return np.where(np.isfinite(chance)[..., None], roots, np.nan)


def _windows(grid: Grid) -> tuple[Ints, Ints]:
    """Bins ahead (low, high] of each target, horizons first."""
    high = np.array(grid.target_steps, dtype=np.int64)
    single = np.arange(high.size) < len(grid.horizon_steps)
    return np.where(single, high - 1, 0), high


def _looked(panel: Panel, grid: Grid, origins: Ints) -> _Look:
    on = (panel.z > 0) & panel.known
    newest = np.maximum(panel.newest[:, origins], 0)
    root = np.take_along_axis(panel.z, newest, 1)
    columns = np.arange(on.shape[1])
    last_on = np.maximum.accumulate(np.where(on, columns, -(10**6)), axis=1)[:, origins]
    off_hours = (origins - last_on) / grid.hour
    on_now = root > 0
    total = _before(on)
    day_ago = np.maximum(origins + 1 - panel.day, 0)
    busy = (total[:, origins + 1] - total[:, day_ago]) / panel.day
    plain = [
        np.ones_like(busy),
        on_now.astype(np.float64),
        *(np.exp(-off_hours / hours) for hours in _RECENT_HOURS),
        np.sqrt(busy),
    ]
    usual = _usual(panel, grid, origins, on)
    shape = (*usual.shape, len(plain) + 1)
    features = np.empty(shape)
    for index, one in enumerate(plain):
        features[..., index] = one[:, None]
    features[..., -1] = usual
    return _Look(features, on_now, root)


def _usual(panel: Panel, grid: Grid, origins: Ints, on: Bools) -> Floats:
    """Log odds of the event at this time on the days before [series, target, origin]."""
    low, high = _windows(grid)
    single = np.arange(high.size) < len(grid.horizon_steps)
    blur = np.where(single, max(1, round(_BLUR_HOURS * grid.hour)), 0)
    count, known = _before(on), _before(panel.known)
    base = (on.sum(axis=1) + 1.0) / (panel.known.sum(axis=1) + 8.0)
    prior = np.where(single, base[:, None], 1 - (1 - base[:, None]) ** np.sqrt(high))
    total = _PROFILE_PRIOR_DAYS * np.repeat(prior[:, :, None], origins.size, axis=2)
    weight = np.full_like(total, _PROFILE_PRIOR_DAYS)
    for days in range(1, _DAYS_BACK + 1):
        back = origins - days * panel.day + 1
        start = np.clip(back + (low - blur)[:, None], 0, origins + 1)
        stop = np.clip(back + (high + blur)[:, None], 0, origins + 1)
        there = known[:, stop] - known[:, start]
        hits = count[:, stop] - count[:, start]
        share = np.where(single[:, None], hits / np.maximum(there, 1), hits > 0)
        counts = (2 * there >= (high - low)[:, None]) * _DAY_DECAY ** (days - 1)
        total += share * counts
        weight += counts
    chance = np.clip(total / weight, 1e-3, 1 - 1e-3)
    odds: Floats = np.log(chance / (1 - chance)) / 2
    return odds


def _events(panel: Panel, grid: Grid, origins: Ints) -> tuple[Floats, Floats]:
    """Whether each target was on (1.0, 0.0, NaN if unknown), and its largest root.

    Both [series, target, origin].
    """
    low, high = _windows(grid)
    width = panel.z.shape[1]
    known = _before(panel.known)
    event = np.full((panel.z.shape[0], high.size, origins.size), np.nan)
    size = np.zeros_like(event)
    longest = int(high.max())
    padded = np.concatenate([panel.z, np.zeros((panel.z.shape[0], longest))], axis=1)
    path = padded[:, origins[:, None] + np.arange(1, longest + 1)]
    peak = np.maximum.accumulate(path, axis=2)
    for target, (start, stop) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        size[:, target] = (path if stop - start == 1 else peak)[:, :, stop - 1]
        last = np.minimum(origins + stop + 1, width)
        there = known[:, last] - known[:, np.minimum(origins + start + 1, width)]
        whole = (4 * there >= 3 * (stop - start)) & (origins + stop < width)
        event[:, target] = np.where(whole, size[:, target] > 0, np.nan)
    return event, size


def _logistic(x: Floats, event: Floats, weight: Floats) -> Floats:
    """Ridge logistic regression by Newton's method: slopes [series, target, feature].

    The last feature, log odds of the days before, is drawn to 1 / scale, the others to 0.
    """
    centre = np.zeros(x.shape[-1])
    centre[-1] = 0.3
    ridge = np.full(x.shape[-1], _RIDGE)
    ridge[0] = 0.1
    slope = np.zeros((*x.shape[:2], x.shape[-1])) + centre
    turned = x.swapaxes(-1, -2)
    for _ in range(_STEPS_OF_NEWTON):
        odds = np.clip((x @ slope[..., None])[..., 0], -15, 15)
        chance = 1 / (1 + np.exp(-odds))
        pull = (turned @ (weight * (event - chance))[..., None])[..., 0]
        bend = np.maximum(chance * (1 - chance), 1e-4) * weight
        hessian = turned @ (x * bend[..., None]) + np.diag(ridge)
        step = np.linalg.solve(hessian, (pull - ridge * (slope - centre))[..., None])[..., 0]
        slope = slope + np.clip(step, -2.0, 2.0)
    return slope


def _size_levels(size: Floats, recency: Floats) -> Floats:
    """Roots of events at `_LEVELS` [series, target, level]; NaN below a few events."""
    count = np.isfinite(size).sum(axis=-1)
    largest = np.nanmax(np.where(np.isfinite(size), size, 0.0), axis=-1, initial=0.0)
    more = np.concatenate([size, (largest * _UNSEEN_RISE)[..., None]], axis=-1)
    weight = np.append(recency, _UNSEEN_WORTH)
    found = weighted_quantiles(more, weight, _LEVELS)
    return np.where((count >= _LEAST_EVENTS)[..., None], found, np.nan)


def _spread(levels: Floats) -> Floats:
    """Relative width of the middle nine tenths [series, target]; infinite where unknown."""
    low, middle, high = levels[..., 1], levels[..., 5], levels[..., 11]
    width = (high - low) / np.where(middle > 0, middle, 1)
    return np.where(np.isfinite(width) & (middle > 0), width, np.inf)


def _interpolated(levels: Floats, at: Floats) -> Floats:
    """Values of quantile functions [..., level] at the levels `at` [..., quantile]."""
    grid = np.array(_LEVELS)
    index = np.clip(np.searchsorted(grid, at) - 1, 0, grid.size - 2)
    part = np.clip((at - grid[index]) / (grid[index + 1] - grid[index]), 0, 1)
    low = np.take_along_axis(levels, index, -1)
    high = np.take_along_axis(levels, index + 1, -1)
    value: Floats = low + part * (high - low)
    return value


def _before(values: Bools) -> Ints:
    """How many hold before each column, so that differences count windows."""
    out = np.zeros((values.shape[0], values.shape[1] + 1), dtype=np.int64)
    np.cumsum(values, axis=1, out=out[:, 1:])
    return out
