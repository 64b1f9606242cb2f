"""Near quantiles move with what closes between two replays, and with nothing else."""

from functools import partial

import numpy as np
import pytest

from forecasting import DEFAULT_HORIZONS, DEFAULT_LEADS
from forecasting.feedback import Feedback, aligned, drift, heard, near_targets, recorded
from forecasting.grid import Floats, make_grid
from forecasting.panel import Panel
from tests.forecasting.panels import steady

GRID = make_grid(300.0, DEFAULT_HORIZONS, DEFAULT_LEADS, (0.5, 0.9))
BINS = 40
TARGETS = len(GRID.target_steps)
panel = partial(steady, GRID, BINS)


def issued(root: float) -> Feedback:
    """A feedback that said `root` for everything one bin ago."""
    said = np.full((1, len(GRID.target_steps), 2), root)
    blank = aligned(None, np.array([-1]), GRID)
    return recorded(blank, panel(10.0), said, GRID)


def moved(feedback: Feedback, seen: Panel, closed: int = 1) -> Floats:
    """Drift of the one-bin horizon after the bins that closed."""
    found: Floats = drift(heard(feedback, seen, GRID, closed), GRID)[0, 0]
    return found


@pytest.mark.parametrize(
    ("root", "up"), [pytest.param(11.0, True, id="missed"), pytest.param(13.0, False, id="held")]
)
def test_a_miss_moves_quantiles_up_and_a_hit_a_little_down(root: float, up: bool) -> None:
    median, upper = moved(issued(root), panel(12.0))
    assert (median > 0) == (upper > 0) == up
    assert abs(upper / median) == pytest.approx(1.8 if up else 0.2)


def test_an_unknown_bin_teaches_nothing() -> None:
    assert moved(issued(11.0), panel(0.0, known=False)).tolist() == [0.0, 0.0]


def test_nothing_is_compared_with_a_target_of_another_time() -> None:
    assert moved(issued(11.0), panel(12.0), closed=100).tolist() == [0.0, 0.0]


def test_series_keep_their_drift_when_rows_move() -> None:
    learnt = heard(issued(11.0), panel(12.0), GRID, 1)
    moved = aligned(learnt, np.array([-1, 0]), GRID)
    assert np.array_equal(moved.missed[1], learnt.missed[0])
    assert not moved.missed[0].any()
    assert near_targets(GRID).size == moved.missed.shape[1]


def after(roots: list[float]) -> Floats:
    """Drift of the one-bin horizon [bin, quantile]; each root stood against what came, 12."""
    feedback, path = issued(roots[0]), []
    for root in [*roots[1:], roots[-1]]:
        feedback = recorded(
            heard(feedback, panel(12.0), GRID, 1), panel(12.0), np.full((1, TARGETS, 2), root), GRID
        )
        path.append(drift(feedback, GRID)[0, 0])
    return np.array(path)


def test_misses_that_pile_up_move_high_quantiles_in_larger_steps_and_back() -> None:
    path = after([11.0] * 20 + [13.0] * 200)
    upper = np.diff(path[:, 1])
    assert upper[0] == pytest.approx(0.02 * 0.9, rel=0.01)
    assert upper[5] == pytest.approx(0.02 * 0.9 + 0.08 * 0.8, rel=0.01)
    assert path[19, 1] == pytest.approx(1.0)
    assert path[-1, 1] < 0.05
    assert np.diff(path[:20, 0]) == pytest.approx(0.02 * 0.5, rel=0.05)


def test_misses_at_twice_the_share_that_is_due_are_chance() -> None:
    path = after([11.0, 13.0, 13.0, 13.0, 13.0] * 40)
    assert np.diff(path[:, 1]).max() <= 0.02 * 0.9


def test_a_miss_moves_a_target_less_the_more_of_them_overlap() -> None:
    blank = aligned(None, np.array([-1]), GRID)
    once = Feedback(blank.missed + 1, blank.piled, blank.said)
    steps = np.array(GRID.target_steps)[near_targets(GRID)]
    assert drift(once, GRID)[0, :, 1] * steps == pytest.approx(0.02)


def test_a_miss_is_half_forgotten_after_a_day() -> None:
    learnt = heard(issued(11.0), panel(12.0), GRID, 1)
    assert moved(learnt, panel(12.0), GRID.day) == pytest.approx(drift(learnt, GRID)[0, 0] / 2)
