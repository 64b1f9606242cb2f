"""Stretches of bins do what the same bins do as samples."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting import Observed, Sample, State, Stretch, forecast, initial_state
from forecasting.store import Store, absorb, empty_store

GRID = initial_state().grid
BIN = GRID.bin_seconds
RATES = st.one_of(
    st.floats(0, 1e6, width=32), st.sampled_from([np.nan, -1.0, np.inf, 0.0, 1e31, 1e30])
)


def samples_of(stretch: Stretch) -> list[Sample]:
    return [
        Sample(stretch.key, stretch.start_seconds + n * stretch.width_seconds, BIN, float(rate))
        for n, rate in enumerate(stretch.rates)
    ]


def same(one: Store, other: Store) -> None:
    assert (one.keys, one.end) == (other.keys, other.end)
    assert sorted(map(repr, one.pending)) == sorted(map(repr, other.pending))
    np.testing.assert_array_equal(one.marks, other.marks)
    np.testing.assert_array_equal(
        np.where(one.known, one.rate, 0), np.where(other.known, other.rate, 0)
    )


@given(
    st.lists(RATES, max_size=40),
    st.integers(-60, 10),
    st.lists(RATES, max_size=8),
    st.integers(0, 30),
)
def test_a_stretch_is_its_samples(
    rates: list[float], begin: int, before: list[float], pause: int
) -> None:
    """Also over what was there before, ahead of time, and beyond the end of the ring."""
    now = 5000 * BIN
    old = Stretch("a/b", (4990 - pause) * BIN, BIN, np.array(before, dtype=np.float64))
    known = absorb(empty_store(GRID), GRID, samples_of(old), (4998 - pause) * BIN)
    new = Stretch("a/b", (5000 + begin) * BIN, BIN, np.array(rates, dtype=np.float64))
    same(absorb(known, GRID, [new], now), absorb(known, GRID, samples_of(new), now))


def test_what_is_older_than_the_ring_is_dropped() -> None:
    long = Stretch("a", 0.0, BIN, np.arange(GRID.kept + 500.0))
    now = (GRID.kept + 500) * BIN
    store = absorb(empty_store(GRID), GRID, [long], now)
    assert store.rate[0, 0] == 500.0
    assert store.known.all()
    assert absorb(empty_store(GRID), GRID, [long], 3 * now).keys == ()


@pytest.mark.parametrize(
    ("start", "width"), [(150.0, BIN), (0.0, 600.0), (0.0, 60.0)], ids=["off", "wide", "narrow"]
)
def test_a_stretch_beside_the_grid_becomes_samples(start: float, width: float) -> None:
    rates = np.arange(1.0, 61.0)
    stretch = Stretch("a", start, width, rates)
    samples = [Sample("a", start + n * width, width, float(rate)) for n, rate in enumerate(rates)]
    now = start + 60 * width
    same(
        absorb(empty_store(GRID), GRID, [stretch], now),
        absorb(empty_store(GRID), GRID, samples, now),
    )


@pytest.mark.parametrize("start", [np.nan, np.inf])
def test_a_stretch_without_a_time_is_dropped(start: float) -> None:
    stretch = Stretch("a", start, BIN, np.ones(20))
    assert absorb(empty_store(GRID), GRID, [stretch], 6000.0).keys == ()


def two_days() -> list[Stretch]:
    rng = np.random.default_rng(2)
    tide = 300 + 200 * np.sin(np.arange(576) / 46)
    made = [Stretch(key, 0.0, BIN, tide + rng.normal(0, 9, 576)) for key in ("b/x", "a/x", "a/y")]
    made[1].rates[200:230] = np.nan
    return made


def test_the_forecast_from_stretches_is_that_from_samples() -> None:
    new: list[Observed] = [*two_days()]
    from_columns, after = forecast(initial_state(), new, 576 * BIN)
    by_time = sorted(
        (sample for one in two_days() for sample in samples_of(one)),
        key=lambda sample: (sample.start_seconds, sample.key),
    )
    from_samples, state = forecast(initial_state(), by_time, 576 * BIN)
    assert from_columns == from_samples
    later = [Sample("a/x", 576 * BIN, BIN, 250.0)]
    assert tick(after, later) == tick(state, later)


def tick(state: State, samples: list[Sample]) -> bytes:
    return msgspec.json.encode(forecast(state, samples, 577 * BIN)[0])
