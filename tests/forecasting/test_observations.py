"""Samples become bins: what is known, what is unknown, and what odd inputs do."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from forecasting import DEFAULT_HORIZONS, DEFAULT_LEADS, Sample
from forecasting.grid import make_grid
from forecasting.store import Store, absorb, empty_store

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
    assert newest(stored(samples, 900.0), 3) == expected


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


def test_a_clock_that_steps_back_is_held() -> None:
    first = stored([sample(0, 4), sample(300, 6)], 600.0)
    again = absorb(first, GRID, [], 100.0)
    assert again.end == first.end
    assert newest(again, 2) == [4.0, 6.0]


def test_the_old_store_is_never_written_to() -> None:
    first = stored([sample(0, 4), sample(300, 6)], 600.0)
    before = first.rate.copy()
    absorb(first, GRID, [sample(300, 60), sample(600, 70)], 900.0)
    assert np.array_equal(first.rate, before)
    assert not first.rate.flags.writeable


def test_a_series_is_forgotten_when_the_ring_has_passed_it() -> None:
    first = stored([sample(0, 4)], 300.0)
    other = Sample("other", 14 * 86400.0 + 300.0, 300.0, 1.0)
    later = absorb(first, GRID, [other], 14 * 86400.0 + 600.0)
    assert later.keys == ("other",)
    assert later.rate.shape == (1, GRID.kept)
