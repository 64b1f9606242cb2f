"""A fleet or a source that falls silent at once is an outage; other zeros are demand."""

import numpy as np
import pytest

from forecasting import DEFAULT_HORIZONS, DEFAULT_LEADS
from forecasting.grid import make_grid
from forecasting.outages import outage_bins, outages

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


def hidden(*series: list[float], keys: list[str] | None = None) -> list[list[int]]:
    """Columns that are masked, by series."""
    rate = np.array(series, dtype=np.float32)
    names = keys or [f"m{row}/tokens" for row in range(len(series))]
    out = outages(names, np.nan_to_num(rate), np.isfinite(rate), GRID)
    return [np.flatnonzero(row).tolist() for row in out]


ON, OFF = [5.0] * 3, [0.0] * 3
GONE = [DAY, DAY + 1, DAY + 2]


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        pytest.param([BUSY + OFF, BUSY + OFF], [GONE, GONE], id="the whole fleet"),
        pytest.param([BUSY + OFF], [GONE], id="a fleet of one"),
        pytest.param([BUSY + OFF, BUSY + OFF, BUSY + ON], [GONE, GONE, []], id="a source"),
        pytest.param([BUSY + OFF, BUSY + ON, BUSY + ON], [[], [], []], id="one model of three"),
        pytest.param(
            [BUSY + OFF, BUSY + ON[:1] + OFF[:2], BUSY + ON],
            [GONE, GONE[1:], []],
            id="edges a bin apart",
        ),
        pytest.param(
            [BUSY + OFF, BUSY + ON * 2, [5.0] * 60 + OFF + [5.0] * (DAY - 60) + ON],
            [[], [], []],
            id="at different times",
        ),
        pytest.param(
            [[*BUSY, 0.5, 0, 0], [*BUSY, 0.5, 0, 0], BUSY + ON], [[], [], []], id="ebbing away"
        ),
        pytest.param(
            [([5.0] * 6 + [0.0] * 6) * 30] * 2 + [[5.0] * 360], [[], [], []], id="often silent"
        ),
    ],
)
def test_a_source_that_falls_silent_is_masked(
    series: list[list[float]], expected: list[list[int]]
) -> None:
    longest = max(map(len, series))
    padded = [one + [one[-1]] * (longest - len(one)) for one in series]
    cut = [[column for column in row if column < DAY + 3] for row in hidden(*padded)]
    assert cut == expected


def test_fields_of_one_model_are_no_source_of_their_own() -> None:
    keys = ["a/prompt", "a/generated", "b/prompt"]
    assert hidden(BUSY + OFF, BUSY + OFF, BUSY + ON, keys=keys) == [[], [], []]


def test_a_source_is_believed_after_three_hours() -> None:
    hours = 5 * GRID.hour
    gone = BUSY + [0.0] * hours
    found = hidden(gone, gone, BUSY + [5.0] * hours)
    assert found[0] == list(range(DAY, DAY + 3 * GRID.hour))


def test_coincidences_in_a_large_fleet_are_demand() -> None:
    rng = np.random.default_rng(1)
    rate = np.full((400, 3 * DAY), 5.0, dtype=np.float32)
    for row in rate[:200]:
        for start in rng.integers(DAY, 3 * DAY, 3):
            row[start : start + 2] = 0.0
    keys = [f"m{row}/tokens" for row in range(400)]
    assert outages(keys, rate, rate >= 0, GRID).sum() < 0.02 * (rate == 0).sum()
