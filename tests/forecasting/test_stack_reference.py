"""The stack against statsmodels: a ridge is least squares with one more row for each slope."""

import numpy as np
import statsmodels.api as sm

from forecasting.grid import Floats, Ints, make_grid
from forecasting.stack import said_by_stack, stacked

GRID = make_grid(1800.0, (1800.0, 7200.0), (3600.0,), (0.5,))
DAY, ORIGINS = GRID.day, 6 * GRID.day
HORIZON = 1


def expected(said: Floats, seen: Floats, origins: Ints, cut: int) -> Floats:
    """Slopes of one series and target by least squares on rows and penalties."""
    taken = origins + GRID.target_steps[HORIZON] < cut
    x = (said[1:, HORIZON] - said[0, HORIZON]).T[taken]
    y = (seen[HORIZON] - said[0, HORIZON])[taken]
    weight = 0.5 ** ((cut - 1 - origins[taken]) / (5.0 * DAY))
    own = (weight[:, None] * x**2).sum(axis=0)
    few = 0.2 * DAY
    overlap = np.sqrt(GRID.target_steps[HORIZON] / GRID.origin_step)
    penalty = overlap * (1.6 * own + few / weight.sum() * own.mean()) + 1e-4 * own.mean()
    lost = weight @ np.concatenate([y[:, None], y[:, None] - x], axis=1) ** 2
    share = lost**-6.0 / (lost**-6.0).sum() * weight.sum() / (weight.sum() + few)
    rows = np.concatenate([x * np.sqrt(weight)[:, None], np.diag(np.sqrt(penalty))])
    goal = np.concatenate([y * np.sqrt(weight), np.sqrt(penalty) * share[1:]])
    return np.asarray(sm.OLS(goal, rows).fit().params)


def drawn() -> tuple[Floats, Floats]:
    """Two series, four members, three targets; the second member knows most of the target."""
    chance = np.random.default_rng(4)
    said = 10 + chance.normal(size=(2, 4, 3, ORIGINS))
    seen = said[:, 1] + 0.3 * chance.normal(size=(2, 3, ORIGINS))
    return said, seen


def test_slopes_are_those_of_penalised_least_squares() -> None:
    said, seen = drawn()
    origins, cuts = np.arange(ORIGINS), np.array([2 * DAY, 4 * DAY, ORIGINS])
    _, slopes = said_by_stack(said, seen, origins, cuts, GRID)
    for row in range(2):
        wanted = expected(said[row], seen[row], origins, ORIGINS)
        np.testing.assert_allclose(slopes[row, HORIZON], wanted, rtol=1e-6)
    assert slopes[:, :, 0].min() > 0.6


def test_what_the_regression_cannot_tell_leans_on_the_better_members() -> None:
    said, seen = drawn()
    said[:, 2] = said[:, 1] + 1e-6 * said[:, 2]
    origins, cuts = np.arange(ORIGINS), np.array([ORIGINS])
    _, slopes = said_by_stack(said, seen, origins, cuts, GRID)
    np.testing.assert_allclose(slopes[:, HORIZON, 0], slopes[:, HORIZON, 1], atol=0.01)
    assert slopes[:, HORIZON, :2].sum(axis=1).min() > 0.9


def test_nothing_that_came_after_a_cut_is_known_before_the_next() -> None:
    said, seen = drawn()
    origins, cuts = np.arange(ORIGINS), np.array([2 * DAY, 4 * DAY, ORIGINS])
    changed = seen.copy()
    changed[:, :, 4 * DAY :] += 100.0
    before, _ = said_by_stack(said, seen, origins, cuts, GRID)
    after, _ = said_by_stack(said, changed, origins, cuts, GRID)
    known = slice(2 * DAY, 4 * DAY - 1)
    np.testing.assert_array_equal(before[:, HORIZON, known], after[:, HORIZON, known])


def test_without_evidence_the_stack_says_the_last_value() -> None:
    said, _ = drawn()
    np.testing.assert_allclose(stacked(said, np.zeros((2, 3, 3))), said[:, 0])
    silent = said.copy()
    silent[:, 1:] = np.nan
    np.testing.assert_allclose(stacked(silent, np.ones((2, 3, 3))), said[:, 0])
