"""All that has been learnt per series, and when it is learnt anew.

All of it depends on the ring alone, so learning is one replay of the recent past. Series take
turns, so that no tick has to replay the whole fleet.
"""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.calibration import Calibration, calibrate
from forecasting.grid import Grid, Ints, Reals, Singles
from forecasting.judge import Verdict, judge
from forecasting.members import Member
from forecasting.panel import Panel, make_panel
from forecasting.replay import replay
from forecasting.rows import joined, take
from forecasting.store import Store
from forecasting.strays import at_the_end

_RELEARN_HOURS = 8
# A young series has more to gain from a second look: after each eighth of its known past.
_RELEARN_SHARE_OF_PAST = 0.125
# As many series learn together: few enough to stay in the processor's cache.
_SERIES_AT_ONCE = 32


class Knowledge(msgspec.Struct, frozen=True):
    """Aligned with the store's series: the members' `fits`, the `slopes` of the stack, bands and
    weights, how far it `strayed` last [series, near target], the record so far; `due` [series] is
    the bin number of the next learning.
    """

    fits: tuple[tuple[Singles, ...], ...]
    slopes: Singles
    calibration: Calibration
    strayed: Singles
    verdict: Verdict
    due: Ints


def refreshed(
    old: Knowledge | None,
    source: Ints,
    store: Store,
    grid: Grid,
    members: tuple[Member, ...],
    place: Ints,
) -> Knowledge:
    """Knowledge of the store's series, whose rows in `old` are `source` (-1: never seen).

    Kept where it is not due, learnt from the store where it is. `place` is where each series
    stands in the fleet, which gives it its turn in the round of learning.
    """
    if old is None:
        due = np.ones(source.size, np.bool_)
    else:
        due = (source < 0) | (old.due[source] <= store.end)
    wanted = np.flatnonzero(due)
    parts = [] if old is None or due.all() else [take(old, source[~due])]
    for start in range(0, wanted.size, _SERIES_AT_ONCE):
        rows = wanted[start : start + _SERIES_AT_ONCE]
        turn = place[rows] // _SERIES_AT_ONCE
        parts.append(_learn(make_panel(store.take(rows), grid), grid, members, turn))
    back = np.argsort(np.concatenate([np.flatnonzero(~due), wanted]))
    return take(joined(parts), back)


def _learn(panel: Panel, grid: Grid, members: tuple[Member, ...], turn: Ints) -> Knowledge:
    past, fits, slopes = replay(panel, grid, members)
    return Knowledge(
        tuple(tuple(map(_single, fit)) for fit in fits),
        _single(slopes),
        calibrate(past, grid),
        _single(at_the_end(past.seen - past.said[:, -1], grid)),
        judge(past, grid),
        _due(panel, turn),
    )


def _due(panel: Panel, turn: Ints) -> Ints:
    """Bin of the next learning [series]: at its turn; the young do not wait for it."""
    end = panel.first + panel.z.shape[1]
    round_bins = max(1, _RELEARN_HOURS * panel.hour)
    next_turn = end + 1 + (turn - end - 1) % round_bins
    young = np.maximum(panel.known.sum(axis=1) * _RELEARN_SHARE_OF_PAST, 1).astype(np.int64)
    due: Ints = np.minimum(next_turn, end + young)
    return due


def _single(values: Reals) -> Singles:
    return values.astype(np.float32)
