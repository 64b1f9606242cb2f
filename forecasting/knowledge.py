"""All that has been learnt per series, and when it is learnt anew.

All of it depends on the ring alone, so learning is one replay of the recent past. Series that
learn together are due again at different bins, so that no tick has to replay them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec
import numpy as np

from forecasting.calibration import Calibration, calibrate
from forecasting.grid import Floats, Grid, Ints
from forecasting.judge import Verdict, judge
from forecasting.members import Fit, Member
from forecasting.panel import Panel
from forecasting.replay import replay

_RELEARN_HOURS = 6
# A young series has more to gain from a second look: after each eighth of its known past.
_RELEARN_SHARE_OF_PAST = 0.125
# Replays of many series are cut into pieces of this many, to bound memory.
_SERIES_AT_ONCE = 16


class Knowledge(msgspec.Struct, frozen=True):
    """Aligned with the store's series: the members' `fits`, the `slopes` of the stack, bands and
    weights, the record so far; `due` [series] is the bin number of the next learning.
    """

    fits: tuple[Fit, ...]
    slopes: Floats
    calibration: Calibration
    verdict: Verdict
    due: Ints


def refreshed(
    old: Knowledge | None,
    source: Ints,
    panel: Panel,
    grid: Grid,
    members: tuple[Member, ...],
) -> Knowledge:
    """Knowledge of the panel's series, whose old rows are `source` (-1: never seen).

    Kept where it is not due, learnt from the panel where it is.
    """
    end = panel.first + panel.z.shape[1]
    due = source < 0 if old is not None else np.ones(source.size, dtype=np.bool_)
    if old is not None:
        due |= old.due[source] <= end
    if old is not None and not due.any() and np.array_equal(source, np.arange(old.due.size)):
        return old
    kept, wanted = np.flatnonzero(~due), np.flatnonzero(due)
    pieces = [_take(old, source[kept])] if old is not None and kept.size else []
    for start in range(0, wanted.size, _SERIES_AT_ONCE):
        rows = wanted[start : start + _SERIES_AT_ONCE]
        pieces.append(_learn(panel.take(rows), grid, members, rows))
    back = np.argsort(np.concatenate([kept, wanted]))
    return cast("Knowledge", _merged(lambda *parts: np.concatenate(parts)[back], *pieces))


def _learn(panel: Panel, grid: Grid, members: tuple[Member, ...], rows: Ints) -> Knowledge:
    """Replay a panel whose series are these rows of the store."""
    past, fits, slopes = replay(panel, grid, members)
    return Knowledge(fits, slopes, calibrate(past, grid), judge(past, grid), _due(panel, rows))


def _due(panel: Panel, rows: Ints) -> Ints:
    """The next learning: each row has its own turn in the round; the young do not wait for it."""
    end = panel.first + panel.z.shape[1]
    round_bins = max(1, _RELEARN_HOURS * panel.hour)
    turn = end + 1 + (rows - end - 1) % round_bins
    young = end + np.maximum(panel.known.sum(axis=1) * _RELEARN_SHARE_OF_PAST, 1).astype(np.int64)
    due: Ints = np.minimum(turn, young)
    return due


def _take(knowledge: Knowledge, rows: Ints) -> Knowledge:
    return cast("Knowledge", _merged(lambda array: array[rows], knowledge))


def _merged(join: Callable[..., Floats], *parts: Any) -> Any:  # noqa: ANN401 -- any nesting
    """Apply `join` to the arrays at the same place in values of the same shape."""
    first = parts[0]
    if isinstance(first, np.ndarray):
        return join(*parts)
    if isinstance(first, tuple):
        return tuple(_merged(join, *column) for column in zip(*parts, strict=True))
    columns = zip(*(msgspec.structs.astuple(part) for part in parts), strict=True)
    return type(first)(*(_merged(join, *column) for column in columns))
