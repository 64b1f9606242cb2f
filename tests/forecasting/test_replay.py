"""When a replay learns anew: often while little is known, once a day later."""

from itertools import pairwise

import numpy as np
import pytest

from forecasting.grid import Floats, Grid, Ints, make_grid
from forecasting.members import Fit
from forecasting.panel import Panel, panel_of
from forecasting.replay import replay

GRID = make_grid(1800.0, (1800.0,), (3600.0,), (0.5,))


class Learner:
    """Says the mean of what it knew when it was fitted, and notes when that was."""

    votes = True
    regressed = True

    def __init__(self) -> None:
        self.cuts: list[int] = []

    def fit(self, panel: Panel, cut: int, grid: Grid) -> Fit:
        """Take note."""
        assert grid is GRID
        self.cuts.append(cut)
        return (panel.z[:, :cut].mean(axis=1),)

    def path(self, panel: Panel, fit: Fit, origins: Ints, steps: Ints) -> Floats:
        """Return the mean from everywhere on."""
        return fit[0][:, None, None] + np.zeros((1, origins.size, steps.size))


def days_between_fits(panel: Panel) -> list[float]:
    """Days between the fits of origins, in order; the last fit knows everything."""
    learner = Learner()
    replay(panel, GRID, (learner,))
    past = sorted(learner.cuts)[:-1]
    return [(later - cut) / GRID.day for cut, later in pairwise(past)]


def known_for(days: int, unknown_before: int = 0) -> Panel:
    """One series that was seen on each of the last days, after others on which nothing was."""
    known = np.arange((unknown_before + days) * GRID.day)[None] >= unknown_before * GRID.day
    z = np.where(known, 10.0, 0.0)
    return panel_of(z, known, known, 0, GRID)


@pytest.mark.parametrize("unknown_before", [0, 3])
@pytest.mark.parametrize(("days", "between"), [(2, 0.5), (6, 0.5), (8, 1.0), (28, 1.0)])
def test_members_of_a_young_fleet_learn_each_half_day_and_later_each_day(
    days: int, between: float, unknown_before: int
) -> None:
    assert set(days_between_fits(known_for(days, unknown_before))) == {between}
