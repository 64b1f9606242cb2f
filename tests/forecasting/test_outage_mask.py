"""A fleet that falls silent at once is an outage; anything else that is zero is demand."""

import numpy as np
import pytest

from forecasting import DEFAULT_HORIZONS, DEFAULT_LEADS
from forecasting.grid import make_grid
from forecasting.outages import outage_bins

GRID = make_grid(300.0, DEFAULT_HORIZONS, DEFAULT_LEADS, (0.5, 0.9))
DAY = GRID.day


def masked(*series: list[float]) -> list[int]:
    rate = np.array(series, dtype=np.float32)
    return np.flatnonzero(outage_bins(rate, np.isfinite(rate), GRID)).tolist()


BUSY = [5.0] * DAY


@pytest.mark.parametrize(
    ("tails", "expected"),
    [
        pytest.param(([0.0, 0.0], [0.0, 0.0]), [DAY, DAY + 1], id="all at once"),
        pytest.param(([0.0, 0.0], [0.0, 1.0]), [DAY], id="until one speaks"),
        pytest.param(([0.0, 0.0], [1.0, 1.0]), [], id="one of two is demand"),
        pytest.param(([0.0, np.nan], [np.nan, 0.0]), [DAY, DAY + 1], id="zero or missing"),
        pytest.param(([0.5, 0.0], [0.5, 0.0]), [], id="a tide that ebbs to zero"),
    ],
)
def test_silence_of_the_whole_fleet_is_masked(
    tails: tuple[list[float], list[float]], expected: list[int]
) -> None:
    assert masked(BUSY + tails[0], BUSY + tails[1]) == expected


def test_a_silence_is_believed_after_six_hours() -> None:
    hours = [0.0] * (8 * GRID.hour)
    assert masked(BUSY + hours) == list(range(DAY, DAY + 6 * GRID.hour))


def test_a_fleet_that_never_spoke_is_idle_and_not_out() -> None:
    assert masked([0.0] * DAY) == []


def test_silences_that_come_often_are_demand() -> None:
    assert masked(([5.0] * 6 + [0.0] * 6) * 24) == []
