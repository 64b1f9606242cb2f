"""Samples of any width become averages over the bins of the grid."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from forecasting.grid import Floats, Ints
from forecasting.values import Sample

# Bin boundaries computed by division are off by rounding; nothing shorter than this is a piece.
SLACK_BINS = 1e-6
# No feed counts this much; it keeps rates and their sums inside single precision.
_GREATEST_RATE = 1e30


class Binned(msgspec.Struct, frozen=True):
    """What samples of one width say about the cells (series, bin) they touch.

    `cover` is the covered share of each bin, `rate` the mean over that share; `end_row` and
    `end_bin` name the bins in which a sample ended.
    """

    row: Ints
    bin: Ints
    cover: Floats
    rate: Floats
    end_row: Ints
    end_bin: Ints


def resample(
    samples: Sequence[Sample], row_of: dict[str, int], bin_seconds: float, first: int, end: int
) -> Binned:
    """Spread each usable sample over the bins `first` <= b < `end` it overlaps.

    A sample that is not valid, or whose rate is negative, absurd, infinite or NaN, says nothing.
    """
    rates = np.array([s.rate if s.valid else np.nan for s in samples], dtype=np.float64)
    rows = np.array([row_of[s.key] for s in samples], dtype=np.int64)
    start = np.array([s.start_seconds for s in samples], dtype=np.float64) / bin_seconds
    stop = start + np.array([s.width_seconds for s in samples], dtype=np.float64) / bin_seconds
    usable = (rates >= 0) & (rates <= _GREATEST_RATE) & (stop > first) & (start < end)
    rates, rows, start, stop = rates[usable], rows[usable], start[usable], stop[usable]
    last = np.ceil(stop - SLACK_BINS) - 1
    closed = last < end
    start, stop = np.maximum(start, first), np.minimum(stop, end)
    row, bins, share, rate = _pieces(rows, start, stop, rates)
    cells, where = np.unique(row * (end - first) + bins - first, return_inverse=True)
    cover = np.bincount(where, share, cells.size).astype(np.float64)
    mean = np.bincount(where, share * rate, cells.size) / cover
    return Binned(
        cells // (end - first),
        cells % (end - first) + first,
        cover,
        mean,
        rows[closed],
        last[closed].astype(np.int64),
    )


def _pieces(
    rows: Ints, start: Floats, stop: Floats, rates: Floats
) -> tuple[Ints, Ints, Floats, Floats]:
    """Cut [start, stop) (in bins) at the bin boundaries: row, bin, share of the bin, rate."""
    first = np.floor(start + SLACK_BINS).astype(np.int64)
    count = np.maximum(np.ceil(stop - SLACK_BINS).astype(np.int64) - first, 0)
    owner = np.repeat(np.arange(count.size), count)
    within = np.arange(owner.size) - np.repeat(np.cumsum(count) - count, count)
    bins = first[owner] + within
    share = np.minimum(stop[owner], bins + 1) - np.maximum(start[owner], bins)
    return rows[owner], bins, share, rates[owner]
