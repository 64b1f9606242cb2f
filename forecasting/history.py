"""Long stretches of past bins as columns: days of a series without an object for each bin.

A stretch that lies on the grid goes into the ring as it is, but for its newest bins, which go the
way of samples: they may be told again or in pieces. Any other stretch becomes samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite

import msgspec
import numpy as np

from forecasting.grid import Bools, Floats, Grid
from forecasting.resample import GREATEST_RATE, SLACK_BINS
from forecasting.values import Sample

# More than the store rebuilds at a call, so that it has all it needs for that as samples.
_TAIL_BINS = 6


class Stretch(msgspec.Struct, frozen=True):
    """Bins of one series that follow each other: bin `n` begins at start + n x width.

    `rates` [bin] per second as in `Sample`; NaN, negative or infinite is unknown.
    """

    key: str
    start_seconds: float
    width_seconds: float
    rates: Floats


Observed = Sample | Stretch


def as_samples(new: Sequence[Observed], grid: Grid, now_seconds: float) -> list[Sample]:
    """The samples, with those of each stretch that do not go straight into the ring."""
    out: list[Sample] = []
    for one in new:
        if isinstance(one, Sample):
            out.append(one)
        elif _on_grid(one, grid):
            out += _samples(one, max(0, _tail(grid, now_seconds) - _begin(one, grid)))
        else:
            out += _samples(one, 0)
    return out


def in_ring(
    new: Sequence[Observed], grid: Grid, now_seconds: float, end: int
) -> Iterator[tuple[str, int, Floats]]:
    """Key, first column and rates of what goes straight into the ring that ends before `end`.

    Unknown rates are NaN.
    """
    first = end - grid.kept
    stop = min(_tail(grid, now_seconds), end)
    for one in new:
        if isinstance(one, Stretch) and _on_grid(one, grid):
            begin = _begin(one, grid)
            low, high = max(begin, first), min(begin + one.rates.size, stop)
            if low < high:
                rates = one.rates[low - begin : high - begin]
                yield one.key, low - first, np.where(_known(rates), rates, np.nan)


def _tail(grid: Grid, now_seconds: float) -> int:
    """The first bin that goes the way of samples."""
    return grid.closed_bins(now_seconds) - _TAIL_BINS


def _begin(stretch: Stretch, grid: Grid) -> int:
    return round(stretch.start_seconds / grid.bin_seconds)


def _known(rates: Floats) -> Bools:
    known: Bools = (rates >= 0) & (rates <= GREATEST_RATE)
    return known


def _on_grid(stretch: Stretch, grid: Grid) -> bool:
    if stretch.width_seconds != grid.bin_seconds or not isfinite(stretch.start_seconds):
        return False
    start = stretch.start_seconds / grid.bin_seconds
    return abs(start - round(start)) <= SLACK_BINS


def _samples(stretch: Stretch, first: int) -> list[Sample]:
    return [
        Sample(
            stretch.key,
            stretch.start_seconds + number * stretch.width_seconds,
            stretch.width_seconds,
            rate,
        )
        for number, rate in enumerate(stretch.rates[first:].tolist(), first)
    ]
