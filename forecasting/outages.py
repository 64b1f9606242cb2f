"""Zeros that are a broken feed and not demand: a whole fleet, or one source of it, at once.

Read as demand, such a gap would scale everything to nothing and poison every residual after it.
Two rules, both only for silences that are rare in the history and come out of a busy time:
1. every series is exactly 0: the feed of the fleet is broken (also for a fleet of one series);
2. several models, far more than by chance, fall to exactly 0 within two bins: a source is.
A silence is believed after some hours, since a fleet may really have been switched off. A single
model that falls silent while others go on is demand: nothing tells it from a client that left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from forecasting.grid import Bools, Floats, Grid, Ints, Singles

# The fleet was clearly busy if the bin before the silence carried this share of its daily mean.
_BUSY_SHARE = 0.2
# How long a silence is taken for an outage: of the fleet, and of a part of it.
_FLEET_HOURS = 6
_SOURCE_HOURS = 3
# Silences that come more often than this are how the fleet behaves (empty nights, a lone client).
_RARE_PER_DAY = 0.5
_RARE_AT_LEAST = 2
# A series with more silent bins than this share and some hours tells nothing of a source.
_SILENT = 0.05
# Models that fall silent in a bin by chance: their mean and this many standard deviations.
_CHANCE_SIGMAS = 6.0
_LEAST_MODELS = 2


def outages(keys: Sequence[str], rate: Singles, known: Bools, grid: Grid) -> Bools:
    """The known bins [series, bin] whose zero is an outage.

    `rate`, `known` [series, bin]; a key names its model before the last slash.
    """
    silent = known & (rate <= 0)
    out = silent & outage_bins(rate, known, grid)
    count, seen = silent.sum(axis=1), known.sum(axis=1)
    rows = np.flatnonzero((count > 0) & (count <= _SILENT * seen + _FLEET_HOURS * grid.hour))
    if rows.size >= _LEAST_MODELS:
        named = [keys[row].rpartition("/")[0] or keys[row] for row in rows.tolist()]
        models = np.unique(named, return_inverse=True)[1]
        for row, start, stop in _shared(rate[rows], known[rows], silent[rows], models, grid):
            out[rows[row], start:stop] |= silent[rows[row], start:stop]
    return out


def outage_bins(rate: Singles, known: Bools, grid: Grid) -> Bools:
    """The bins [bin] in which every known series is exactly 0 although the fleet was busy.

    `rate`, `known` [series, bin]. Of a run of silent bins the first six hours are an outage,
    unless silences are common in this history.
    """
    seen: Bools = np.asarray(known.any(axis=0))
    quiet = seen & ~(known & (rate > 0)).any(axis=0)
    out = np.zeros(quiet.size, dtype=np.bool_)
    starts = np.flatnonzero(quiet & ~np.append(False, quiet[:-1]))
    if not starts.size or starts.size > _RARE_AT_LEAST + _RARE_PER_DAY * seen.sum() / grid.day:
        return out
    total = np.where(known, rate, 0).sum(axis=0, dtype=np.float64)
    for start in starts.tolist():
        if _busy_before(total, seen, start, grid.day):
            busy_again = np.append(seen & ~quiet, True)[start:]
            stop = start + int(np.argmax(busy_again))
            out[start : min(stop, start + _FLEET_HOURS * grid.hour)] = True
    return out & quiet


def _busy_before(total: Floats, seen: Bools, start: int, day: int) -> bool:
    before = slice(max(0, start - day), start)
    recent = total[before][seen[before]]
    return bool(recent.size and recent[-1] >= _BUSY_SHARE * recent.mean() > 0)


def _shared(
    rate: Singles, known: Bools, silent: Bools, models: Ints, grid: Grid
) -> list[tuple[int, int, int]]:
    """Silences (row, start, stop) that several models entered together."""
    begins = silent.copy()
    begins[:, 1:] &= known[:, :-1] & ~silent[:, :-1]
    begins[:, 0] = False
    often = begins.sum(axis=1) > _RARE_AT_LEAST + _RARE_PER_DAY * known.sum(axis=1) / grid.day
    begins[often] = False
    row, start = np.nonzero(begins)
    sudden = _sudden(rate, known, row, start, grid.day)
    row, start = row[sudden], start[sudden]
    together = _models_together(models[row], start, silent.shape[1])
    found = []
    for one, first in zip(row[together].tolist(), start[together].tolist(), strict=True):
        awake = np.append(known[one] & ~silent[one], True)[first:]
        stop = first + min(int(np.argmax(awake)), _SOURCE_HOURS * grid.hour)
        found.append((one, first, stop))
    return found


def _sudden(rate: Singles, known: Bools, row: Ints, start: Ints, day: int) -> Bools:
    """Which silences came out of a busy time, after at least half a day of bins."""
    if not row.size:
        return np.zeros(0, dtype=np.bool_)
    before = start[:, None] - np.arange(1, day + 1)
    inside = known[row[:, None], np.maximum(before, 0)] & (before >= 0)
    value = np.where(inside, rate[row[:, None], np.maximum(before, 0)], 0.0)
    count = inside.sum(axis=1)
    mean = value.sum(axis=1) / np.maximum(count, 1)
    sudden: Bools = (count >= day // 2) & (value[:, 0] >= _BUSY_SHARE * mean)
    return sudden


def _models_together(models: Ints, start: Ints, width: int) -> Bools:
    """Which silences begin within two bins of those of too many models for chance."""
    pairs = np.unique(start * (int(models.max(initial=0)) + 1) + models)
    each = np.bincount(pairs // (int(models.max(initial=0)) + 1), minlength=width + 1)
    two = each + np.append(each[1:], 0)
    usual = max((pairs.size - float(two.max(initial=0))) / width * 2, 0.0)
    least = max(_LEAST_MODELS, usual + _CHANCE_SIGMAS * np.sqrt(usual))
    many = two >= least
    together: Bools = many[start] | many[np.maximum(start - 1, 0)]
    return together
