"""What is said of a series: tides are told from noise, and too little is admitted."""

import numpy as np
import pytest

from forecasting import Sample, State, forecast, initial_state
from forecasting.diagnostics import (
    Diagnosis,
    autocorrelation,
    check,
    diagnose,
    hourly_means,
    past_rates,
    season_strengths,
)

Series = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
DAY, WEEK = 24, 168
HOURS = np.arange(14 * DAY)
DAILY = 50 * np.sin(2 * np.pi * HOURS / DAY)
WEEKEND = np.where(HOURS // DAY % 7 >= 5, -60.0, 0.0)
KEY = "chat/generated_tokens"


def noise(seed: int, size: int = HOURS.size) -> Series:
    return np.random.default_rng(seed).normal(size=size)


@pytest.mark.parametrize("seed", range(3))
def test_seasons_are_told_from_noise_and_from_each_other(seed: int) -> None:
    strengths = {
        name: season_strengths(100 + values + 8 * noise(seed), (DAY, WEEK))
        for name, values in {"none": 0 * DAILY, "day": DAILY, "week": WEEKEND}.items()
    }
    for name, (day, week) in strengths.items():
        assert day is not None
        assert week is not None
        assert (day > 0.9) if name == "day" else (day < 0.15), (name, day)
        assert (week > 0.7) if name == "week" else (week < 0.3), (name, week)


def test_gaps_are_bridged() -> None:
    holed = np.where(HOURS % 17 == 3, np.nan, 100 + DAILY + noise(7))
    (strength,) = season_strengths(holed, (DAY,))
    assert strength is not None
    assert strength > 0.9
    assert autocorrelation(holed, [DAY])[0] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    "values", [np.ones(10 * DAY), DAILY[:DAY], np.full(10 * DAY, np.nan), np.zeros(10 * DAY)]
)
def test_no_verdict_without_movement_or_past(values: Series) -> None:
    assert season_strengths(values, (DAY,)) == (None,)


def test_unknown_hours_before_the_first_are_no_past() -> None:
    young = np.where(HOURS.size - 3 * DAY > HOURS, np.nan, 100 + DAILY + noise(1))
    day, week = season_strengths(young, (DAY, WEEK))
    assert day is not None
    assert week is None
    assert autocorrelation(young, [WEEK]) == (None,)


def test_periods_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(ValueError, match="periods"):
        season_strengths(DAILY, (WEEK, DAY))


def test_autocorrelation_at_the_asked_lags() -> None:
    same, opposite, beyond = autocorrelation(100 + DAILY, [DAY, DAY // 2, 1000])
    assert same == pytest.approx(1.0, abs=0.01)
    assert opposite == pytest.approx(-1.0, abs=0.05)
    assert beyond is None
    assert autocorrelation(np.ones(50), [1, 2]) == (None, None)


def test_hours_that_are_half_unknown_are_unknown() -> None:
    values = np.array([9.0, 1.0, 3.0, np.nan, 5.0, np.nan, np.nan])
    np.testing.assert_array_equal(hourly_means(values, 3), [2.0, np.nan])


# ---- errors


def test_noise_is_random_and_a_pattern_is_not() -> None:
    plain = check(noise(3, 700))
    assert plain is not None
    assert plain.random
    again = check(noise(3, 700) + 2 * np.sin(2 * np.pi * np.arange(700) / 96))
    assert again is not None
    assert not again.random
    assert again.correlation == pytest.approx(-0.69, abs=0.01)
    assert again.lag_seconds == 86400.0


@pytest.mark.parametrize("errors", [np.ones(700), noise(1, 90), np.full(700, np.nan), np.zeros(0)])
def test_few_errors_or_none_are_not_judged(errors: Series) -> None:
    assert check(errors) is None


# ---- the state of a forecaster


def state_of(rates: Series) -> State:
    samples = [
        Sample(KEY, float(number * 300), 300.0, float(rate), valid=bool(np.isfinite(rate)))
        for number, rate in enumerate(rates)
    ]
    _, state = forecast(initial_state(), samples, rates.size * 300.0)
    return state


@pytest.fixture(scope="module")
def tidal() -> State:
    bins = np.arange(4 * 288)
    rates = 1000 + 500 * np.sin(2 * np.pi * bins / 288) + 30 * noise(5, bins.size)
    rates[-2:] = np.nan
    rates[100] = 0.0
    return state_of(rates)


def test_a_diagnosis_holds_what_is_known(tidal: State) -> None:
    found = diagnose(tidal, KEY, {"last": 0.5, "profile": 0.5, "harmonic": 0.0})
    assert found.known_seconds == (4 * 288 - 3) * 300.0, "the zero of the whole fleet is an outage"
    assert found.newest_age_seconds == 600.0
    assert found.zero_share == 0.0
    assert found.season_day is not None
    assert found.season_day > 0.9
    assert (found.season_week, found.autocorrelation_week) == (None, None)
    assert found.autocorrelation_day is not None
    assert found.autocorrelation_day > 0.8
    assert found.errors is not None
    assert found.errors.count > 150


def test_zeros_that_are_common_count() -> None:
    rates = np.where(np.arange(288) % 4 == 0, 5.0, 0.0)
    assert diagnose(state_of(rates), KEY, {"last": 1.0}).zero_share == 0.75


def test_what_was_never_seen_is_unknown(tidal: State) -> None:
    unknown = Diagnosis(known_seconds=0.0)
    assert diagnose(tidal, "code/requests", {"last": 1.0}) == unknown
    silent = state_of(np.full(3, np.nan))
    assert diagnose(silent, KEY, {}) == unknown


def test_past_rates_end_where_they_are_asked_to(tidal: State) -> None:
    end = 4 * 288 * 300.0
    assert past_rates(tidal, KEY, end, 2) == (None, None)
    *before, known = past_rates(tidal, KEY, end - 600.0, 3)
    assert known == pytest.approx(1000, abs=150)
    assert None not in before
    assert past_rates(tidal, "code/requests", end, 2) == (None, None)
    assert past_rates(tidal, KEY, 600.0, 4)[:2] == (None, None)
