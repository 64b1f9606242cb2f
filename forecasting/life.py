"""The edges of a series' life, where the mixture has little to learn from.

    what the mixture issued -> young series lean on their siblings, series that are off most of
    the time on their chance of being on -> what is issued

A young series moves from its siblings to its own forecast within half a day. The record of a
series that is off most of the time would be the mixture's, so it has none. What is learnt here is
relearnt by turns, so that no tick has to do it all.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec
import numpy as np

from forecasting.grid import Floats, Grid, Ints
from forecasting.intermittent import (
    Intermittent,
    fit_intermittent,
    intermittent_roots,
    is_intermittent,
)
from forecasting.panel import Panel, make_panel
from forecasting.quantiles import ordered
from forecasting.rows import joined, take
from forecasting.siblings import Siblings, is_old, learn_siblings, sibling_roots
from forecasting.store import Store
from forecasting.values import SeriesForecast

Rates = tuple[tuple[float, ...], ...]

_YOUNG_HOURS = 12.0
_RELEARN_HOURS = 12
# Fits of many series are cut into pieces of this many, to bound memory.
_SERIES_AT_ONCE = 32


class Life(msgspec.Struct, frozen=True):
    """`siblings` of the young, to be learnt anew at bin `siblings_due`, None while there are none
    to learn from; `off` are the events of the series `keys`, each due at bin `due` [key].
    """

    siblings: Siblings | None = None
    siblings_due: int = 0
    keys: tuple[str, ...] = ()
    due: Ints = msgspec.field(default_factory=lambda: np.zeros(0, np.int64))
    off: Intermittent | None = None


def edged(
    old: Life,
    store: Store,
    grid: Grid,
    series: dict[str, SeriesForecast],
    totals: Collection[str] = (),
) -> tuple[dict[str, SeriesForecast], Life]:
    """The mixture's forecasts with the edges put right, and what was learnt for that.

    `totals` are the keys of sums: nobody's siblings, being larger and calmer than what they add up.
    """
    known = store.known
    count = known.sum(axis=1)
    on = ((store.rate > 0) & known).sum(axis=1)
    young = np.flatnonzero(count < _YOUNG_HOURS * grid.hour)
    off = np.flatnonzero(is_intermittent(on, count, grid))
    single = np.array([key not in totals for key in store.keys], dtype=np.bool_)
    taught = np.flatnonzero(is_old(on, count, grid) & single) if young.size else young
    learnt = _siblings_learnt(old, store, grid, taught)
    learnt = _off_learnt(learnt, store, grid, off)
    changed: dict[str, SeriesForecast] = {}
    if young.size and learnt.siblings is not None:
        said = sibling_roots(
            _named(store, young), _panel(store, grid, young), grid, learnt.siblings
        )
        share = 1 - count[young] / (_YOUNG_HOURS * grid.hour)
        for key, roots, part in zip(_named(store, young), said, share.tolist(), strict=True):
            changed[key] = _leaning(series[key], roots, part, grid)
    if learnt.off is not None:
        said = intermittent_roots(_panel(store, grid, off), grid, learnt.off)
        for key, roots in zip(learnt.keys, said, strict=True):
            changed[key] = _by_chance(series[key], roots, grid)
    return {**series, **changed}, learnt


def _named(store: Store, rows: Ints) -> tuple[str, ...]:
    return tuple(store.keys[row] for row in rows.tolist())


def _panel(store: Store, grid: Grid, rows: Ints) -> Panel:
    return make_panel(store.take(rows), grid)


def _siblings_learnt(old: Life, store: Store, grid: Grid, taught: Ints) -> Life:
    """Learn from the old series `taught` when it is due; none, and nobody young needs it."""
    round_bins = _RELEARN_HOURS * grid.hour
    if not taught.size or store.end < old.siblings_due <= store.end + round_bins:
        return old
    siblings = learn_siblings(_named(store, taught), _panel(store, grid, taught), grid)
    return msgspec.structs.replace(old, siblings=siblings, siblings_due=store.end + round_bins)


def _off_learnt(old: Life, store: Store, grid: Grid, off: Ints) -> Life:
    """Learn the events of the series `off` that are due, and keep those of the others."""
    named, end, round_bins = _named(store, off), store.end, _RELEARN_HOURS * grid.hour
    if not named:
        return Life(old.siblings, old.siblings_due)
    row_of = {key: row for row, key in enumerate(old.keys)}
    source = np.array([row_of.get(key, -1) for key in named], dtype=np.int64)
    wait = np.append(old.due, end)[source] - end  # a series never learnt is due now
    due = (wait <= 0) | (wait > round_bins)
    kept, wanted = np.flatnonzero(~due), np.flatnonzero(due)
    if not wanted.size and named == old.keys:
        return old
    pieces = [take(old.off, source[kept])] if old.off is not None and kept.size else []
    for start in range(0, wanted.size, _SERIES_AT_ONCE):
        rows = off[wanted[start : start + _SERIES_AT_ONCE]]
        pieces.append(fit_intermittent(_panel(store, grid, rows), grid))
    back = np.argsort(np.concatenate([kept, wanted]))
    turn = end + 1 + (np.arange(off.size) - end - 1) % round_bins
    left = np.where(due, turn, wait + end)
    return msgspec.structs.replace(old, keys=named, due=left, off=take(joined(pieces), back))


def _leaning(own: SeriesForecast, roots: Floats, share: float, grid: Grid) -> SeriesForecast:
    """Its own forecast and, for a `share`, its siblings' `roots` [target, quantile]."""
    if np.isnan(roots).any():
        return own
    mixture = np.sqrt(np.array([*own.at, *own.peak]))
    at, peak = _rates(share * roots + (1 - share) * mixture, grid)
    weights = {name: (1 - share) * weight for name, weight in own.weights.items()}
    if own.weights:
        weights["siblings"] = share
    return msgspec.structs.replace(own, at=at, peak=peak, weights=weights)


def _by_chance(own: SeriesForecast, roots: Floats, grid: Grid) -> SeriesForecast:
    at, peak = _rates(roots, grid)
    return msgspec.structs.replace(
        own,
        at=at,
        peak=peak,
        weights={"chance of being on": 1.0},
        coverage=None,
        skill=None,
        record=(),
    )


def _rates(roots: Floats, grid: Grid) -> tuple[Rates, Rates]:
    ascending = np.maximum.accumulate(np.maximum(roots, 0.0), axis=-1) ** 2
    at, peak = ordered(ascending[None], grid)
    return _as_tuples(at[0]), _as_tuples(peak[0])


def _as_tuples(rates: Floats) -> Rates:
    return tuple(tuple(row) for row in rates.tolist())
