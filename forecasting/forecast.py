"""observe -> learn -> issue: the forecaster as one pure function from state to state.

    forecast(state, new samples, now) -> Forecasts, next state

The caller's old state stays valid: arrays that have been published are never written to.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from forecasting import strays as straying
from forecasting.feedback import Feedback, aligned, heard, recorded
from forecasting.grid import Grid, Ints, make_grid
from forecasting.history import Observed
from forecasting.judge import judged_target, recorded_targets
from forecasting.knowledge import Knowledge, refreshed
from forecasting.life import Life, edged
from forecasting.members import MEMBERS, voices
from forecasting.panel import Panel, make_panel
from forecasting.quantiles import Issued, issue
from forecasting.rows import joined
from forecasting.status import statuses
from forecasting.store import Store, absorb, empty_store
from forecasting.strays import Strays
from forecasting.sums import Sum, check_sums, members_of
from forecasting.values import (
    DEFAULT_HORIZONS,
    DEFAULT_LEADS,
    Forecasts,
    Record,
    SeriesForecast,
)

DEFAULT_QUANTILES = (0.5, 0.9, 0.95, 0.99)
DEFAULT_MEMBERS = tuple(MEMBERS)
_SERIES_AT_ONCE = 64


class State(msgspec.Struct, frozen=True):
    """Settings, observations and what was learnt from them."""

    grid: Grid
    members: tuple[str, ...]
    store: Store
    knowledge: Knowledge | None
    feedback: Feedback | None
    strays: Strays | None
    sums: tuple[Sum, ...] = ()
    life: Life = Life()


def initial_state(
    *,
    bin_seconds: float = 300.0,
    horizons_seconds: Sequence[float] = DEFAULT_HORIZONS,
    leads_seconds: Sequence[float] = DEFAULT_LEADS,
    quantiles: Sequence[float] = DEFAULT_QUANTILES,
    members: Sequence[str] = DEFAULT_MEMBERS,
    sums: Sequence[Sum] = (),
) -> State:
    """A forecaster that has seen nothing. ValueError names the field that cannot be used.

    Horizons and leads are multiples of the bin, at most a day. `members` starts with "last",
    which is the fallback of every target and the yardstick of the others. `sums` are forecast as
    series of their own, as soon as one of their members is known.
    """
    grid = make_grid(bin_seconds, horizons_seconds, leads_seconds, quantiles)
    unknown = [name for name in members if name not in MEMBERS]
    if unknown or len(set(members)) != len(members) or tuple(members[:1]) != ("last",):
        raise ValueError(f"members: {members} must start with 'last'; known: {sorted(MEMBERS)}")
    return State(grid, tuple(members), empty_store(grid), None, None, None, check_sums(sums))


def forecast(state: State, new: Sequence[Observed], now_seconds: float) -> tuple[Forecasts, State]:
    """Take in what was observed since the last call and forecast every known series.

    The first call may bring days of history, best as stretches; later ones a bin or two. Bins
    nobody reported are unknown. What odd samples and clocks do is said in `store`.
    """
    grid = state.grid
    store = absorb(state.store, grid, new, now_seconds, state.sums)
    if store.end < state.store.end or not store.keys:
        # Time went back: what was learnt speaks of bins that are yet to come.
        state = msgspec.structs.replace(
            state, knowledge=None, feedback=None, strays=None, life=Life()
        )
    if not store.keys:
        return _forecasts(grid, store, {}), msgspec.structs.replace(state, store=store)
    source = _old_rows(state.store, store)
    closed = max(0, store.end - state.store.end) if state.store.keys else 0
    parts = [
        _part(state, store, slice(start, start + _SERIES_AT_ONCE), source, closed)
        for start in range(0, len(store.keys), _SERIES_AT_ONCE)
    ]
    series, knowledge, feedback, strays = zip(*parts, strict=True)
    found = {one.key: one for part in series for one in part}
    totals = members_of(state.sums, store.keys).keys()
    found, life = edged(state.life, store, grid, dict(sorted(found.items())), totals)
    return _forecasts(grid, store, found), msgspec.structs.replace(
        state,
        store=store,
        knowledge=joined(list(knowledge)),
        feedback=joined(list(feedback)),
        strays=joined(list(strays)),
        life=life,
    )


def _part(
    state: State, store: Store, rows: slice, source: Ints, closed: int
) -> tuple[list[SeriesForecast], Knowledge, Feedback, Strays]:
    """Some rows of the new store: few enough to stay in the processor's cache."""
    grid, source = state.grid, source[rows]
    place = np.arange(len(store.keys))[rows]
    some = store.take(place)
    members = tuple(MEMBERS[name] for name in state.members)
    knowledge = refreshed(state.knowledge, source, some, grid, members, place)
    some = some.newest(grid.recent)
    panel = make_panel(some, grid)
    feedback = heard(aligned(state.feedback, source, grid), panel, grid, closed)
    strays = straying.aligned(state.strays, source, grid)
    strays = straying.followed(strays, panel, grid, closed, knowledge.strayed)
    issued = issue(panel, grid, members, knowledge, feedback, strays)
    feedback = recorded(feedback, panel, issued.roots, grid)
    strays = straying.recorded(strays, panel, issued.stack, grid)
    series = _series(voices(state.members), some, panel, grid, issued, knowledge)
    return series, knowledge, feedback, strays


def _old_rows(old: Store, new: Store) -> Ints:
    """Where each series of `new` stood in `old`; -1 if it did not."""
    row_of = {key: row for row, key in enumerate(old.keys)}
    return np.array([row_of.get(key, -1) for key in new.keys], dtype=np.int64)


def _forecasts(grid: Grid, store: Store, series: dict[str, SeriesForecast]) -> Forecasts:
    return Forecasts(
        issued_at_seconds=store.end * grid.bin_seconds,
        bin_seconds=grid.bin_seconds,
        horizons_seconds=tuple(step * grid.bin_seconds for step in grid.horizon_steps),
        leads_seconds=tuple(step * grid.bin_seconds for step in grid.lead_steps),
        quantiles=grid.quantiles,
        series=series,
    )


def _series(
    names: tuple[str, ...],
    store: Store,
    panel: Panel,
    grid: Grid,
    issued: Issued,
    knowledge: Knowledge,
) -> list[SeriesForecast]:
    rows = np.arange(len(store.keys))
    last = np.where(panel.newest[:, -1] >= 0, store.rate[rows, panel.newest[:, -1]], 0.0)
    status = statuses(panel, grid)
    at, peak, share = issued.at.tolist(), issued.peak.tolist(), issued.share.tolist()
    records = _records(knowledge, grid)
    judged = int(np.flatnonzero(recorded_targets(grid) == judged_target(grid))[0])
    return [
        SeriesForecast(
            key=key,
            status=status[row],
            at=tuple(map(tuple, at[row])),
            peak=tuple(map(tuple, peak[row])),
            last=float(last[row]),
            weights={} if status[row] == "absent" else dict(zip(names, share[row], strict=True)),
            coverage=records[row][judged].coverage,
            skill=records[row][judged].skill_yesterday,
            record=records[row],
        )
        for row, key in enumerate(store.keys)
    ]


def _records(knowledge: Knowledge, grid: Grid) -> list[tuple[Record, ...]]:
    verdict = knowledge.verdict
    seconds = [grid.target_steps[target] * grid.bin_seconds for target in recorded_targets(grid)]
    scores = np.stack([verdict.coverage, verdict.skill, verdict.skill_last], axis=-1)
    told = scores.astype(object)
    told[np.isnan(scores)] = None
    return [
        tuple(
            Record(horizon_seconds=ahead, coverage=coverage, skill_yesterday=skill, skill_last=last)
            for ahead, (coverage, skill, last) in zip(seconds, series, strict=True)
        )
        for series in told.tolist()
    ]
