"""The forecaster as a whole: shapes, odd inputs, statuses, and what a caller may rely on."""

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting import Forecasts, Sample, SeriesForecast, State, forecast, initial_state

DAY, HOUR, BIN = 86400.0, 3600.0, 300.0


def series(rates: Iterable[float], key: str = "chat/prompt", start: float = 0.0) -> list[Sample]:
    return [Sample(key, start + BIN * i, BIN, rate) for i, rate in enumerate(rates)]


def after(samples: list[Sample], now: float) -> tuple[Forecasts, State]:
    return forecast(initial_state(), samples, now)


def only(forecasts: Forecasts) -> SeriesForecast:
    (found,) = forecasts.series.values()
    return found


def check_shape(forecasts: Forecasts) -> None:
    """What must hold for every forecast, whatever went in."""
    for key, one in forecasts.series.items():
        at, peak = np.array(one.at), np.array(one.peak)
        assert one.key == key
        assert at.shape == (len(forecasts.horizons_seconds), len(forecasts.quantiles))
        assert peak.shape == (len(forecasts.leads_seconds), len(forecasts.quantiles))
        assert math.isfinite(one.last)
        for rates in (at, peak):
            assert np.isfinite(rates).all()
            assert (rates >= 0).all()
            assert (np.diff(rates, axis=1) >= 0).all()
        assert (np.diff(peak, axis=0) >= 0).all()
        for row, lead in enumerate(forecasts.leads_seconds):
            inside = np.array(forecasts.horizons_seconds) <= lead
            assert (peak[row] >= at[inside]).all()
        assert (one.status == "absent") == (one.weights == {})
        assert not one.weights or sum(one.weights.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("rates", "status"),
    [
        pytest.param([5.0], "live", id="single point"),
        pytest.param([5.0] * 300, "live", id="constant"),
        pytest.param([0.0] * 300, "idle", id="all zero"),
        pytest.param([math.nan] * 3, "absent", id="all unknown"),
        pytest.param([5.0] * 300 + [math.nan], "live", id="one bin late"),
        pytest.param([5.0] * 300 + [math.nan, 5.0, math.nan, 5.0], "partial", id="holes"),
        pytest.param([5.0] * 300 + [math.nan] * 3, "partial", id="fifteen minutes silent"),
        pytest.param([5.0] * 300 + [math.nan] * 4, "stale", id="longer silent"),
        pytest.param([5.0] * 300 + [0.0] * 2, "partial", id="fleet at zero for two bins"),
        pytest.param([5.0] * 300 + [0.0] * 4, "stale", id="fleet at zero for longer"),
        pytest.param([-1.0, math.inf, 5.0], "live", id="odd values before the first good one"),
    ],
)
def test_status(rates: list[float], status: str) -> None:
    forecasts, _ = after(series(rates), BIN * len(rates))
    check_shape(forecasts)
    assert only(forecasts).status == status


def test_nothing_ever_seen_gives_no_series() -> None:
    forecasts, state = after([], 1000.0)
    assert forecasts.series == {}
    assert forecasts.issued_at_seconds == 900.0
    assert only(forecast(state, series([5.0], start=900.0), 1200.0)[0]).last == 5.0


def test_a_constant_series_is_forecast_as_constant() -> None:
    one = only(after(series([100.0] * 600), 600 * BIN)[0])
    np.testing.assert_allclose(np.array(one.at)[:, 0], 100.0, rtol=1e-3)
    assert np.array(one.at)[:4, -1].max() < 110.0


def test_an_idle_series_is_forecast_as_zero() -> None:
    one = only(after(series([0.0] * 600), 600 * BIN)[0])
    assert np.array(one.peak).max() == 0.0


def test_a_young_series_holds_its_last_value_in_a_wide_band() -> None:
    one = only(after(series([100.0, 104.0, 100.0]), 3 * BIN)[0])
    assert one.at[2][0] == pytest.approx(100.0, rel=0.05)
    assert one.at[2][1] > 115.0
    assert one.at[5][1] > 150.0
    assert one.weights["last"] + one.weights["stack"] == pytest.approx(1.0)
    assert (one.coverage, one.skill) == (None, None)


def test_an_outage_of_the_fleet_does_not_shrink_the_forecast() -> None:
    feed = [*series([100.0] * 600 + [0.0] * 12), *series([50.0] * 600 + [0.0] * 12, "b")]
    forecasts, _ = after(feed, 612 * BIN)
    assert [one.last for one in forecasts.series.values()] == pytest.approx([50.0, 100.0])
    assert all(one.at[0][0] > 0.9 * one.last for one in forecasts.series.values())


def test_one_series_at_zero_is_demand() -> None:
    feed = [*series([100.0] * 600 + [0.0] * 12), *series([50.0] * 612, "b")]
    one = after(feed, 612 * BIN)[0].series["chat/prompt"]
    assert (one.status, one.last) == ("idle", 0.0)
    assert one.at[0][0] < 5.0


def test_a_silent_feed_widens_the_band() -> None:
    wandering = 1000 + np.random.default_rng(1).normal(size=900).cumsum()
    fresh, state = after(series(wandering), 900 * BIN)
    stale, _ = forecast(state, [], 900 * BIN + 2 * HOUR)
    assert only(stale).status == "stale"
    assert stale.issued_at_seconds == 900 * BIN + 2 * HOUR
    spread = [only(f).at[0][-1] - only(f).at[0][0] for f in (fresh, stale)]
    assert spread[1] > spread[0]


def test_new_keys_may_come_later_and_old_ones_keep_what_they_learnt() -> None:
    rng = np.random.default_rng(2)
    now = 900 * BIN
    _, state = after(series(100 + rng.normal(size=900)), now)
    more = [*series([101.0], start=now), *series([7.0], "a/new", start=now)]
    forecasts, _ = forecast(state, more, now + BIN)
    check_shape(forecasts)
    assert list(forecasts.series) == ["a/new", "chat/prompt"]
    assert forecasts.series["a/new"].weights["last"] == 1.0
    assert forecasts.series["chat/prompt"].weights["harmonic"] > 0


def test_the_same_state_gives_the_same_answer_twice_and_is_not_changed() -> None:
    rng = np.random.default_rng(3)
    now = 900 * BIN
    _, state = after(series(100 + rng.normal(size=900)), now)
    first, later = forecast(state, series([150.0], start=now), now + BIN)
    forecast(later, series([10.0] * 100, start=now + BIN), now + 101 * BIN)
    second, _ = forecast(state, series([150.0], start=now), now + BIN)
    assert first == second


def test_more_samples_than_the_ring_holds_are_bounded() -> None:
    _, state = after(series([5.0] * (30 * 288)), 30 * DAY)
    assert state.store.rate.shape == (1, 28 * 288)
    assert len(state.store.pending) < 10


@pytest.mark.parametrize("width", [60.0, 300.0, 600.0, 3600.0])
def test_history_may_come_in_bins_of_any_width(width: float) -> None:
    count = int(2 * DAY / width)
    tide = 100 + 50 * np.sin(2 * np.pi * (np.arange(count) + 0.5) * width / DAY)
    history = [Sample("x", width * i, width, rate) for i, rate in enumerate(tide.tolist())]
    forecasts, _ = after(history, 2 * DAY)
    check_shape(forecasts)
    assert only(forecasts).last == pytest.approx(float(tide[-1]), rel=0.01)
    assert only(forecasts).at[5][0] == pytest.approx(150.0, rel=0.25)


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ({"bin_seconds": 0.0}, "bin_seconds"),
        ({"bin_seconds": 7.0}, "bin_seconds"),
        ({"horizons_seconds": (300.0, 450.0)}, "horizons_seconds"),
        ({"horizons_seconds": (600.0, 300.0)}, "horizons_seconds"),
        ({"horizons_seconds": (172800.0,)}, "horizons_seconds"),
        ({"leads_seconds": ()}, "leads_seconds"),
        ({"leads_seconds": (60.0,)}, "leads_seconds"),
        ({"quantiles": (0.9, 0.5)}, "quantiles"),
        ({"quantiles": (0.5, 1.0)}, "quantiles"),
        ({"members": ("profile",)}, "members"),
        ({"members": ("last", "oracle")}, "members"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(setting: dict[str, object], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        initial_state(**setting)  # type: ignore[arg-type]


RATES = st.one_of(
    st.floats(0, 1e6), st.sampled_from([0.0, math.nan, math.inf, -math.inf, -5.0, 1e30, 1e300])
)
SAMPLES = st.lists(
    st.builds(
        Sample,
        st.sampled_from(["a", "b"]),
        st.integers(-2000, 60).map(lambda i: i * 60.0),
        st.sampled_from([60.0, 300.0, 600.0, 3600.0]),
        RATES,
        st.booleans(),
    ),
    max_size=40,
)


@given(SAMPLES, SAMPLES, st.integers(0, 300))
def test_any_samples_give_a_well_formed_forecast(
    first: list[Sample], then: list[Sample], wait: int
) -> None:
    forecasts, state = after(first, HOUR)
    check_shape(forecasts)
    check_shape(forecast(state, then, HOUR + 60.0 * wait)[0])


@given(st.data())
def test_the_order_of_samples_within_a_call_does_not_matter(data: st.DataObject) -> None:
    drawn = data.draw(SAMPLES)
    distinct = list({(s.key, s.start_seconds, s.width_seconds): s for s in drawn}.values())
    shuffled = data.draw(st.permutations(distinct))
    assert after(distinct, HOUR)[0] == after(shuffled, HOUR)[0]
