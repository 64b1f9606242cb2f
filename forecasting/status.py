"""What can be said about the feed of each series right now."""

from __future__ import annotations

import numpy as np

from forecasting.grid import Bools, Grid
from forecasting.panel import Panel
from forecasting.values import MINUTE, Status

_STALE_SECONDS = 15 * MINUTE
_RECENT_HOURS = 0.5
_IDLE_HOURS = 1.0
# One missing bin in half an hour is the rhythm of a ten-minute feed, two are a hole.
_MISSING_BINS = 2


def statuses(panel: Panel, grid: Grid) -> list[Status]:
    """One status per series; the first that holds of absent, stale, partial, idle, live."""
    width = panel.z.shape[1]
    newest = panel.newest[:, -1]
    age = (width - 1 - newest) * grid.bin_seconds
    recent = max(1, round(_RECENT_HOURS * grid.hour))
    missing = recent - panel.known[:, -recent:].sum(axis=1)
    past = np.minimum((panel.newest >= 0).sum(axis=1), recent)
    holes = missing - (recent - past)
    idle = round(_IDLE_HOURS * grid.hour)
    highest = panel.z[:, -idle:].max(axis=1)
    by_rule: list[tuple[Status, Bools]] = [
        ("absent", newest < 0),
        ("stale", age > _STALE_SECONDS),
        ("partial", holes >= _MISSING_BINS),
        ("idle", highest <= 0),
    ]
    return [
        next((name for name, holds in by_rule if holds[row]), "live") for row in range(newest.size)
    ]
