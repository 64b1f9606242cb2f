"""The synthetic families: the oracle knows their quantiles, and the benchmark runs small."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.truthfamilies import DAY, FAMILIES, SHIFTS, generate, oracle

ROOT = Path(__file__).parents[2]
MODULE = [sys.executable, "-m", "tests.benchmarks.forecast_truth"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_oracle_covers_what_it_says(family: str) -> None:
    hits = []
    for seed in range(6):
        truth = generate(family, seed, 0.5, 12)
        columns = np.arange(DAY, 11 * DAY - 1, 7)
        steps = np.array([6, DAY])
        said = oracle(truth, columns, steps, (0.5, 0.9), 200)
        came = truth.rate[columns + steps[:, None]]
        hits.append((came[..., None] <= said).mean(axis=1))
    assert np.mean(hits, axis=0) == pytest.approx(np.array([[0.5, 0.9]] * 2), abs=0.04)


def test_a_seed_is_a_series_and_seeds_differ() -> None:
    one, same, other = (generate("office", seed, 0.5, 8).rate for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_level_and_shift_are_as_stated() -> None:
    busy = generate("smooth", 0, 20.0, 28)
    assert busy.rate.mean() == pytest.approx(20 * 500, rel=0.15)
    shifted = generate("shift", 3, 20.0, 28)
    (rise,) = shifted.rises
    assert rise / DAY == pytest.approx(SHIFTS[0][0], abs=0.5)
    before, after = (
        shifted.rate[rise - 7 * DAY : rise - 3 * DAY],
        shifted.rate[rise : rise + 4 * DAY],
    )
    assert after.mean() > 1.5 * before.mean()
    assert generate("office", 3, 20.0, 28).rises == ()


def test_an_edge_is_sharp() -> None:
    truth = generate("edge", 0, 20.0, 5)
    jumps = truth.mean[1:] / truth.mean[:-1]
    assert (jumps > 3).sum() == (jumps < 1 / 3).sum() == 5


def document(*arguments: str) -> dict[str, Any]:
    common = ("--seeds", "0-1", "--scales", ".5", "--methods", "tidal,constant", "-o", "json")
    done = subprocess.run(
        [*MODULE, *common, "--processes", "1", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["schema"] == "tidal.forecast_truth/1"
    assert found["inputs"]["seeds"] == [0, 1]
    return found


def test_the_benchmark_measures_the_gap_the_first_day_and_the_cost() -> None:
    found = document(
        *("--families", "office,shift", "--days", "18", "--first-origin", "16d", "--step", "3h"),
        *("--samples", "50", "--measures", "gap,first-day,timing"),
        *("--timing-series", "6", "--timing-hours", "1"),
    )
    results = found["results"]
    assert {one["measure"] for one in results} == {"gap", "peak", "shift", "first_day"}
    gaps = [one for one in results if one["measure"] == "gap"]
    assert {(one["family"], one["method"], one["horizon_seconds"]) for one in gaps} == {
        (family, method, seconds)
        for family in ("office", "shift")
        for method in ("tidal", "constant")
        for seconds in (1800, 86400)
    }
    (cost,) = found["timing"]["records"]
    assert (cost["series"], cost["ticks"]) == (6, 12)
    assert cost["cpu_seconds_per_series_tick"] > 0
    assert cost["bytes_per_series"] > 4000


def test_the_benchmark_compares_a_masked_outage_with_zeros() -> None:
    found = document(
        *("--families", "smooth", "--days", "4.2", "--first-origin", "3d", "--measures", "outage")
    )
    kept = {
        (one["method"], one["outage"]): one["loss_over_read_as_zero"] for one in found["results"]
    }
    assert len(kept) == 6
    assert kept["tidal", "masked"] < 1
    assert kept["constant", "masked"] < 1
    assert kept["tidal", "silent"] < 1
    assert kept["constant", "silent"] == pytest.approx(1, rel=1e-3)  # it takes zeros for demand


@pytest.mark.parametrize(
    ("argument", "value"),
    [("--seeds", "x"), ("--families", "tide"), ("--scales", "-1"), ("--measures", "speed")],
)
def test_wrong_use_names_the_argument(argument: str, value: str) -> None:
    done = subprocess.run(
        [*MODULE, argument, value], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert argument in done.stderr
    assert value in done.stderr
