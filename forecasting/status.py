"""What can be said about the feed of each series right now."""

from __future__ import annotations

import numpy as np

from forecasting.grid import Grid
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
    active = (panel.z[:, -idle:] > 0).any(axis=1)
    checks = zip(newest < 0, age > _STALE_SECONDS, holes >= _MISSING_BINS, ~active, strict=True)
    return [_first(*check) for check in checks]


def _first(absent: bool, stale: bool, partial: bool, idle: bool) -> Status:
    if absent:
        return "absent"
    if stale:
        return "stale"
    if partial:
        return "partial"
    return "idle" if idle else "live"
