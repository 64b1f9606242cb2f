"""Rolling origins: where a forecast starts, what is known there, and what it is scored on.

An origin is named by the column of the newest bin that has ended: at column c the bins 0..c are
known, a horizon of h bins is scored on bin c + h, a lead of l bins on the largest of c + 1..c + l.
"""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.grid import Bools, Floats, Grid, Ints, make_grid
from forecasting.values import DAY, HOUR

INTERMITTENT_SHARE = 0.25
"""A series with a smaller share of non-zero bins is judged apart."""


class ProtocolError(ValueError):
    """A history that cannot be scored as asked: the series, what is wrong, and the fix."""


class Series(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One field of one file: `rate` per second [bin], and whether the bin is `valid` [bin].

    `first_bin` is the number of bin 0 on the observer's time line.
    """

    group: str
    name: str
    field: str
    bin_seconds: float
    first_bin: int
    rate: Floats
    valid: Bools

    @property
    def key(self) -> str:
        """Name of the series in a forecaster."""
        return f"{self.name}/{self.field}"


class Protocol(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of every method on every series."""

    horizons_seconds: tuple[float, ...]
    leads_seconds: tuple[float, ...]
    quantiles: tuple[float, ...]
    first_origin_seconds: float
    step_seconds: float

    def grid(self, bin_seconds: float) -> Grid:
        """Targets in bins; ValueError names the field that does not fit."""
        return make_grid(bin_seconds, self.horizons_seconds, self.leads_seconds, self.quantiles)


def origins(series: Series, protocol: Protocol) -> Ints:
    """Columns of the origins [origin]; the last one leaves the longest target.

    Raises:
        ProtocolError: the targets or the step do not fit the bins, or no origin is left.
    """
    for option, several in (
        ("--horizons", protocol.horizons_seconds),
        ("--leads", protocol.leads_seconds),
        ("--step", (protocol.step_seconds,)),
    ):
        _check(series, option, several)
    try:
        grid = protocol.grid(series.bin_seconds)
    except ValueError as error:
        raise ProtocolError(f"{series.key}: {error}") from None
    every = protocol.step_seconds / series.bin_seconds
    first = int(np.ceil(protocol.first_origin_seconds / series.bin_seconds)) - 1
    last = series.rate.size - 1 - max(grid.target_steps)
    if first < 0 or last < first:
        days = series.rate.size * series.bin_seconds / DAY
        raise ProtocolError(
            f"{series.key}: --first-origin: {days:.3g} days hold no origin at "
            f"{protocol.first_origin_seconds / DAY:g} d that leaves "
            f"{max(grid.target_steps) * series.bin_seconds / HOUR:g} h to score; "
            "give a longer file, an earlier first origin or shorter horizons"
        )
    return np.arange(first, last + 1, round(every), dtype=np.int64)


def _check(series: Series, option: str, several: tuple[float, ...]) -> None:
    width = series.bin_seconds
    for seconds in several:
        if not width <= seconds <= DAY:
            raise ProtocolError(
                f"{series.key}: {option}: {seconds:g} s is not between its bin of {width:g} s and "
                "a day; give one that is"
            )
        if seconds % width:
            raise ProtocolError(
                f"{series.key}: {option}: {seconds:g} s is no multiple of its bins of {width:g} s; "
                "give one that is"
            )


def targets(series: Series, grid: Grid, columns: Ints) -> Floats:
    """What came [target, origin]; NaN where any bin of it is not valid or lies past the end."""
    ahead = columns[:, None] + grid.steps
    over = ahead < series.rate.size
    inside = np.where(over, ahead, 0)
    known = series.valid[inside] & over
    path = np.where(known, series.rate[inside], np.nan)
    values: Floats = grid.target_values(path).T  # a maximum with NaN in it is NaN
    return values


def intermittent(series: Series, protocol: Protocol) -> bool:
    """Whether few of the valid bins from the first origin on hold anything."""
    scored = slice(int(origins(series, protocol)[0]), None)
    valid = series.valid[scored]
    busy = (series.rate[scored] > 0) & valid
    return bool(busy.sum() < INTERMITTENT_SHARE * valid.sum())


def imputed(series: Series, day: int) -> Floats:
    """Rates with unknown bins filled from the same slot a day before, else the last value [bin].

    NaN before the first valid bin. Only earlier bins are looked at.
    """
    filled = np.where(series.valid, series.rate, np.nan)
    for column in np.flatnonzero(~series.valid).tolist():
        before = filled[column - day] if column >= day else np.nan
        last = filled[column - 1] if column else np.nan
        filled[column] = last if np.isnan(before) else before
    return filled
