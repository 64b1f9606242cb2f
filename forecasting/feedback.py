"""Near targets learn from every bin that closes, between two replays.

A replay is hours old at worst. Until the next one, each near quantile moves up a step when the
target exceeds it and down a little when it does not, in the ratio that keeps its share of
exceedances (Gibbs & Candes 2021, as quantile tracking). The steps are small, because targets that
overlap miss together: a large step would follow their chance. Misses fade, as the next replays
hear them too. Misses that come twice as often as they are due for longer than chance has it (a
cumulative sum, Page 1954) say that the level has shifted; they move the quantile fast, and back
as they stop. A median is never missed so often. Far targets see too few independent outcomes in
that time; they are left to the replay.
"""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.grid import Floats, Grid, Ints, Singles
from forecasting.panel import Panel
from forecasting.scales import near

# One miss moves a quantile by this share of its span, which is about P95 - P50 of a target, over
# the target's steps ahead: so many targets overlap, and miss together.
_STEP = 0.02
# What one miss moves once more have piled up than chance brings, over the target's steps ahead and
# at most. Chance are most of a target's own length, in which all miss together, and some.
_ALARMED_STEP = 0.5
_GREATEST_ALARMED_STEP = 0.08
_MISSES_MORE = 2.0
_MISSES_PER_STEP_AHEAD = 0.75
_GREATEST_DRIFT = 1.0
_SPAN_UNITS = 2.0
# By then a replay has learnt from a miss, and it would count twice.
_HALF_LIFE_HOURS = 24.0
_KNOWN_SHARE = 0.75


class Feedback(msgspec.Struct, frozen=True):
    """What was said lately, and how far that has moved the quantiles.

    `missed` [series, near target, quantile] misses over those that were due, fading; `piled` the
    same over twice those that were due, since it was last 0, which it never falls below; `said`
    [series, bin, near target, quantile] the roots issued at the newest bins, newest last, NaN
    where none were.
    """

    missed: Singles
    piled: Singles
    said: Singles


def near_targets(grid: Grid) -> Ints:
    """Numbers of the targets that take feedback."""
    return np.flatnonzero(near(np.array(grid.target_steps), grid))


def spans(spread: Floats, grid: Grid) -> Floats:
    """Roots per drift of 1 [series, near target], from the present spread [series, 1]."""
    which = near_targets(grid)
    span: Floats = _SPAN_UNITS * spread * np.sqrt(np.array(grid.target_steps)[which])
    return span


def drift(feedback: Feedback, grid: Grid) -> Floats:
    """How far the quantiles have moved, in spans [series, near target, quantile]."""
    alarmed = np.maximum(feedback.piled - _by_chance(grid), 0)
    moved = _step(grid) * feedback.missed + _alarmed_step(grid) * alarmed
    return np.clip(moved, -_GREATEST_DRIFT, _GREATEST_DRIFT).astype(np.float64)


def aligned(old: Feedback | None, source: Ints, grid: Grid) -> Feedback:
    """Feedback for the series whose old rows are `source`; -1 marks a series never seen."""
    shape = (near_targets(grid).size, len(grid.quantiles))
    missed = np.zeros((source.size, *shape), np.float32)
    piled = np.zeros((source.size, *shape), np.float32)
    said = np.full((source.size, grid.hour + 1, *shape), np.nan, np.float32)
    if old is not None:
        missed[source >= 0] = old.missed[source[source >= 0]]
        piled[source >= 0] = old.piled[source[source >= 0]]
        said[source >= 0] = old.said[source[source >= 0]]
    return Feedback(missed, piled, said)


def heard(feedback: Feedback, panel: Panel, grid: Grid, closed: int) -> Feedback:
    """Compare what was issued with the `closed` bins that have come since; move on to now."""
    said = moved(feedback.said, closed)
    missed = feedback.missed * np.float32(0.5 ** (closed / (_HALF_LIFE_HOURS * grid.hour)))
    piled = feedback.piled.copy()
    due = 1 - np.array(grid.quantiles)
    for index, target in enumerate(near_targets(grid)):
        steps = grid.target_steps[target]
        bins = steps if target >= len(grid.horizon_steps) else 1
        for back in range(min(closed, grid.hour + 1 - steps)):
            seen = seen_at(panel, bins, back)
            then = said[:, -1 - back - steps, index]
            known = np.isfinite(seen) & np.isfinite(then).all(axis=1)
            more = ((seen[:, None] > then) - due) * known[:, None]
            missed[:, index] += more.astype(np.float32)
            higher = piled[:, index] + more - due * known[:, None]
            piled[:, index] = np.maximum(higher, 0).astype(np.float32)
    most = _GREATEST_DRIFT / _step(grid)
    piled = np.minimum(piled, _by_chance(grid) + _GREATEST_DRIFT / _alarmed_step(grid))
    missed = np.clip(missed, -most, most).astype(np.float32)
    return Feedback(missed, piled.astype(np.float32), said)


def _by_chance(grid: Grid) -> Floats:
    """Misses that pile up now and then where nothing has changed [near target, 1]."""
    return _MISSES_MORE + _MISSES_PER_STEP_AHEAD * _ahead(grid)


def _step(grid: Grid) -> Floats:
    """What one miss moves, in spans [near target, 1]."""
    return _STEP / _ahead(grid)


def _alarmed_step(grid: Grid) -> Floats:
    """What one more miss moves after an alarm, in spans [near target, 1]."""
    return np.minimum(_ALARMED_STEP / _ahead(grid), _GREATEST_ALARMED_STEP)


def _ahead(grid: Grid) -> Floats:
    """Bins to the end of each target [near target, 1]."""
    return np.array(grid.target_steps, dtype=np.float64)[near_targets(grid), None]


def recorded(feedback: Feedback, panel: Panel, roots: Floats, grid: Grid) -> Feedback:
    """Remember the roots [series, target, quantile] issued now, to be compared later.

    Forecasts from a silent feed are not remembered: their misses would speak of the silence.
    """
    said = feedback.said.copy()
    fresh = panel.known[:, -1]
    said[fresh, -1] = roots[fresh][:, near_targets(grid)]
    return Feedback(feedback.missed, feedback.piled, said)


def moved(said: Singles, by: int) -> Singles:
    """What was said at the newest bins [series, bin, ...], `by` bins later."""
    out = np.full_like(said, np.nan)
    if by < said.shape[1]:
        out[:, : said.shape[1] - by] = said[:, by:]
    return out


def seen_at(panel: Panel, bins: int, back: int) -> Floats:
    """Largest root of the `bins` that ended up to `back` bins ago [series]; NaN if unknown."""
    stop = panel.z.shape[1] - back
    window = slice(stop - bins, stop)
    enough = panel.known[:, window].sum(axis=1) >= _KNOWN_SHARE * bins
    return np.where(enough, panel.z[:, window].max(axis=1), np.nan)
