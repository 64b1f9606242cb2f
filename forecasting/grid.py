"""The time grid every array of the package is laid out on, and the shapes of the answers.

Bin `b` covers [b * bin_seconds, (b + 1) * bin_seconds). Targets are numbered horizons first,
leads after them; "steps" are bins ahead of the newest closed bin, so step 1 ends one bin later.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from forecasting.values import DAY, HOUR

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Reals = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

# Two weeks show what repeats weekly, four show it well.
STORE_DAYS = 28
# What a forecast looks at; learning looks at everything.
_RECENT_DAYS = 14
# Beyond an hour a peak is predicted from this many bins of each hour; its band knows the rest.
_COARSE_PER_HOUR = 4
# How often the past is replayed.
ORIGINS_PER_HOUR = 2
# A boundary that floating point puts a hair below a whole bin still counts as reached.
_SLACK_BINS = 1e-6


class Grid(msgspec.Struct, frozen=True):
    """Bin width, targets and quantiles of one forecaster; everything in bins except the first."""

    bin_seconds: float
    horizon_steps: tuple[int, ...]
    lead_steps: tuple[int, ...]
    quantiles: tuple[float, ...]

    @property
    def day(self) -> int:
        return round(DAY / self.bin_seconds)

    @property
    def hour(self) -> int:
        return round(HOUR / self.bin_seconds)

    @property
    def origin_step(self) -> int:
        """Bins between two origins of a replay: half an hour, or one bin where bins are longer."""
        return max(1, self.hour // ORIGINS_PER_HOUR)

    @property
    def kept(self) -> int:
        return STORE_DAYS * self.day

    @property
    def recent(self) -> int:
        return _RECENT_DAYS * self.day

    @property
    def target_steps(self) -> tuple[int, ...]:
        return self.horizon_steps + self.lead_steps

    @property
    def steps(self) -> Ints:
        """The steps a member must predict: every bin of the first hour, every quarter of an hour
        up to the longest lead, and each target's own. Not to be written to.
        """
        return _steps_of(self)

    @property
    def horizon_columns(self) -> Ints:
        """Column of `steps` that holds each horizon."""
        return np.searchsorted(self.steps, np.array(self.horizon_steps, dtype=np.int64))

    @property
    def lead_columns(self) -> Ints:
        """Column of `steps` that holds the last bin of each lead."""
        return np.searchsorted(self.steps, np.array(self.lead_steps, dtype=np.int64))

    def closed_bins(self, now_seconds: float) -> int:
        """The first bin that has not ended at `now_seconds`."""
        return int(np.floor(now_seconds / self.bin_seconds + _SLACK_BINS))

    def target_values(self, path: Floats) -> Floats:
        """Turn a path [..., step] into targets [..., target]: the bin itself, then the maxima."""
        peaks = np.maximum.accumulate(path[..., : max(self.lead_columns) + 1], axis=-1)
        return np.concatenate([path[..., self.horizon_columns], peaks[..., self.lead_columns]], -1)


@lru_cache
def _steps_of(grid: Grid) -> Ints:
    longest = max(grid.lead_steps)
    coarse = range(grid.hour, longest, max(1, grid.hour // _COARSE_PER_HOUR))
    fine = range(1, min(grid.hour, longest) + 1)
    steps = np.array(sorted({*fine, *coarse, *grid.target_steps}), dtype=np.int64)
    steps.flags.writeable = False
    return steps


def make_grid(
    bin_seconds: float,
    horizons_seconds: Sequence[float],
    leads_seconds: Sequence[float],
    quantiles: Sequence[float],
) -> Grid:
    """Check the settings of a forecaster; ValueError names the field and the fix."""
    if not bin_seconds > 0 or HOUR % bin_seconds:
        raise ValueError(f"bin_seconds: {bin_seconds} does not divide an hour; use 300")
    if not quantiles or list(quantiles) != sorted(set(quantiles)):
        raise ValueError("quantiles: must be ascending and distinct, such as (0.5, 0.9)")
    if not 0 < quantiles[0] <= quantiles[-1] < 1:
        raise ValueError("quantiles: must lie between 0 and 1, such as (0.5, 0.9)")
    return Grid(
        bin_seconds,
        _steps("horizons_seconds", horizons_seconds, bin_seconds),
        _steps("leads_seconds", leads_seconds, bin_seconds),
        tuple(quantiles),
    )


def _steps(field: str, seconds: Sequence[float], bin_seconds: float) -> tuple[int, ...]:
    if not seconds or list(seconds) != sorted(set(seconds)):
        raise ValueError(f"{field}: must be ascending and distinct, such as (300, 600)")
    if seconds[0] < bin_seconds or seconds[-1] > DAY:
        raise ValueError(f"{field}: must lie between one bin ({bin_seconds} s) and {DAY} s")
    if any(value % bin_seconds for value in seconds):
        raise ValueError(f"{field}: every value must be a multiple of bin_seconds {bin_seconds}")
    return tuple(round(value / bin_seconds) for value in seconds)
