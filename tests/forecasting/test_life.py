"""The edges of a series' life as the forecaster issues them."""

import numpy as np
import pytest

from forecasting import (
    Forecasts,
    Sample,
    State,
    Stretch,
    Sum,
    forecast,
    initial_state,
)

DAY = 288
DAYS = 4


def tide(scale: float, seed: int, bins: int = DAYS * DAY) -> list[float]:
    rng = np.random.default_rng(seed)
    day = 1 + 0.5 * np.sin(2 * np.pi * np.arange(bins) / DAY)
    wander = np.cumsum(rng.normal(size=bins)) * 0.02
    return [float(rate) for rate in scale * day * np.exp(wander - wander.mean())]


def stretch(key: str, rates: list[float], first: int = 0) -> Stretch:
    return Stretch(key, 300.0 * first, 300.0, np.array(rates))


def fleet() -> list[Stretch]:
    return [stretch(f"m{n}/tokens", tide(10.0 ** (n % 4), n)) for n in range(6)]


@pytest.fixture(scope="module")
def state() -> State:
    """Six models with four days of past, one that is off nine hours of ten, and a sum."""
    rng = np.random.default_rng(9)
    seldom = np.where(rng.random(DAYS * DAY) < 0.1, 80.0, 0.0)
    begun = initial_state(sums=(Sum("fleet/tokens", ("m*/tokens",)),))
    told = [*fleet(), stretch("seldom/tokens", seldom.tolist())]
    return forecast(begun, told, 300.0 * DAYS * DAY)[1]


def after(state: State, told: list[Sample | Stretch], bins: int = 0) -> Forecasts:
    return forecast(state, told, 300.0 * (DAYS * DAY + bins))[0]


def test_a_model_that_never_ran_is_as_large_as_its_siblings(state: State) -> None:
    named = Sample("new/tokens", 300.0 * (DAYS * DAY - 1), 300.0, 0.0, valid=False)
    one = after(state, [named]).series["new/tokens"]
    assert one.status == "absent"
    assert one.weights == {}
    assert 1.0 < one.at[2][0] < one.at[2][1] < 10_000.0
    assert one.peak[-1][-1] >= one.at[5][-1]


def test_a_sum_is_nobodys_sibling() -> None:
    named = Sample("new/tokens", 300.0 * (DAYS * DAY - 1), 300.0, 0.0, valid=False)
    lone = forecast(initial_state(), [*fleet(), named], 300.0 * DAYS * DAY)[0]
    begun = initial_state(sums=(Sum("fleet/tokens", ("m*/tokens",)),))
    summed = forecast(begun, [*fleet(), named], 300.0 * DAYS * DAY)[0]
    assert summed.series["fleet/tokens"].last > summed.series["m3/tokens"].last
    assert summed.series["new/tokens"].at == lone.series["new/tokens"].at


def test_a_model_of_half_an_hour_leans_on_its_siblings(state: State) -> None:
    told = stretch("new/tokens", [200.0, 210.0, 190.0, 205.0, 200.0, 195.0], DAYS * DAY)
    one = after(state, [told], 6).series["new/tokens"]
    assert one.weights["siblings"] > 0.9
    assert sum(one.weights.values()) == pytest.approx(1.0)
    assert 150.0 < one.at[2][0] < 300.0
    assert one.at[2][1] > one.at[2][0]


def test_without_siblings_a_young_model_is_on_its_own() -> None:
    begun = initial_state()
    one = forecast(begun, [stretch("new/tokens", [200.0] * 6)], 1800.0)[0].series["new/tokens"]
    assert "siblings" not in one.weights


def test_a_model_that_is_mostly_off_is_forecast_by_its_chance_of_being_on(state: State) -> None:
    one = after(state, []).series["seldom/tokens"]
    assert one.weights == {"chance of being on": 1.0}
    assert one.at[2][0] == 0.0
    assert one.at[2][-1] == pytest.approx(80.0, rel=0.3)
    assert one.peak[4][1] > 0
    assert (one.coverage, one.skill, one.record) == (None, None, ())


def test_the_sum_is_a_series_like_any_other(state: State) -> None:
    found = after(state, []).series
    members = [found[f"m{n}/tokens"] for n in range(6)]
    total = found["fleet/tokens"]
    assert total.last == pytest.approx(sum(one.last for one in members), rel=1e-4)
    assert total.status == "live"
    assert total.at[2][2] < 1.05 * sum(one.at[2][2] for one in members)


def test_learning_takes_turns_and_keeps_what_is_not_due(state: State) -> None:
    told = [stretch(f"m{n}/tokens", [100.0], DAYS * DAY) for n in range(6)]
    told.append(stretch("seldom/tokens", [0.0], DAYS * DAY))
    _, later = forecast(state, told, 300.0 * (DAYS * DAY + 1))
    assert later.life.keys == ("seldom/tokens",)
    assert later.life.due.tolist() == state.life.due.tolist()
    assert later.life.off is state.life.off
    _, round_later = forecast(state, told, 300.0 * (DAYS * DAY + 13 * 12))
    assert round_later.life.off is not state.life.off


def test_time_that_goes_back_makes_it_learn_anew(state: State) -> None:
    ahead = forecast(state, [], 300.0 * (DAYS * DAY + 200))[1]
    back, again = forecast(ahead, [], 300.0 * (DAYS * DAY + 3))
    assert back.issued_at_seconds == 300.0 * (DAYS * DAY + 3)
    assert again.knowledge is not None
    ticked = forecast(state, [], 300.0 * (DAYS * DAY + 3))[0]
    assert {key: one.last for key, one in back.series.items()} == {
        key: one.last for key, one in ticked.series.items()
    }
