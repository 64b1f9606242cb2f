"""Samples of any width become averages over the bins of the grid.

Where samples of a series overlap, the narrowest one says what was there; of equally narrow ones
the one that starts last, and of those that differ in nothing but the rate the one told last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from forecasting.grid import Bools, Floats, Ints
from forecasting.values import DAY, Sample

# Bin boundaries computed by division are off by rounding; times count in steps of this.
SLACK_BINS = 1e-6
# No feed counts this much; it keeps rates and their sums inside single precision.
GREATEST_RATE = 1e30
_WIDEST_SECONDS = DAY


class Told(msgspec.Struct, frozen=True):
    """Samples as columns, all [sample]: `row` of the series, times in bins, NaN as rate where the
    sample says that nothing is known.
    """

    row: Ints
    start: Floats
    stop: Floats
    rate: Floats

    def take(self, which: Bools | Ints) -> Told:
        """The same samples, fewer of them or in another order."""
        return Told(self.row[which], self.start[which], self.stop[which], self.rate[which])


class Binned(msgspec.Struct, frozen=True):
    """What samples say about the cells (series, bin) they touch.

    `cover` is the covered share of each bin, `rate` the mean over that share, `coarse` says that
    most of it comes from samples wider than a bin. `end_row` and `end_bin` name the bins in which
    a sample ended.
    """

    row: Ints
    bin: Ints
    cover: Floats
    rate: Floats
    coarse: Bools
    end_row: Ints
    end_bin: Ints


def plausible(samples: Sequence[Sample], now_seconds: float) -> list[Sample]:
    """The samples that may be true: in finite time, at most a day wide, begun by now."""
    start = np.array([s.start_seconds for s in samples], dtype=np.float64)
    width = np.array([s.width_seconds for s in samples], dtype=np.float64)
    good = np.isfinite(start) & (width > 0) & (width <= _WIDEST_SECONDS) & (start <= now_seconds)
    if good.all():
        return list(samples)
    return [samples[index] for index in np.flatnonzero(good).tolist()]


def columns(samples: Sequence[Sample], row_of: Mapping[str, int], bin_seconds: float) -> Told:
    """Plausible samples as columns, times rounded so that abutting samples meet."""
    rate = np.array([s.rate if s.valid else np.nan for s in samples], dtype=np.float64)
    start = np.array([s.start_seconds for s in samples], dtype=np.float64)
    width = np.array([s.width_seconds for s in samples], dtype=np.float64)
    return Told(
        np.array([row_of[s.key] for s in samples], dtype=np.int64),
        _rounded(start / bin_seconds),
        _rounded((start + width) / bin_seconds),
        np.where((rate >= 0) & (rate <= GREATEST_RATE), rate, np.nan),
    )


def resample(told: Told, first: int, end: int) -> Binned:
    """Average the samples over the bins `first` <= b < `end` that they overlap."""
    told = told.take((told.stop > first) & (told.start < end))
    known = np.isfinite(told.rate)
    last = np.ceil(told.stop - SLACK_BINS).astype(np.int64) - 1
    closed = known & (last < end)
    owner, start, stop = _owned(told, first, end)
    owner, bins, share = _pieces(owner, start, stop)
    wide = (told.stop - told.start > 1 + SLACK_BINS)[owner]
    cells, where = np.unique(told.row[owner] * (end - first) + bins - first, return_inverse=True)
    cover = np.bincount(where, share, cells.size).astype(np.float64)
    mean = np.bincount(where, share * told.rate[owner], cells.size) / cover
    coarse = np.bincount(where, share * wide, cells.size) > cover / 2
    row, column = np.divmod(cells, end - first)
    return Binned(row, column + first, cover, mean, coarse, told.row[closed], last[closed])


def _rounded(bins: Floats) -> Floats:
    rounded: Floats = np.round(bins / SLACK_BINS) * SLACK_BINS
    return rounded


def _owned(told: Told, first: int, end: int) -> tuple[Ints, Floats, Floats]:
    """Stretches that do not overlap, in bins: the sample that says what was there, start, stop."""
    start, stop = np.maximum(told.start, first) - first, np.minimum(told.stop, end) - first
    # One line for all series: each has its own stretch of it, as long as the bins plus one.
    base = told.row * (end - first + 1.0)
    edges, at = np.unique(_rounded(np.append(base + start, base + stop)), return_inverse=True)
    low, high = at[: start.size], at[start.size :]
    order = np.lexsort((told.start, told.start - told.stop))
    count = (high - low)[order]
    line = np.repeat(low[order], count) + _counting(count)
    owner = np.full(edges.size, -1)
    owner[line] = np.repeat(order, count)  # of several owners of a stretch the last stays
    owner[line[~np.isfinite(told.rate[owner[line]])]] = -1
    (there,) = np.nonzero(owner >= 0)
    owner = owner[there]
    return owner, edges[there] - base[owner] + first, edges[there + 1] - base[owner] + first


def _pieces(owner: Ints, start: Floats, stop: Floats) -> tuple[Ints, Ints, Floats]:
    """Cut [start, stop) (in bins) at the bin boundaries: owner, bin, share of the bin."""
    low = np.floor(start + SLACK_BINS).astype(np.int64)
    count = np.maximum(np.ceil(stop - SLACK_BINS).astype(np.int64) - low, 0)
    bins = np.repeat(low, count) + _counting(count)
    share = np.minimum(np.repeat(stop, count), bins + 1) - np.maximum(np.repeat(start, count), bins)
    return np.repeat(owner, count), bins, share


def _counting(count: Ints) -> Ints:
    """0, 1, ... below each count, one after the other."""
    total = np.cumsum(count)
    return np.arange(total[-1] if total.size else 0) - np.repeat(total - count, count)
