"""Samples become bins: what is known, what is unknown, and what odd inputs do."""

import math
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting import DEFAULT_HORIZONS, DEFAULT_LEADS, Sample
from forecasting.grid import make_grid
from forecasting.panel import make_panel
from forecasting.status import statuses
from forecasting.store import Store, absorb, empty_store
from forecasting.values import Status

DAY = 86400.0
GRID = make_grid(300.0, DEFAULT_HORIZONS, DEFAULT_LEADS, (0.5, 0.9))


def sample(start: float, rate: float, width: float = 300.0, *, valid: bool = True) -> Sample:
    return Sample("chat/prompt", start, width, rate, valid)


def stored(samples: Sequence[Sample], now: float) -> Store:
    return absorb(empty_store(GRID), GRID, samples, now)


def newest(store: Store, bins: int) -> list[float | None]:
    """The last bins of the only series; None where unknown."""
    columns = range(GRID.kept - bins, GRID.kept)
    return [float(store.rate[0, c]) if store.known[0, c] else None for c in columns]


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        pytest.param([sample(0, 4), sample(300, 6), sample(600, 8)], [4, 6, 8], id="plain"),
        pytest.param([sample(600, 8), sample(0, 4), sample(300, 6)], [4, 6, 8], id="unsorted"),
        pytest.param([sample(0, 4), sample(0, 5)], [5, None, None], id="duplicate: last wins"),
        pytest.param([sample(0, 4), sample(900, 9)], [4, None, None], id="open bin not yet known"),
        pytest.param([sample(0, 4), sample(901, 9)], [4, None, None], id="future dropped"),
        pytest.param([sample(0, math.nan), sample(300, 6)], [None, 6, None], id="NaN"),
        pytest.param([sample(0, math.inf), sample(300, 6)], [None, 6, None], id="infinite"),
        pytest.param([sample(0, -1), sample(300, 6)], [None, 6, None], id="negative"),
        pytest.param([sample(0, 4, valid=False), sample(300, 6)], [None, 6, None], id="invalid"),
        pytest.param([sample(math.nan, 4), sample(300, 6)], [None, 6, None], id="no start"),
        pytest.param([sample(0, 4, 0.0), sample(300, 6)], [None, 6, None], id="no width"),
        pytest.param([sample(0, 4, math.inf), sample(300, 6)], [None, 6, None], id="endless"),
        pytest.param([sample(0, 7, 600.0), sample(600, 8)], [7, 7, 8], id="wide fills its bins"),
        pytest.param([sample(-2700, 5, 3600.0)], [5, 5, 5], id="an hour fills its bins"),
        pytest.param([sample(0, 7, 900.0), sample(0, -1)], [None, 7, 7], id="narrow doubt"),
        pytest.param([sample(0, 7, 900.0), sample(60, 1, 60.0)], [5.8, 7, 7], id="narrow within"),
        pytest.param([sample(-9e4, 5, 90300.0), sample(300, 6)], [None, 6, None], id="over a day"),
        pytest.param([sample(0, 4, -300.0), sample(300, 6)], [None, 6, None], id="negative width"),
        pytest.param([sample(0, 4), sample(240, 9)], [5, 9, None], id="overlap: the later start"),
        pytest.param([sample(0, 6, 137.0), sample(137, 2, 163.0)], [3.83, None, None], id="jitter"),
        pytest.param([sample(0, -0.0), sample(300, 1e300)], [0, None, None], id="absurd"),
        pytest.param([sample(-1e300, 4), sample(300, 6)], [None, 6, None], id="long ago"),
        pytest.param([sample(0.0, 5, 86400.0)], [5, 5, 5], id="lasts beyond now"),
        pytest.param([sample(0, 7, 900.0), sample(300, 1)], [7, 1, 7], id="narrow replaces wide"),
        pytest.param(
            [sample(60 * i, i, 60.0) for i in range(5)], [2, None, None], id="minutes average"
        ),
        pytest.param(
            [sample(60 * i, i, 60.0) for i in (0, 4)], [None, None, None], id="too little cover"
        ),
        pytest.param([sample(150, 4), sample(450, 8)], [4, 6, 8], id="bins off the grid"),
        pytest.param([sample(0, 0), sample(300, 0)], [0, 0, None], id="zero is a value"),
    ],
)
def test_samples_become_bins(samples: list[Sample], expected: list[float | None]) -> None:
    found = newest(stored(samples, 900.0), 3)
    assert [rate is None for rate in found] == [rate is None for rate in expected]
    assert [r for r in found if r is not None] == pytest.approx(
        [r for r in expected if r is not None], abs=0.005
    )


def test_a_bin_observed_in_pieces_over_two_calls_averages_all_pieces() -> None:
    first = stored([sample(60.0 * i, 10.0, 60.0) for i in range(3)], 200.0)
    second = absorb(first, GRID, [sample(60.0 * i, 20.0, 60.0) for i in (3, 4)], 310.0)
    assert newest(second, 1) == [14.0]


def test_a_late_correction_replaces_a_recent_bin() -> None:
    first = stored([sample(0, 4), sample(300, 6)], 600.0)
    assert newest(absorb(first, GRID, [sample(300, 60)], 600.0), 2) == [4.0, 60.0]
    assert newest(absorb(first, GRID, [sample(300, 6, valid=False)], 600.0), 2) == [4.0, None]


def test_missed_calls_leave_unknown_bins_and_not_zeros() -> None:
    first = stored([sample(0, 4)], 300.0)
    assert newest(absorb(first, GRID, [sample(1200, 9)], 1500.0), 5) == [4, None, None, None, 9]


def test_late_samples_beyond_the_rebuilt_bins_fill_and_correct() -> None:
    held = stored([sample(0, 4), sample(300, 6, 180.0), sample(900, 1)], 3000.0)
    filled = absorb(held, GRID, [sample(600, 8), sample(300, 5)], 3000.0)
    assert newest(filled, 10)[:4] == [4, 5, 8, 1]
    assert newest(absorb(filled, GRID, [sample(0, 9)], 3000.0), 10)[0] == 9


def test_a_late_wide_sample_fills_holes_and_replaces_nothing() -> None:
    held = stored([sample(0, 4), sample(900, 1)], 3000.0)
    assert newest(absorb(held, GRID, [sample(0, 7, 1200.0)], 3000.0), 10)[:4] == [4, 7, 7, 1]


def test_a_wide_sample_told_again_and_again_leaves_narrow_ones_alone() -> None:
    wide = sample(0, 7, 6000.0)
    held = stored([wide, sample(0, 4)], 300.0)
    for now in range(600, 6000, 300):
        held = absorb(held, GRID, [wide], float(now))
    assert newest(held, 19)[:3] == [4, 7, 7]


def test_pieces_of_bins_that_several_missed_calls_closed_are_all_there() -> None:
    first = stored([sample(0, 4), sample(300, 10, 120.0)], 420.0)
    later = absorb(first, GRID, [sample(420, 20, 180.0)], 3000.0)
    assert newest(later, 10)[:2] == [4, 16]


@pytest.mark.parametrize(
    ("back_to", "kept"),
    [
        pytest.param(100.0, 600.0, id="into what is known: held there"),
        pytest.param(900.0, 900.0, id="to a time after it"),
    ],
)
def test_time_goes_back_no_further_than_the_newest_known_bin(back_to: float, kept: float) -> None:
    first = absorb(stored([sample(0, 4), sample(300, 6)], 600.0), GRID, [], 7200.0)
    again = absorb(first, GRID, [], back_to)
    assert again.end * 300.0 == kept
    assert newest(again, round(kept / 300)) == [4.0, 6.0, None][: round(kept / 300)]
    after = absorb(again, GRID, [sample(kept, 7)], kept + 300)
    assert newest(after, round(kept / 300) + 1)[-1] == 7


def test_a_leap_of_the_clock_without_samples_does_not_empty_the_ring() -> None:
    first = stored([sample(0, 4), sample(300, 6)], 600.0)
    leapt = absorb(first, GRID, [sample(30 * DAY, 0, valid=False)], 30 * DAY + 600)
    assert leapt.end == first.end + GRID.hour
    assert newest(absorb(leapt, GRID, [sample(600, 5)], 900.0), 3) == [4, 6, 5]


def test_a_leap_of_the_clock_with_samples_is_believed() -> None:
    first = stored([sample(0, 4), sample(300, 6)], 600.0)
    leapt = absorb(first, GRID, [sample(3 * DAY, 5)], 3 * DAY + 300)
    assert newest(leapt, 1) == [5]
    assert int(leapt.known.sum()) == 3


@pytest.mark.parametrize("now", [math.nan, math.inf])
def test_a_now_that_is_no_time_is_named(now: float) -> None:
    with pytest.raises(ValueError, match=r"^now_seconds: "):
        stored([sample(0, 4)], now)


def test_the_old_store_is_never_written_to() -> None:
    first = stored([sample(0, 4), sample(300, 6)], 600.0)
    before = first.rate.copy()
    absorb(first, GRID, [sample(300, 60), sample(600, 70)], 900.0)
    assert np.array_equal(first.rate, before)
    assert not first.rate.flags.writeable


def test_a_series_is_forgotten_when_the_ring_has_passed_it() -> None:
    first = stored([sample(0, 4)], 300.0)
    other = Sample("other", 28 * 86400.0 + 300.0, 300.0, 1.0)
    later = absorb(first, GRID, [other], 28 * 86400.0 + 600.0)
    assert later.keys == ("other",)
    assert later.rate.shape == (1, GRID.kept)


def test_a_store_takes_forty_kilobytes_a_series_and_its_samples() -> None:
    held = stored([sample(0, 4), sample(300, 6)], 600.0)
    assert held.rate.nbytes + held.marks.nbytes <= 40_500
    assert len(held.pending) <= 3


NOW = 40 * 300.0
RATES = st.one_of(
    st.floats(0, 1e6),
    st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, -5.0, 1e30, 1e300]),
)
TIMES = st.one_of(st.integers(-40, 45).map(lambda i: i * 150.0), st.floats(-1e4, 2e4))
WIDTHS = st.one_of(
    st.sampled_from([60.0, 150.0, 300.0, 600.0, 3600.0]), st.floats(1.0, 1e5), st.just(math.nan)
)
ANY = st.lists(
    st.builds(Sample, st.sampled_from(["a", "b"]), TIMES, WIDTHS, RATES, st.booleans()),
    max_size=25,
)
# Samples that end within the bins which every call rebuilds.
RECENT = st.lists(
    st.builds(
        Sample,
        st.sampled_from(["a", "b"]),
        st.floats(NOW - 899.0, NOW),
        st.sampled_from([30.0, 60.0, 300.0, 1200.0]),
        RATES,
        st.booleans(),
    ),
    max_size=20,
    unique_by=lambda s: (s.key, s.start_seconds, s.width_seconds),
)


@given(st.lists(ANY, max_size=3), st.lists(st.floats(-1e4, 1e6), min_size=3, max_size=3))
def test_no_sample_and_no_clock_makes_a_bin_negative_or_nan(
    calls: list[list[Sample]], clocks: list[float]
) -> None:
    held = empty_store(GRID)
    for samples, now in zip(calls, clocks, strict=False):
        held = absorb(held, GRID, samples, now)
        assert np.isfinite(held.rate).all()
        assert (held.rate >= 0).all()
        assert not np.signbit(held.rate).any()
        assert held.rate.shape == held.marks.shape == (len(held.keys), GRID.kept)
        assert len(set(held.keys)) == len(held.keys)


@given(RECENT, st.randoms(use_true_random=False), st.lists(st.integers(0, 20), max_size=3))
def test_the_order_of_arrival_does_not_matter_within_the_rebuilt_bins(
    samples: list[Sample], order: random.Random, cuts: list[int]
) -> None:
    whole = stored(samples, NOW)
    shuffled = order.sample(samples, len(samples))
    held = empty_store(GRID)
    edges = [0, *sorted(cuts), len(shuffled)]
    for low, high in pairwise(edges):
        held = absorb(held, GRID, shuffled[low:high], NOW)
    assert {*held.keys} == {*whole.keys}
    rows = [held.keys.index(key) for key in whole.keys]
    assert np.array_equal(held.known[rows], whole.known)
    np.testing.assert_allclose(
        np.where(held.known, held.rate, 0)[rows], np.where(whole.known, whole.rate, 0), rtol=1e-5
    )


@given(ANY, st.floats(0, 1e5))
def test_every_series_has_exactly_one_status(samples: list[Sample], now: float) -> None:
    held = stored(samples, now)
    found = statuses(make_panel(held, GRID), GRID)
    assert len(found) == len(held.keys)
    assert {*found} <= {*get_args(Status)}
