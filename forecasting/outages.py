"""Fleet-wide zeros: the whole fleet going silent at once is a broken feed, not demand.

Read as demand, such a gap would scale everything to nothing and poison every residual after it.
"""

from __future__ import annotations

import numpy as np

from forecasting.grid import Bools, Floats, Grid, Singles

# The fleet was clearly busy if the bin before the silence carried this share of its daily mean.
_BUSY_SHARE = 0.2
# A silence is believed after this long: a fleet may really have been switched off.
_BELIEVED_AFTER_HOURS = 6
# Silences that come more often than this are how the fleet behaves (empty nights, a lone client).
_RARE_PER_DAY = 0.5
_RARE_AT_LEAST = 2


def outage_bins(rate: Singles, known: Bools, grid: Grid) -> Bools:
    """The bins [bin] in which every known series is exactly 0 although the fleet was busy.

    `rate`, `known`: [series, bin]. Of a run of silent bins the first six hours are an outage,
    unless silences are common in this history.
    """
    seen: Bools = np.asarray(known.any(axis=0))
    silent = seen & ~((rate > 0) & known).any(axis=0)
    out = np.zeros(silent.size, dtype=np.bool_)
    starts = np.flatnonzero(silent & ~np.append(False, silent[:-1]))
    if starts.size > _RARE_AT_LEAST + _RARE_PER_DAY * seen.sum() / grid.day:
        return out
    total = np.where(known, rate, 0).sum(axis=0, dtype=np.float64) if starts.size else np.zeros(0)
    for start in starts.tolist():
        if _busy_before(total, seen, start, grid.day):
            busy_again = np.append(seen & ~silent, True)[start:]
            stop = start + int(np.argmax(busy_again))
            out[start : min(stop, start + _BELIEVED_AFTER_HOURS * grid.hour)] = True
    return out & silent


def _busy_before(total: Floats, seen: Bools, start: int, day: int) -> bool:
    before = slice(max(0, start - day), start)
    recent = total[before][seen[before]]
    return bool(recent.size and recent[-1] >= _BUSY_SHARE * recent.mean() > 0)
