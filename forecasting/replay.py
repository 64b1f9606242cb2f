"""Rolling origins over the recent past: what the members would have said, and what came.

Members and stack are refitted at the start of each day of origins, of each half day while less than
a week is known, and see nothing after an origin. Everything the forecaster believes about its own
errors comes from here, so the first forecast after a start is as calibrated as any later one, and
nothing but the ring has to be kept.
"""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.grid import Bools, Floats, Grid, Ints
from forecasting.members import Fit, Member
from forecasting.panel import Panel, running
from forecasting.scales import Scales, scales
from forecasting.stack import said_by_stack
from forecasting.strays import replayed

REPLAYED_DAYS = 15
# While a half day is a large part of all that is known, members learn much in it.
_YOUNG_DAYS = 7
_KNOWN_SHARE = 0.75


class Replay(msgspec.Struct, frozen=True):
    """Roots said and roots seen. NaN: not said, not seen, or not known at that origin.

    `steps` [target], `said` [series, voice, target, origin]: the members that vote, then the
    stack; `seen` [series, target, origin]; `naive` the same bins a day before `seen` (yesterday's
    value; NaN for leads); `scales`; `age` in bins [origin], oldest first.
    """

    steps: Ints
    said: Floats
    seen: Floats
    naive: Floats
    scales: Scales
    age: Ints


def replay(
    panel: Panel, grid: Grid, members: tuple[Member, ...]
) -> tuple[Replay, tuple[Fit, ...], Floats]:
    """Forecast from every half hour of the recent past with what was known then.

    Also returns the members' fits and the slopes of the stack as of the end of the panel.
    """
    origins = _origins(panel, grid)
    width = panel.z.shape[1]
    cuts = np.append(_cuts(panel, grid, origins), width)
    said, fits = _said(panel, grid, members, origins, cuts)
    learnt = (panel.known & panel.closes)[:, origins]
    said = np.where(learnt[:, None, None, :], said, np.nan)
    seen = _seen(panel, grid, origins)
    looked_at = [index for index, member in enumerate(members) if member.regressed]
    stack, slopes = said_by_stack(said[:, looked_at], seen, origins, cuts, grid)
    voices = [index for index, member in enumerate(members) if member.votes]
    past = Replay(
        np.array(grid.target_steps, dtype=np.int64),
        np.concatenate([said[:, voices], stack[:, None]], axis=1),
        seen,
        _naive(panel, grid, origins),
        scales(panel, grid, origins, replayed(seen - stack, grid)),
        width - 1 - origins,
    )
    return past, fits, slopes


def _origins(panel: Panel, grid: Grid) -> Ints:
    """Columns of the origins, oldest first: bins that end on a half hour.

    At least one, so that a fleet without a past still has arrays of the right shape.
    """
    width = panel.z.shape[1]
    columns = np.arange(max(_oldest(panel), width - REPLAYED_DAYS * grid.day), width)
    chosen = columns[(panel.first + columns + 1) % grid.origin_step == 0]
    return chosen if chosen.size else columns[-1:]


def _oldest(panel: Panel) -> int:
    """Column of the oldest bin that is known of any series; the newest bin's if none is."""
    seen = panel.known.any(axis=0)
    return int(np.argmax(seen)) if seen.any() else panel.z.shape[1] - 1


def _cuts(panel: Panel, grid: Grid, origins: Ints) -> Ints:
    """Numbers of bins known at each refit: the first origin of each day, or of each half day."""
    young = panel.z.shape[1] - _oldest(panel) < _YOUNG_DAYS * grid.day
    block = (1 + young) * (panel.first + origins) // grid.day
    starts = np.flatnonzero(np.diff(block, prepend=block[0] - 1))
    cuts: Ints = origins[starts] + 1
    return cuts


def _said(
    panel: Panel, grid: Grid, members: tuple[Member, ...], origins: Ints, cuts: Ints
) -> tuple[Floats, tuple[Fit, ...]]:
    """Targets predicted by each member [series, member, target, origin], and the last fits."""
    shape = (panel.z.shape[0], len(members), len(grid.target_steps), origins.size)
    out = np.full(shape, np.nan)
    block = np.searchsorted(cuts[:-1], origins + 1, side="right") - 1
    fits = []
    for index, member in enumerate(members):
        fit = member.fit(panel, int(cuts[-1]), grid)
        for number, cut in enumerate(cuts[:-1].tolist()) if fit else [(0, 0)]:
            where = block == number if fit else block >= 0
            then = member.fit(panel, cut, grid) if fit else fit
            path = member.path(panel, then, origins[where], grid.steps)
            out[:, index, :, where] = grid.target_values(path).transpose(1, 0, 2)
        fits.append(fit)
    return out, tuple(fits)


def _seen(panel: Panel, grid: Grid, origins: Ints) -> Floats:
    """Targets as they came [series, target, origin]; NaN where not over yet or not known.

    A peak counts when three quarters of its bins are known: long leads rarely are complete.
    """
    width = panel.z.shape[1]
    out = np.full((panel.z.shape[0], len(grid.target_steps), origins.size), np.nan)
    count = running(panel.known)
    for target, steps in enumerate(grid.target_steps):
        over = origins + steps < width
        stop = origins[over] + steps + 1
        if target < len(grid.horizon_steps):
            known: Bools = panel.known[:, stop - 1]
            out[:, target, over] = np.where(known, panel.z[:, stop - 1], np.nan)
        else:
            enough = count[:, stop] - count[:, stop - steps] >= _KNOWN_SHARE * steps
            highest = window_maximum(panel.z, steps)[:, stop - steps]
            out[:, target, over] = np.where(enough, highest, np.nan)
    return out


def window_maximum(values: Floats, width: int) -> Floats:
    """Maximum of the `width` columns from each column on; windows grow by doubling."""
    covered = 1
    while covered < width:
        more = min(covered, width - covered)
        values = np.maximum(values[:, :-more], values[:, more:])
        covered += more
    return values


def _naive(panel: Panel, grid: Grid, origins: Ints) -> Floats:
    """Yesterday's value of each horizon target [series, target, origin]; NaN for leads."""
    out = np.full((panel.z.shape[0], len(grid.target_steps), origins.size), np.nan)
    column = np.array(grid.horizon_steps)[:, None] + origins - grid.day
    inside = np.maximum(column, 0)
    known = panel.known[:, inside] & (column >= 0)
    out[:, : len(grid.horizon_steps)] = np.where(known, panel.z[:, inside], np.nan)
    return out
