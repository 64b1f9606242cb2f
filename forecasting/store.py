"""The observations: one aligned ring for all series, and how new samples enter it.

The newest closed bin is always the last column, so a tick shifts the arrays into fresh memory
and a published store is never written to again. A bin counts as known when samples cover at
least half of it. Bins without samples are unknown, never zero.

What odd input does:

    sample                               answer
    -----------------------------------  --------------------------------------------------------
    not valid; rate NaN, infinite, < 0   the time it covers is unknown
    start or width NaN or infinite       dropped, as is a width of 0, below 0 or over a day
    starts after now                     dropped; it may be told again when its time has come
    ends after now                       waits until its last bin has closed
    scrapes of any rhythm                mean over each bin, weighted by the time they cover
    covers less than half a bin          the bin stays unknown
    unsorted                             the order does not matter
    same key, start and width again      the last one told wins
    overlaps a wider one                 the narrower says what was there
    late, bin among the newest three     the bin is computed anew from all its samples
    later than that                      fills a bin that is covered less; a sample no wider than a
                                         bin corrects one covered as well. Pieces of a bin that are
                                         told in different calls then do not add up
    older than the ring                  dropped
    a counter that was reset             is the feed's to tell, by a bin that is not valid
    every series at exactly zero         an outage (`outages`): unknown, for some hours
    constant, all zero, a single point   values like any other

    clock                                answer
    -----------------------------------  --------------------------------------------------------
    steps back                           time goes back to the newest known bin, no further
    leaps ahead by more than a day       believed when a sample with a value ends within a day of
                                         it; else time moves on by an hour, and all feeds are stale
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from forecasting.grid import Bools, Floats, Grid, Ints, Singles
from forecasting.history import Observed, as_samples, in_ring
from forecasting.outages import outages
from forecasting.resample import SLACK_BINS, Told, columns, plausible, resample
from forecasting.sums import Members, Sum, add_up, members_of
from forecasting.values import DAY, Sample

Marks = NDArray[np.uint8]

# A mark holds the covered share of the bin in sixtieths, and two bits.
_WHOLE, _ENOUGH = 60, 30
_COVER, _CLOSES, _OUT = 0b0011_1111, 0b0100_0000, 0b1000_0000
# Recent bins are rebuilt from their raw samples at every call, so that a bin observed in pieces
# over several calls averages all of them. Older bins keep what they have unless covered better.
_REBUILT_BINS = 3


class Store(msgspec.Struct, frozen=True):
    """Rates [series, bin], and marks of how each bin was observed; `end` is one past the number
    of the last bin.

    `pending` are the raw samples that still touch a bin to be rebuilt, or one not yet closed.
    """

    keys: tuple[str, ...]
    end: int
    rate: Singles
    marks: Marks
    pending: tuple[Sample, ...]

    @property
    def known(self) -> Bools:
        """Bins with a value to learn from: covered, and no outage."""
        return _covered(self.marks) & (self.marks < _OUT)

    @property
    def closes(self) -> Bools:
        """Bins in which a sample ended: only there did the observer learn something, so only
        there may a replayed forecast start (a wide sample fills many bins with one number).
        """
        return (self.marks & _CLOSES) > 0

    def take(self, rows: Ints) -> Store:
        """The same bins of these series alone, without raw samples."""
        keys = tuple(self.keys[row] for row in rows.tolist())
        return Store(keys, self.end, self.rate[rows], self.marks[rows], ())

    def newest(self, bins: int) -> Store:
        """The same series with the newest bins alone."""
        return Store(self.keys, self.end, self.rate[:, -bins:], self.marks[:, -bins:], self.pending)


def empty_store(grid: Grid) -> Store:
    """A store that knows no series."""
    shape = (0, grid.kept)
    return Store((), 0, np.zeros(shape, np.float32), np.zeros(shape, np.uint8), ())


def absorb(
    store: Store,
    grid: Grid,
    new: Sequence[Observed],
    now_seconds: float,
    sums: Sequence[Sum] = (),
) -> Store:
    """The store at `now_seconds` with what was observed in it, and the series that `sums` name.

    What has the key of a sum is dropped. A series without a known bin and without a recent sample
    is forgotten. Odd samples and clocks: see the module. ValueError for a `now_seconds` that is no
    time.
    """
    if not isfinite(now_seconds):
        raise ValueError(f"now_seconds: {now_seconds} is no time; give finite seconds")
    told = plausible(as_samples(new, grid, now_seconds), now_seconds)
    end = _end_at(store, grid, told, now_seconds)
    samples = [*store.pending, *told]
    stretches = list(in_ring(new, grid, now_seconds, end))
    names = {*store.keys, *(s.key for s in samples), *(key for key, _, _ in stretches)}
    members = members_of(sums, names)
    keys = store.keys + tuple(sorted((names | members.keys()).difference(store.keys)))
    recent = (end - _REBUILT_BINS) * grid.bin_seconds
    fresh = Store(
        keys,
        end,
        _shifted(store.rate, len(keys), end - store.end),
        _shifted(store.marks, len(keys), end - store.end),
        tuple(s for s in samples if _end(s) > recent and s.key not in members),
    )
    changed = _enter(fresh, grid, samples, store, len(told))
    changed = min(changed, _enter_stretches(fresh, stretches, members))
    changed = min(changed, _mark_outages(fresh, grid, members))
    _enter_sums(fresh, grid, members, changed if members.keys() <= set(store.keys) else 0)
    return _sealed(_without_forgotten(fresh))


def _end_at(store: Store, grid: Grid, told: Sequence[Sample], now_seconds: float) -> int:
    """One past the newest closed bin by a clock that may be wrong; see the module."""
    end = grid.closed_bins(now_seconds)
    if not store.keys:
        return end
    if end < store.end:
        (known,) = np.nonzero(_covered(store.marks).any(axis=0))
        newest = store.end - grid.kept + int(known[-1]) + 1 if known.size else end
        return max(end, newest)
    if end - store.end > grid.day and not any(
        _end(s) > now_seconds - DAY and s.valid and 0 <= s.rate < np.inf for s in told
    ):
        return store.end + grid.hour
    return end


def _end(sample: Sample) -> float:
    return sample.start_seconds + sample.width_seconds


def _shifted(array: NDArray[Any], rows: int, by: int) -> NDArray[Any]:
    """A fresh copy, `by` columns to the left, with empty rows for new series."""
    old, kept = array.shape
    out = np.zeros((rows, kept), array.dtype)
    if abs(by) < kept:
        low, high = max(0, -by), kept - max(0, by)
        out[:old, low:high] = array[:, low + by : high + by]
    return out


def _enter(fresh: Store, grid: Grid, samples: Sequence[Sample], old: Store, told: int) -> int:
    """Write samples into arrays that are not published yet; the last `told` of them are new.

    Returns the first column that may have changed.
    """
    first = fresh.end - grid.kept
    anew = max(first, min(fresh.end, old.end - _REBUILT_BINS)) if old.keys else first
    fresh.marks[:, anew - first :] = 0
    row_of = {key: row for row, key in enumerate(fresh.keys)}
    every = columns(samples, row_of, grid.bin_seconds)
    late = np.arange(len(samples)) >= len(samples) - told
    late &= (every.start < anew) & (every.stop > first + SLACK_BINS)
    if late.any():
        _write(fresh, every.take(late), first, first, anew)
    _write(fresh, every, first, anew, fresh.end)
    low = np.floor(every.start[late].min(initial=anew)) if late.any() else anew
    return max(0, int(low) - first)


def _enter_stretches(
    fresh: Store, stretches: Sequence[tuple[str, int, Floats]], members: Members
) -> int:
    """Write what comes as columns, older than all that is computed anew; returns as `_enter`."""
    row_of = {key: row for row, key in enumerate(fresh.keys)}
    changed: int = fresh.rate.shape[1]
    for key, column, rates in stretches:
        if key in members:
            continue
        known = np.flatnonzero(np.isfinite(rates))
        fresh.rate[row_of[key], column + known] = rates[known] + 0.0
        fresh.marks[row_of[key], column + known] = _WHOLE | _CLOSES
        changed = min(changed, column)
    return changed


def _write(fresh: Store, told: Told, first: int, low: int, high: int) -> None:
    """Enter averages into the bins `low` <= b < `high`; column 0 is bin `first`."""
    if low >= high:
        return
    binned = resample(told, low, high)
    at = (binned.row, binned.bin - first)
    share = np.minimum(np.rint(binned.cover * _WHOLE), _WHOLE).astype(np.uint8)
    before = fresh.marks[at]
    better = np.where(binned.coarse, share > before & _COVER, share >= before & _COVER)
    at = (at[0][better], at[1][better])
    fresh.rate[at] = binned.rate[better] + 0.0
    fresh.marks[at] = (before[better] & _CLOSES) | share[better]
    fresh.marks[binned.end_row, binned.end_bin - first] |= _CLOSES


def _mark_outages(fresh: Store, grid: Grid, members: Members) -> int:
    """Mark the bins that an outage hides; returns the first column in which that changed."""
    before = fresh.marks >= _OUT
    covered = _covered(fresh.marks)
    covered[[row for row, key in enumerate(fresh.keys) if key in members]] = False
    out = outages(fresh.keys, fresh.rate, covered, grid)
    (moved,) = np.nonzero((before != out).any(axis=0))
    if moved.size:
        np.bitwise_and(fresh.marks, _COVER | _CLOSES, out=fresh.marks)
        fresh.marks[out] |= _OUT
    return int(moved[0]) if moved.size else grid.kept


def _enter_sums(fresh: Store, grid: Grid, members: Members, changed: int) -> None:
    """Compute the sums anew from column `changed` on."""
    if not members or changed >= grid.kept:
        return
    row_of = {key: row for row, key in enumerate(fresh.keys)}
    names = sorted(members)
    rows = [np.array([row_of[key] for key in members[name]]) for name in names]
    own = np.array([row_of[name] for name in names])
    total, known, closes = add_up(fresh.rate, fresh.known, fresh.closes, rows, changed, grid.day)
    fresh.rate[own, changed:] = total
    fresh.marks[own, changed:] = known * np.uint8(_WHOLE) + closes * np.uint8(_CLOSES)


def _without_forgotten(store: Store) -> Store:
    recent = {sample.key for sample in store.pending}
    alive: Bools = np.asarray(_covered(store.marks).any(axis=1))
    stays = [bool(alive[row]) or key in recent for row, key in enumerate(store.keys)]
    if all(stays):
        return store
    keys = tuple(key for key, stay in zip(store.keys, stays, strict=True) if stay)
    return Store(keys, store.end, store.rate[stays], store.marks[stays], store.pending)


def _covered(marks: Marks) -> Bools:
    covered: Bools = (marks & _COVER) >= _ENOUGH
    return covered


def _sealed(store: Store) -> Store:
    for array in (store.rate, store.marks):
        array.flags.writeable = False
    return store
