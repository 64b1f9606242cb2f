"""What goes into the forecaster and what comes out of it.

Rates are per second of whatever the key counts (tokens, requests). Times are seconds on the
observer's time line; any origin will do as long as it stays the same.
"""

from __future__ import annotations

from typing import Literal

import msgspec

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0
WEEK_DAYS = 7

DEFAULT_HORIZONS: tuple[float, ...] = (
    *(5 * MINUTE, 10 * MINUTE, 30 * MINUTE),
    *(1 * HOUR, 2 * HOUR, 6 * HOUR, 12 * HOUR, 24 * HOUR),
)
DEFAULT_LEADS: tuple[float, ...] = (
    *(5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE),
    *(1 * HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR),
)

Status = Literal["live", "idle", "partial", "stale", "absent"]


class Sample(msgspec.Struct, frozen=True):
    """One bin of one series as observed: the mean `rate` per second over the bin.

    `valid=False`, a negative, infinite or NaN rate all mean "unknown", which is never zero.
    """

    key: str
    start_seconds: float
    width_seconds: float
    rate: float
    valid: bool = True


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """How the P90 at one horizon has done lately, on targets it had not learnt from.

    `coverage` is the share of targets at or below it. `skill_yesterday` and `skill_last` are 1 -
    its pinball loss / that of yesterday's or of the last value with a band of the same kind: 0
    or less means no skill. None when there were too few targets.
    """

    horizon_seconds: float
    coverage: float | None
    skill_yesterday: float | None
    skill_last: float | None


class SeriesForecast(msgspec.Struct, frozen=True, kw_only=True):
    """The forecast of one series; `at` and `peak` are rates per second, quantiles ascending.

    `at[horizon][quantile]` is the rate of the bin that ends at issued_at + horizon.
    `peak[lead][quantile]` is the largest bin rate among bins ending in (issued_at, issued_at +
    lead]; it never falls with the lead and never lies below an `at` inside the lead.
    `weights` says which members carry the 30-minute P90 (or the nearest target there is);
    "stack" is the regression on all of them. `record` holds the horizons nearest to 30 minutes,
    1, 6 and 24 hours, ascending.
    `coverage` is the share of recent targets at or below the P90 30-minute forecast; `skill` is
    1 - pinball loss of that forecast / pinball loss of yesterday's value with the same band.
    Both come from forecasts that had not seen their targets; None when there were too few.
    A series that is `absent` has been named but never had a known bin: its rates are those of its
    siblings, the series of the same metric, and 0.0 while too few of those have a past. A young
    series leans on "siblings" in its weights; one that is off most of the time has the weight
    "chance of being on" alone, and no record.
    """

    key: str
    status: Status
    at: tuple[tuple[float, ...], ...]
    peak: tuple[tuple[float, ...], ...]
    last: float
    weights: dict[str, float]
    coverage: float | None
    skill: float | None
    record: tuple[Record, ...] = ()


class Forecasts(msgspec.Struct, frozen=True, kw_only=True):
    """All series at one origin.

    `issued_at_seconds` is the end of the newest closed bin of the grid, at most one bin before
    the time of the call.
    """

    issued_at_seconds: float
    bin_seconds: float
    horizons_seconds: tuple[float, ...]
    leads_seconds: tuple[float, ...]
    quantiles: tuple[float, ...]
    series: dict[str, SeriesForecast]
