"""How far the stack has strayed: the same from a replay and from what was said tick by tick."""

from functools import partial

import numpy as np
import pytest

from forecasting import DEFAULT_HORIZONS, DEFAULT_LEADS
from forecasting.feedback import near_targets
from forecasting.grid import Floats, make_grid
from forecasting.scales import scales
from forecasting.strays import Strays, aligned, at_the_end, followed, recorded, replayed
from tests.forecasting.panels import steady

GRID = make_grid(600.0, DEFAULT_HORIZONS[1:], DEFAULT_LEADS[1:2], (0.5, 0.9))
BINS = 60
TARGETS = len(GRID.target_steps)
NEAR = near_targets(GRID)
UNKNOWN = np.full((1, NEAR.size), np.nan, np.float32)
panel = partial(steady, GRID, BINS)


def said(root: float) -> Strays:
    """Strays of a stack that said `root` for everything one bin ago."""
    stack = np.full((1, TARGETS), root)
    return recorded(aligned(None, np.array([-1]), GRID), panel(10.0), stack, GRID)


def after(roots: list[float]) -> Floats:
    """Strays [tick, near target] of a stack that says 10 and sees these newest bins."""
    strays, path = said(10.0), []
    for root in roots:
        now = panel(root)
        strays = followed(strays, now, GRID, 1, UNKNOWN)
        strays = recorded(strays, now, np.full((1, TARGETS), 10.0), GRID)
        path.append(strays.recent[0])
    return np.array(path)


def test_the_mean_error_halves_every_forty_minutes() -> None:
    path = after([13.0, 10.0, 10.0, 10.0, 10.0])[:, 0]
    assert path == pytest.approx(3.0 * 0.5 ** (np.arange(5) / 4), rel=1e-6)


def test_a_target_strays_only_once_it_has_come() -> None:
    path = after([13.0, 13.0, 13.0, 13.0])
    half_hour = NEAR.tolist().index(GRID.horizon_steps.index(3))
    assert np.isnan(path[:2, half_hour]).all()
    assert path[2, half_hour] == pytest.approx(3.0)


def test_an_unknown_bin_and_a_silent_feed_teach_nothing() -> None:
    silent = panel(0.0, known=False)
    assert np.isnan(followed(said(11.0), silent, GRID, 1, UNKNOWN).recent).all()
    unsaid = recorded(said(11.0), silent, np.full((1, TARGETS), 5.0), GRID)
    assert unsaid.said[0, -1] == pytest.approx(11.0)


def test_after_an_hour_without_a_call_the_replay_is_believed() -> None:
    learnt = followed(said(11.0), panel(12.0), GRID, 1, UNKNOWN)
    replay = np.full_like(UNKNOWN, 7.0)
    assert followed(learnt, panel(12.0), GRID, GRID.hour, replay).recent[0, 0] == pytest.approx(1.0)
    late = followed(learnt, panel(12.0), GRID, GRID.hour + 1, replay)
    assert np.array_equal(late.recent, replay)


def test_series_keep_their_strays_when_rows_move() -> None:
    learnt = followed(said(11.0), panel(12.0), GRID, 1, UNKNOWN)
    moved = aligned(learnt, np.array([-1, 0]), GRID)
    assert np.array_equal(moved.recent[1], learnt.recent[0], equal_nan=True)
    assert np.isnan(moved.recent[0]).all()


def test_a_replay_knows_an_error_once_its_target_has_come() -> None:
    error = np.zeros((1, TARGETS, 20))
    error[..., 5] = -8.0
    strays = replayed(error, GRID)[0]
    half_hour, hour = (GRID.horizon_steps.index(steps) for steps in (3, 6))
    assert strays[half_hour, 5] == 0.0
    assert strays[half_hour, 6] > strays[half_hour, 7] > 0.0
    assert strays[hour, 6] == 0.0
    assert strays[hour, 7] > 0.0
    assert np.isnan(strays[~np.isin(np.arange(TARGETS), NEAR)]).all()
    assert at_the_end(error, GRID) == pytest.approx(strays[NEAR, -1:].T, nan_ok=True)


def test_where_the_stack_strays_a_target_is_restless() -> None:
    stray = np.full((1, TARGETS, 3), np.nan)
    stray[..., 1], stray[..., 2] = 0.5, 8.0
    restless = scales(panel(10.0), GRID, np.array([BINS - 3] * 3), stray).restless[0]
    assert (restless[NEAR, 2] > 2 * restless[NEAR, 1]).all()
    assert np.isfinite(restless).all()
    assert (restless[~np.isin(np.arange(TARGETS), NEAR)] == 1.0).all()
