"""Each member alone: what it says, and that it says nothing rather than zero."""

import numpy as np
import pytest

from forecasting.grid import Floats, make_grid
from forecasting.members import MEMBERS
from forecasting.panel import Panel, panel_of

DAY, HOUR = 96, 4
STEPS = np.array([1, 2, 24, DAY])
GRID = make_grid(900.0, (900.0, 86400.0), (900.0,), (0.5, 0.9))


def panel(values: Floats) -> Panel:
    """One series of roots; NaN is unknown."""
    known = np.isfinite(values)[None]
    return panel_of(np.where(known, values, 0.0), known, known, 0, GRID)


def tide(days: float) -> Floats:
    return 10 + 5 * np.sin(2 * np.pi * np.arange(int(days * DAY)) / DAY)


def said(name: str, values: Floats, origin: int | None = None) -> Floats:
    member, seen = MEMBERS[name], panel(values)
    at = values.size - 1 if origin is None else origin
    fit = member.fit(seen, at + 1, GRID)
    path: Floats = member.path(seen, fit, np.array([at]), STEPS)[0, 0]
    return path


def test_last_holds_the_newest_known_value_over_a_gap() -> None:
    assert said("last", np.array([3.0, 7.0, np.nan, np.nan])).tolist() == [7.0] * 4


def test_highest_holds_the_largest_root_of_the_last_half_hour() -> None:
    assert said("highest", np.array([9.0, 3.0, 7.0, 4.0])).tolist() == [7.0] * 4
    assert said("highest", np.array([5.0, np.nan])).tolist() == [5.0] * 4


@pytest.mark.parametrize("name", ["profile", "harmonic"])
def test_a_clean_tide_is_continued(name: str) -> None:
    values = tide(5)
    expected = 10 + 5 * np.sin(2 * np.pi * (values.size - 1 + STEPS) / DAY)
    np.testing.assert_allclose(said(name, values), expected, rtol=0.02)


@pytest.mark.parametrize(("name", "days"), [("profile", 0.5), ("harmonic", 1.0)])
def test_a_member_without_enough_past_says_nothing(name: str, days: float) -> None:
    assert np.isnan(said(name, tide(days))[2])


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_nothing_known_gives_no_forecast(name: str) -> None:
    assert np.isnan(said(name, np.full(3 * DAY, np.nan))).all()


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_nothing_after_the_origin_is_seen(name: str) -> None:
    values, origin = tide(10), 8 * DAY + 7
    changed = values.copy()
    changed[origin + 1 :] = 1000.0
    told = said(name, values, origin)
    assert np.isfinite(told).all()
    assert np.array_equal(told, said(name, changed, origin))


def test_the_profile_follows_a_new_level_and_lets_it_fade() -> None:
    values = tide(5)
    values[-HOUR:] *= 1.5
    lift = said("profile", values) / said("profile", tide(5))
    assert lift[0] == pytest.approx(1.5, rel=0.1)
    assert lift[0] > lift[1] > lift[2] > 1.0


def test_a_gap_in_the_past_does_not_pull_a_tide_down() -> None:
    values = tide(6)
    values[3 * DAY : 3 * DAY + 30] = np.nan
    np.testing.assert_allclose(said("harmonic", values), said("harmonic", tide(6)), rtol=0.01)
    np.testing.assert_allclose(said("profile", values), said("profile", tide(6)), rtol=0.01)


def test_a_profile_at_zero_still_starts_from_the_present() -> None:
    values = np.zeros(3 * DAY)
    values[-2 * HOUR :] = 12.0
    path = said("profile", values)
    assert path[0] == pytest.approx(12.0, rel=0.1)
    assert path[2] < 3.0


@pytest.mark.parametrize(("name", "back"), [("yesterday", DAY), ("hourly", HOUR)])
def test_what_was_comes_again_at_full_resolution(name: str, back: int) -> None:
    values = np.full(3 * DAY, 5.0)
    values[-back] = 40.0
    path = said(name, values)
    assert path[0] == 40.0
    assert path[1] == 5.0
