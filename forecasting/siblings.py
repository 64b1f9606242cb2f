"""The first day of a series: what its siblings teach about a series that has no past of its own.

What is learnt from the series that have a past is free of scale: how far the root of a target
lies from the recent root, as a share of it, in quantiles. They follow from what a young series
can know of itself - its restlessness, where its newest bin stands against its recent mean - and
from the shape of day that its siblings (same metric: the part of the key after the last slash)
have in common. Learnt as if each old series were young: with only its newest bins known.
Its own misses so far then move the quantiles, the more the more of them there are.

A series without a single known bin has no scale either: its quantiles are those of the roots of
its siblings at that time of day.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from forecasting.calibration import weighted_quantiles
from forecasting.grid import Bools, Floats, Grid, Ints
from forecasting.panel import Panel
from forecasting.scales import MEDIAN, near

# From this age on a series is somebody's sibling.
_OLD_DAYS = 2.0
_LEAST_MODELS = 3
_MOST_SIBLINGS = 48
_LEARNT_DAYS = 7
_ORIGINS_PER_DAY = 12
_DAYS_OF_SHAPE = 7
# A series is learnt from only where it is on most of the time.
_LEAST_ON = 0.5
# What is known of a young series depends on its age: hours up to which each fit holds, and the
# hours of past that an old series is given when that fit is learnt.
_AGES_HOURS = (0.25, 1.0, 3.0, np.inf)
_GIVEN_HOURS = (0.17, 0.5, 2.0, 6.0)
_ITERATIONS = 30
_RIDGE = 1e-4
# Bounds of the scale-free features and answers: a scale near zero makes ratios explode.
_GREATEST_FEATURE = 3.0
_GREATEST_RISE = 4.0
# Own misses that outweigh what the siblings say: spans as long as the target is ahead.
_PRIOR_MISSES = 20.0
# Own strays that outweigh the siblings, counted in the same way.
_PRIOR_STRAYS = 40.0
_FEATURES = 6
_LONGER = 4
# Rows count by the inverse of their restlessness, no less than this share of the scale, for near
# targets and for far ones: wild series would teach the calm ones otherwise.
_LEAST_UNIT = (0.02, 0.3)


class Siblings(msgspec.Struct, frozen=True):
    """What is learnt from the old series.

    `slope` [age, target, quantile, feature]; `shape` [metric, slot of the day] log root against
    its daily mean; `sizes` [metric, slot, quantile] roots of the siblings. `metrics` are the names.
    """

    metrics: tuple[str, ...]
    slope: Floats
    shape: Floats
    sizes: Floats


class _Look(msgspec.Struct, frozen=True):
    """Features [series, origin, target, feature], scales [series, origin] in roots, and the newest
    root `carried` along the siblings' day to each target [series, origin, target].
    """

    features: Floats
    scale: Floats
    carried: Floats


def metric_of(key: str) -> str:
    """What a series counts; series of one metric are siblings."""
    return key.rpartition("/")[2]


def is_old(on: Ints, known: Ints, grid: Grid) -> Bools:
    """Which series can be learnt from; `on`, `known` [series] as bins that are not zero, known."""
    return (known >= _OLD_DAYS * grid.day) & (on >= _LEAST_ON * known)


def learn_siblings(keys: Sequence[str], past: Panel, grid: Grid) -> Siblings | None:
    """Learn from series with a past; None where their models are too few to say anything."""
    if len({key.rpartition("/")[0] or key for key in keys}) < _LEAST_MODELS:
        return None
    names = [metric_of(key) for key in keys]
    metrics = tuple(sorted(set(names)))
    which = np.searchsorted(metrics, names)
    shape, sizes = _by_metric(past, which, len(metrics), grid)
    some = np.unique(np.linspace(0, len(keys) - 1, min(len(keys), _MOST_SIBLINGS)).astype(np.int64))
    taught = past.take(some)
    # One more than a divisor of the day, so that origins fall on all times of the hour.
    step = past.day // _ORIGINS_PER_DAY + 1
    width = past.z.shape[1]
    first = max(width - _LEARNT_DAYS * past.day, past.hour)
    origins = np.arange(first, width - 1, step)
    seen = _seen(taught, grid, origins)
    slope = [
        _slopes(
            _looked(taught, shape[which[some]], grid, origins, round(hours * past.hour)),
            seen,
            grid,
        )
        for hours in _GIVEN_HOURS
    ]
    return Siblings(metrics, np.stack(slope), shape, sizes)


def sibling_roots(keys: Sequence[str], panel: Panel, grid: Grid, learnt: Siblings) -> Floats:
    """Quantiles of every target from the last column, as roots [series, target, quantile].

    For series younger than a day or so; NaN where nothing but zeros was seen so far.
    """
    which = _metric_rows(keys, learnt)
    width = panel.z.shape[1]
    age = panel.known.sum(axis=1)
    first = np.where(panel.known.any(axis=1), np.argmax(panel.known, axis=1), width)
    born = int(first.min(initial=width - 1))
    origins = np.arange(min(born, width - 1), width)
    given = round(_GIVEN_HOURS[-1] * panel.hour)
    look = _looked(panel, learnt.shape[which], grid, origins, given)
    life = origins - first[:, None] + 1
    ages = np.searchsorted(np.array(_AGES_HOURS) * panel.hour, np.maximum(life, 1))
    said = np.einsum("sotf,sotqf->sotq", look.features, learnt.slope[ages])
    roots = np.clip(said, 0, _GREATEST_RISE) * look.scale[..., None, None]
    found = _with_own_errors(panel, grid, origins, life > 0, roots, look)
    found = np.where((look.scale[:, -1] > 0)[:, None, None], found, np.nan)
    slots = (panel.first + width - 1 + np.array(grid.target_steps)) % panel.day
    unborn = learnt.sizes[which[:, None], slots]
    return np.where((age == 0)[:, None, None], unborn, found)


def _metric_rows(keys: Sequence[str], learnt: Siblings) -> Ints:
    """The row of each series' metric; of one that has no siblings the first."""
    row_of = {name: row for row, name in enumerate(learnt.metrics)}
    return np.array([row_of.get(metric_of(key), 0) for key in keys], dtype=np.int64)


def _by_metric(past: Panel, which: Ints, count: int, grid: Grid) -> tuple[Floats, Floats]:
    """Shape of day [metric, slot] and quantiles of roots [metric, slot, quantile]."""
    days = min(_DAYS_OF_SHAPE, past.z.shape[1] // past.day)
    z = past.z[:, -days * past.day :].reshape(-1, days, past.day)
    there = past.known[:, -days * past.day :].reshape(-1, days, past.day)
    slot = (past.first + past.z.shape[1]) % past.day  # of the first of these columns
    z, there = np.roll(z, slot, axis=2), np.roll(there, slot, axis=2)
    mean = z.sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    level = np.maximum(z.sum(axis=(1, 2)) / np.maximum(there.sum(axis=(1, 2)), 1), 1e-12)
    share = np.log(np.clip(_smooth(mean, past.hour) / level[:, None], 0.05, 20.0))
    shape = np.stack([np.median(share[which == metric], axis=0) for metric in range(count)])
    pooled = np.where(there, z, np.nan)
    sizes = [
        np.nanquantile(
            np.concatenate(
                [
                    pooled[which == metric].reshape(-1, past.day),
                    level[which == metric][:, None] + np.zeros(past.day),
                ]
            ),
            grid.quantiles,
            axis=0,
        ).T
        for metric in range(count)
    ]
    return shape, np.stack(sizes)


def _smooth(values: Floats, width: int) -> Floats:
    """Centred mean over `width` slots of a day that goes round."""
    turned = np.concatenate([values[:, -width:], values, values[:, :width]], axis=1)
    total = np.cumsum(turned, axis=1)
    low = width - width // 2 - 1
    smooth: Floats = (total[:, low + width :] - total[:, low:-width])[:, : values.shape[1]] / width
    return smooth


def _looked(panel: Panel, shape: Floats, grid: Grid, origins: Ints, given: int) -> _Look:
    """What is known at each origin from the `given` newest bins."""
    hour = panel.hour
    recent = _mean_before(panel.z, panel.known, origins, min(given, hour))
    both = panel.known[:, 1:] & panel.known[:, :-1]
    change = np.where(both, np.abs(np.diff(panel.z, axis=1)), 0.0)
    lately = _mean_before(change, both, origins - 1, min(given, hour))
    longer = _mean_before(change, both, origins - 1, given)
    last = np.take_along_axis(panel.z, np.maximum(panel.newest[:, origins], 0), 1)
    scale = np.nan_to_num(_mean_before(panel.z, panel.known, origins, given))
    safe = np.where(scale > 0, scale, 1.0)
    rise = np.expm1(np.clip(_drift(panel, shape, grid, origins), -1, 1))
    now = _bounded(last / safe)
    plain = [
        np.ones_like(last),
        now,
        _bounded(np.nan_to_num(recent) / safe),
        _bounded(np.nan_to_num(lately) / safe),
        _bounded(np.nan_to_num(longer) / safe),
    ]
    features = np.empty((*last.shape, rise.shape[-1], _FEATURES))
    for index, one in enumerate(plain):
        features[..., index] = one[..., None]
    features[..., -1] = rise * now[..., None]
    return _Look(features, scale, last[..., None] * (1 + rise))


def _bounded(values: Floats) -> Floats:
    return np.minimum(values, _GREATEST_FEATURE)


def _drift(panel: Panel, shape: Floats, grid: Grid, origins: Ints) -> Floats:
    """Log rise of the siblings' day from each origin to each target [series, origin, target]."""
    slot = (panel.first + origins) % panel.day
    ahead = shape[:, (slot[:, None] + grid.steps) % panel.day]
    return grid.target_values(ahead) - shape[:, slot][..., None]


def _seen(panel: Panel, grid: Grid, origins: Ints) -> Floats:
    """Roots of the targets as they came [series, origin, target]; NaN where not known."""
    ahead = origins[:, None] + grid.steps
    over = ahead < panel.z.shape[1]
    inside = np.where(over, ahead, 0)
    known = panel.known[:, inside] & over
    return grid.target_values(np.where(known, panel.z[:, inside], np.nan))


def _slopes(look: _Look, seen: Floats, grid: Grid) -> Floats:
    """Linear quantile regressions, pooled over series [target, quantile, feature]."""
    scale = look.scale[..., None]
    rise = np.where(scale > 0, seen / np.where(scale > 0, scale, 1), np.nan)
    rise = np.minimum(rise, _GREATEST_RISE)
    floor = np.where(near(np.array(grid.target_steps), grid), *_LEAST_UNIT)
    unit = look.features[..., _LONGER] + floor
    targets = rise.shape[-1]
    y = (rise / unit).reshape(-1, targets).T
    x = (look.features / unit[..., None]).reshape(-1, targets, _FEATURES).transpose(1, 0, 2)
    slope = np.stack([_regressed(x, y, tau) for tau in grid.quantiles], axis=1)
    # The regression's answer is in units; what it lacks to cover is a number of units.
    lacking = _lacking(x, y, slope, grid)
    slope[..., 0] += lacking * floor[:, None]
    slope[..., _LONGER] += lacking
    return slope


def _regressed(x: Floats, y: Floats, tau: float) -> Floats:
    """Quantile regression by majorisation (Hunter & Lange 2000) [target, feature].

    `x` [target, row, feature], `y` [target, row], NaN rows do not count.
    """
    there = np.isfinite(y)
    x = np.where(there[..., None], x, 0.0)
    y = np.where(there, y, 0.0)
    turned = x.swapaxes(-1, -2)
    lean = (2 * tau - 1) * x.sum(axis=1)
    size = _RIDGE * (x**2).sum(axis=1) + 1e-9
    slope = np.zeros((x.shape[0], x.shape[-1]))
    for _ in range(_ITERATIONS):
        miss = y - (x @ slope[..., None])[..., 0]
        weight = there / (np.abs(miss) + 1e-2)
        gram = turned @ (x * weight[..., None]) + size[:, None] * np.eye(x.shape[-1])
        right = (turned @ (weight * y)[..., None])[..., 0] + lean
        slope = np.linalg.solve(gram, right[..., None])[..., 0]
    return slope


def _lacking(x: Floats, y: Floats, slope: Floats, grid: Grid) -> Floats:
    """What must be added so that each quantile's share of rows lies at or below its answer.

    [target, quantile], in the units of `y` [target, row].
    """
    left = y[:, None] - np.einsum("trf,tqf->tqr", x, slope)
    tau = np.array(grid.quantiles)[:, None]
    even = np.ones(left.shape[-1])
    return np.nan_to_num(weighted_quantiles(left, even, tau)[..., 0])


def _with_own_errors(
    panel: Panel, grid: Grid, origins: Ints, lives: Bools, roots: Floats, look: _Look
) -> Floats:
    """The newest of `roots` [series, origin, target, quantile] after what came of the older ones.

    Between the siblings' quantiles, moved by how they missed, and the newest bin, carried along
    the siblings' day, plus the quantiles of the series' own strays from that; these count the
    more of them are known.
    """
    scale, carried = look.scale, look.carried
    unit = np.where(scale > 0, scale, 1.0)[..., None]
    seen = np.where(lives[..., None] & (scale > 0)[..., None], _seen(panel, grid, origins), np.nan)
    independent = np.isfinite(seen).sum(axis=1) / np.sqrt(grid.target_steps)
    spared = independent / (independent + 1.0)
    moved, own = (independent / (independent + prior) for prior in (_PRIOR_MISSES, _PRIOR_STRAYS))
    out = np.empty((roots.shape[0], *roots.shape[2:]))
    for index, tau in enumerate(grid.quantiles):
        goal = (1 - (1 - tau) * spared if tau > MEDIAN else np.full_like(spared, tau))[..., None]
        said = roots[..., index]
        miss, stray = (
            np.nan_to_num(_quantile_over_origins(_clipped((seen - then) / unit), goal))
            * unit[:, -1]
            for then in (said, carried)
        )
        siblings = said[:, -1] + moved * miss
        out[..., index] = siblings + own * (carried[:, -1] + stray - siblings)
    return np.maximum(out, 0.0)


def _clipped(rise: Floats) -> Floats:
    return np.clip(rise, -_GREATEST_RISE, _GREATEST_RISE)


def _quantile_over_origins(values: Floats, goal: Floats) -> Floats:
    """Quantiles of [series, origin, target] over the origins [series, target]; NaN if none."""
    turned = values.swapaxes(1, 2)
    found: Floats = weighted_quantiles(turned, np.ones(turned.shape[-1]), goal)[..., 0]
    return found


def _mean_before(values: Floats, known: Bools, origins: Ints, window: int) -> Floats:
    """Mean of the known values in the `window` bins up to each origin; NaN where none is."""
    total = np.concatenate([np.zeros((values.shape[0], 1)), np.cumsum(values * known, axis=1)], 1)
    count = np.concatenate([np.zeros((values.shape[0], 1)), np.cumsum(known, axis=1)], 1)
    stop = np.maximum(origins + 1, 0)
    start = np.maximum(stop - max(window, 1), 0)
    seen = count[:, stop] - count[:, start]
    summed = total[:, stop] - total[:, start]
    mean: Floats = np.divide(summed, seen, out=np.full_like(summed, np.nan), where=seen > 0)
    return mean
