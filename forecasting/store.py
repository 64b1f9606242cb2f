"""The observations: one aligned ring for all series, and how new samples enter it.

The newest closed bin is always the last column, so a tick shifts the arrays into fresh memory
and a published store is never written to again. A bin counts as known when samples cover at
least half of it. Bins without samples are unknown, never zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from math import isfinite
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from forecasting.grid import Bools, Grid, Singles
from forecasting.resample import SLACK_BINS, Binned, resample
from forecasting.values import Sample

_ENOUGH_COVER = 0.5
# Recent bins are rebuilt from their raw samples at every call, so that a bin observed in pieces
# over several calls averages all of them. Older bins keep what they have unless covered better.
_REBUILT_BINS = 3


class Store(msgspec.Struct, frozen=True):
    """Rates [series, bin] with the share of each bin that samples cover; `end` is one past the
    number of the last bin.

    `closes` marks bins in which a sample ended: only there did the observer learn something, so
    only there may a replayed forecast start (a wide sample fills many bins with one number).
    `pending` are the raw samples that still touch a bin to be rebuilt, or one not yet closed.
    """

    keys: tuple[str, ...]
    end: int
    rate: Singles
    cover: Singles
    closes: Bools
    pending: tuple[Sample, ...]

    @property
    def known(self) -> Bools:
        return self.cover >= _ENOUGH_COVER


def empty_store(grid: Grid) -> Store:
    """A store that knows no series."""
    nothing = np.zeros((0, grid.kept), np.float32)
    return Store((), 0, nothing, nothing, np.zeros((0, grid.kept), np.bool_), ())


def absorb(store: Store, grid: Grid, new: Iterable[Sample], now_seconds: float) -> Store:
    """The store at `now_seconds` with the samples in it. A `now` before the last one is held.

    Samples that start after `now` are dropped. Of samples with the same key, start and width the
    last one given wins; narrower samples replace wider ones in bins they cover as well. A series
    without a known bin and without a recent sample is forgotten.
    """
    end = grid.closed_bins(now_seconds)
    end = max(end, store.end) if store.keys else end
    samples = _distinct((*store.pending, *(s for s in new if _plausible(s, now_seconds))))
    keys = store.keys + tuple(sorted({s.key for s in samples}.difference(store.keys)))
    fresh = Store(
        keys,
        end,
        _shifted(store.rate, len(keys), end - store.end),
        _shifted(store.cover, len(keys), end - store.end),
        _shifted(store.closes, len(keys), end - store.end),
        tuple(s for s in samples if _end(s) > (end - _REBUILT_BINS) * grid.bin_seconds),
    )
    fresh.cover[:, -_REBUILT_BINS:] = 0
    fresh.closes[:, -_REBUILT_BINS:] = False
    row_of = {key: row for row, key in enumerate(keys)}
    for _, group in groupby(samples, key=lambda s: s.width_seconds):
        first = end - grid.kept
        _write(fresh, first, resample(tuple(group), row_of, grid.bin_seconds, first, end))
    return _sealed(_without_forgotten(fresh))


def _plausible(sample: Sample, now_seconds: float) -> bool:
    return (
        isfinite(sample.start_seconds)
        and isfinite(sample.width_seconds)
        and sample.width_seconds > 0
        and sample.start_seconds <= now_seconds
    )


def _end(sample: Sample) -> float:
    return sample.start_seconds + sample.width_seconds


def _distinct(samples: Iterable[Sample]) -> list[Sample]:
    """The last of each (key, start, width), widest first so that narrower ones overwrite."""
    latest = {(s.key, s.start_seconds, s.width_seconds): s for s in samples}
    return sorted(latest.values(), key=lambda s: (-s.width_seconds, s.key, s.start_seconds))


def _shifted(array: NDArray[Any], rows: int, by: int) -> NDArray[Any]:
    """A fresh copy, `by` columns to the left, with empty rows for new series."""
    kept = array.shape[1]
    out = np.zeros((rows, kept), array.dtype)
    if 0 <= by < kept:
        out[: array.shape[0], : kept - by] = array[:, by:]
    return out


def _write(fresh: Store, first: int, binned: Binned) -> None:
    """Enter averages into arrays that are not published yet."""
    at = (binned.row, binned.bin - first)
    better = binned.cover >= fresh.cover[at] - SLACK_BINS
    at = (at[0][better], at[1][better])
    fresh.rate[at] = binned.rate[better]
    fresh.cover[at] = binned.cover[better]
    fresh.closes[binned.end_row, binned.end_bin - first] = True


def _without_forgotten(store: Store) -> Store:
    recent = {sample.key for sample in store.pending}
    alive: Bools = np.asarray(store.known.any(axis=1))
    stays = [bool(alive[row]) or key in recent for row, key in enumerate(store.keys)]
    if all(stays):
        return store
    keys = tuple(key for key, stay in zip(store.keys, stays, strict=True) if stay)
    return Store(
        keys, store.end, store.rate[stays], store.cover[stays], store.closes[stays], store.pending
    )


def _sealed(store: Store) -> Store:
    for array in (store.rate, store.cover, store.closes):
        array.flags.writeable = False
    return store
