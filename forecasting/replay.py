"""Rolling origins over the recent past: what the members would have said, and what came.

Members are refitted at the start of each half day of origins and see nothing after an origin.
Everything the forecaster believes about its own errors comes from here, so the first forecast
after a start is as calibrated as any later one, and nothing but the ring has to be kept.
"""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.grid import Floats, Grid, Ints
from forecasting.members import Member
from forecasting.panel import Panel
from forecasting.scales import Scales, scales

REPLAYED_DAYS = 7
ORIGINS_PER_HOUR = 4
_REFITS_PER_DAY = 2
_KNOWN_SHARE = 0.75


class Replay(msgspec.Struct, frozen=True):
    """Roots said and roots seen. NaN: not said, not seen, or not known at that origin.

    `steps` [target], `said` [series, member, target, origin], `seen` [series, target, origin],
    `naive` the same bins a day before `seen` (yesterday's value; NaN for leads), `unit` and
    `level` as `Scales`, `age` in bins [origin], oldest first.
    """

    steps: Ints
    said: Floats
    seen: Floats
    naive: Floats
    scales: Scales
    age: Ints


def replay(panel: Panel, grid: Grid, members: tuple[Member, ...]) -> Replay:
    """Forecast from every quarter hour of the last week with what was known then."""
    origins = _origins(panel, grid)
    said = np.stack([_said(member, panel, grid, origins) for member in members], axis=1)
    learnt = (panel.known & panel.closes)[:, origins]
    return Replay(
        np.array(grid.target_steps, dtype=np.int64),
        np.where(learnt[:, None, None, :], said, np.nan),
        _seen(panel, grid, origins),
        _naive(panel, grid, origins),
        scales(panel, grid, origins),
        panel.z.shape[1] - 1 - origins,
    )


def _origins(panel: Panel, grid: Grid) -> Ints:
    """Columns of the origins, oldest first: bins that end on a quarter of an hour.

    At least one, so that a fleet without a past still has arrays of the right shape.
    """
    width = panel.z.shape[1]
    seen = panel.known.any(axis=0)
    oldest = int(np.argmax(seen)) if seen.any() else width - 1
    columns = np.arange(max(oldest, width - REPLAYED_DAYS * grid.day), width)
    every = max(1, grid.hour // ORIGINS_PER_HOUR)
    quarters = columns[(panel.first + columns + 1) % every == 0]
    return quarters if quarters.size else columns[-1:]


def _said(member: Member, panel: Panel, grid: Grid, origins: Ints) -> Floats:
    """Targets predicted by one member [series, target, origin]."""
    out = np.full((panel.z.shape[0], len(grid.target_steps), origins.size), np.nan)
    block = (panel.first + origins) // (grid.day // _REFITS_PER_DAY)
    for number in np.unique(block):
        where = np.flatnonzero(block == number)
        fit = member.fit(panel, int(origins[where[0]]) + 1, grid.steps)
        path = member.path(panel, fit, origins[where], grid.steps)
        out[:, :, where] = grid.target_values(path).transpose(0, 2, 1)
    return out


def _seen(panel: Panel, grid: Grid, origins: Ints) -> Floats:
    """Targets as they came [series, target, origin]; NaN where not over yet or not known.

    A peak counts when three quarters of its bins are known: long leads rarely are complete.
    """
    ahead = origins[:, None] + grid.steps
    over = ahead < panel.z.shape[1]
    inside = np.where(over, ahead, 0)
    known = panel.known[:, inside] & over
    values = grid.target_values(np.where(known, panel.z[:, inside], -np.inf))
    share = np.cumsum(known[..., : max(grid.lead_steps)], axis=-1)[..., grid.lead_columns]
    enough = share >= _KNOWN_SHARE * np.array(grid.lead_steps)
    enough &= over[:, grid.lead_columns]
    whole = np.concatenate([known[..., grid.horizon_columns], enough], axis=-1)
    return np.where(whole, values, np.nan).transpose(0, 2, 1)


def _naive(panel: Panel, grid: Grid, origins: Ints) -> Floats:
    """Yesterday's value of each horizon target [series, target, origin]; NaN for leads."""
    out = np.full((panel.z.shape[0], len(grid.target_steps), origins.size), np.nan)
    column = np.array(grid.horizon_steps)[:, None] + origins - grid.day
    inside = np.maximum(column, 0)
    known = panel.known[:, inside] & (column >= 0)
    out[:, : len(grid.horizon_steps)] = np.where(known, panel.z[:, inside], np.nan)
    return out
