"""How far the stack has strayed lately: errors come in runs, and the last ones tell of the next.

Volatility clusters (Engle 1982); the errors of a forecast tell it better than the moves of what is
forecast, part of which was foreseen. The replay knows the stack's errors at its origins; between
two replays what the stack says is kept until its targets have come.
"""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.feedback import moved, near_targets, seen_at
from forecasting.grid import Floats, Grid, Ints, Singles
from forecasting.panel import Panel

_HALF_LIFE_HOURS = 2 / 3
# Errors of a replay that are looked back at, in origins.
_LOOKED_BACK = 8


class Strays(msgspec.Struct, frozen=True):
    """`recent` [series, near target] moving mean of the stack's |errors| in roots, NaN before the
    first; `said` [series, bin, near target] its roots at the newest bins, newest last, NaN where
    there were none.
    """

    recent: Singles
    said: Singles


def replayed(error: Floats, grid: Grid) -> Floats:
    """Strays known at each origin of a replay, from its errors; both [series, target, origin].

    NaN for far targets and where no error is known yet.
    """
    size = np.abs(error)
    total, weight = np.zeros_like(size), np.zeros_like(size)
    share = _kept(grid) ** grid.origin_step
    for target in near_targets(grid).tolist():
        come = -(-grid.target_steps[target] // grid.origin_step)
        for back in range(min(_LOOKED_BACK, size.shape[2] - come)):
            then = size[:, target, : size.shape[2] - come - back]
            known = np.isfinite(then)
            total[:, target, come + back :] += share**back * np.where(known, then, 0.0)
            weight[:, target, come + back :] += share**back * known
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)


def at_the_end(error: Floats, grid: Grid) -> Floats:
    """Strays [series, near target] at the last origin of a replay with these errors."""
    longest = -(-grid.hour // grid.origin_step) + _LOOKED_BACK
    return replayed(error[:, :, -longest:], grid)[:, near_targets(grid), -1]


def aligned(old: Strays | None, source: Ints, grid: Grid) -> Strays:
    """Strays of the series whose old rows are `source`; -1 marks a series never seen."""
    count = near_targets(grid).size
    recent = np.full((source.size, count), np.nan, np.float32)
    said = np.full((source.size, grid.hour + 1, count), np.nan, np.float32)
    if old is not None:
        recent[source >= 0] = old.recent[source[source >= 0]]
        said[source >= 0] = old.said[source[source >= 0]]
    return Strays(recent, said)


def followed(strays: Strays, panel: Panel, grid: Grid, closed: int, replay: Singles) -> Strays:
    """Take in the `closed` bins that have come since; `replay` [series, near target] fills in.

    After more than an hour without a call nothing that was said can be compared, and what was
    known is old.
    """
    said = moved(strays.said, closed)
    recent = strays.recent.copy() if closed <= grid.hour else np.full_like(strays.recent, np.nan)
    share = np.float32(1 - _kept(grid))
    for index, target in enumerate(near_targets(grid).tolist()):
        steps = grid.target_steps[target]
        bins = steps if target >= len(grid.horizon_steps) else 1
        for back in reversed(range(min(closed, grid.hour + 1 - steps))):
            size = np.abs(seen_at(panel, bins, back) - said[:, -1 - back - steps, index])
            before = np.where(np.isnan(recent[:, index]), size, recent[:, index])
            here = np.isfinite(size)
            recent[here, index] = (before + share * (size - before))[here]
    return Strays(np.where(np.isnan(recent), replay, recent), said)


def recorded(strays: Strays, panel: Panel, stack: Floats, grid: Grid) -> Strays:
    """Remember what the stack [series, target] says now, unless the feed is silent."""
    said = strays.said.copy()
    fresh = panel.known[:, -1]
    said[fresh, -1] = stack[fresh][:, near_targets(grid)]
    return Strays(strays.recent, said)


def _kept(grid: Grid) -> float:
    """What a bin leaves of the weight of those before it."""
    return float(0.5 ** (1 / (_HALF_LIFE_HOURS * grid.hour)))
