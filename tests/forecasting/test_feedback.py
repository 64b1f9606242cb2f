"""Near quantiles move with what closes between two replays, and with nothing else."""

import numpy as np
import pytest

from forecasting import DEFAULT_HORIZONS, DEFAULT_LEADS
from forecasting.feedback import Feedback, aligned, heard, near_targets, recorded
from forecasting.grid import Floats, make_grid
from forecasting.panel import Panel, panel_of

GRID = make_grid(300.0, DEFAULT_HORIZONS, DEFAULT_LEADS, (0.5, 0.9))
BINS = 40


def panel(newest: float, *, known: bool = True) -> Panel:
    """One series at root 10 whose newest bin is `newest`."""
    z = np.full((1, BINS), 10.0)
    z[0, -1] = newest
    seen = np.ones((1, BINS), dtype=np.bool_)
    seen[0, -1] = known
    return panel_of(np.where(seen, z, 0.0), seen, seen, 0, GRID)


def issued(root: float) -> Feedback:
    """A feedback that said `root` for everything one bin ago."""
    said = np.full((1, len(GRID.target_steps), 2), root)
    blank = aligned(None, np.array([-1]), GRID)
    return recorded(blank, panel(10.0), said, GRID)


def drift(feedback: Feedback, seen: Panel, closed: int = 1) -> Floats:
    """Drift of the one-bin horizon after the bins that closed."""
    moved: Floats = heard(feedback, seen, GRID, closed).drift[0, 0]
    return moved


@pytest.mark.parametrize(
    ("root", "up"), [pytest.param(11.0, True, id="missed"), pytest.param(13.0, False, id="held")]
)
def test_a_miss_moves_quantiles_up_and_a_hit_a_little_down(root: float, up: bool) -> None:
    median, upper = drift(issued(root), panel(12.0))
    assert (median > 0) == (upper > 0) == up
    assert abs(upper / median) == pytest.approx(1.8 if up else 0.2)


def test_an_unknown_bin_teaches_nothing() -> None:
    assert drift(issued(11.0), panel(0.0, known=False)).tolist() == [0.0, 0.0]


def test_nothing_is_compared_with_a_target_of_another_time() -> None:
    assert drift(issued(11.0), panel(12.0), closed=100).tolist() == [0.0, 0.0]


def test_series_keep_their_drift_when_rows_move() -> None:
    learnt = heard(issued(11.0), panel(12.0), GRID, 1)
    moved = aligned(learnt, np.array([-1, 0]), GRID)
    assert np.array_equal(moved.drift[1], learnt.drift[0])
    assert not moved.drift[0].any()
    assert near_targets(GRID).size == moved.drift.shape[1]
