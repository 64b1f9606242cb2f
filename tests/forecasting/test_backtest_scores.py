"""Scores against their definitions, and the records and ratios made of them."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.backtest import (
    Protocol,
    Scored,
    Series,
    exceeded,
    mean_losses,
    quantile_name,
    ratios,
    records,
    scored,
    with_better_bands,
)
from forecasting.backtest.footprint import bytes_of
from forecasting.backtest.scores import coverage, over_provision, relative_pinball
from forecasting.grid import Floats
from forecasting.values import DAY, HOUR

NAN = np.nan
PROTOCOL = Protocol(
    horizons_seconds=(HOUR,),
    leads_seconds=(2 * HOUR,),
    quantiles=(0.5, 0.9, 0.95),
    first_origin_seconds=DAY,
    step_seconds=HOUR,
)


def test_pinball_weighs_shortage_by_the_quantile_and_excess_by_the_rest() -> None:
    seen, curve = np.array([10.0, 10.0, NAN, 20.0]), np.array([8.0, 14.0, 1.0, NAN])
    assert relative_pinball(seen, curve, 0.9) == pytest.approx((0.9 * 2 + 0.1 * 4) / 20)
    assert coverage(seen, curve) == 0.5
    assert coverage(np.array([5.0]), np.array([5.0])) == 1.0


def test_nothing_to_score_is_unknown() -> None:
    none = np.array([NAN, 1.0]), np.array([1.0, NAN])
    assert relative_pinball(*none, 0.9) is None
    assert coverage(*none) is None
    assert over_provision(*none, 0.01) is None
    assert relative_pinball(np.zeros(3), np.ones(3), 0.9) is None


def test_over_provision_of_a_hand_made_case() -> None:
    # c = 1.95 leaves 0.1 of 10 uncovered, in the second bin only
    seen, curve = np.array([2.0, 4.0, 4.0]), np.array([2.0, 2.0, 4.0])
    assert over_provision(seen, curve, 0.01) == pytest.approx((1.95 * 8 - 10) / 10)


def test_a_curve_that_is_zero_under_demand_cannot_be_scaled() -> None:
    assert over_provision(np.array([1.0, 9.0]), np.array([0.0, 9.0]), 0.01) is None
    assert over_provision(np.array([0.0, 9.0]), np.array([0.0, 9.0]), 0.01) is not None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.sampled_from([0.0, 0.01, 0.05]))
def test_over_provision_is_the_constant_that_bisection_finds(
    seed: int, count: int, short: float
) -> None:
    rng = np.random.default_rng(seed)
    seen, curve = rng.gamma(1.0, 5.0, count), rng.gamma(1.0, 5.0, count) + 0.01
    low, high = 0.0, float((seen / curve).max()) + 1
    for _ in range(200):
        middle = (low + high) / 2
        uncovered = np.maximum(seen - middle * curve, 0).sum()
        low, high = (middle, high) if uncovered > short * seen.sum() else (low, middle)
    expected = high * curve.sum() / seen.sum() - 1
    assert over_provision(seen, curve, short) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def made(
    name: str = "n", *, group: str = "g", ours: float = 1.1, theirs: float = 1.2, busy: float = 1.0
) -> Scored:
    """A series whose methods say a fixed multiple of what comes; the rival misses the start."""
    rate = np.where(np.arange(60) % 10 < 10 * busy, 10.0, 0.0)
    series = Series(
        group=group,
        name=name,
        field="f",
        bin_seconds=HOUR,
        first_bin=0,
        rate=rate,
        valid=np.ones(60, np.bool_),
    )
    bare = scored(series, PROTOCOL, {})

    def curve(factor: float) -> Floats:
        return np.repeat(bare.seen[..., None] * factor, 3, axis=2)

    rival = curve(theirs)
    rival[:, :5] = NAN
    return msgspec.structs.replace(bare, curves={"tidal": curve(ours), "constant": rival})


def test_records_have_the_fields_that_measures_names() -> None:
    found = list(records(made(), PROTOCOL))
    about = {"group": "g", "series": "n", "field": "f", "method": "tidal"}
    assert found[0] == {
        **about,
        "horizon_seconds": HOUR,
        "quantile": 0.5,
        "pinball": pytest.approx(0.05),
        "coverage": 1.0,
        "targets": 35,
    }
    assert found[3] == {
        **about,
        "horizon_seconds": HOUR,
        "short_percent": 1.0,
        "over_provision": pytest.approx(-0.01),
    }
    assert found[4].keys() == {*about, "lead_seconds", "quantile", "pinball", "coverage", "targets"}
    assert next(one for one in found if one["method"] == "constant")["targets"] == 30
    assert len(found) == 2 * (3 + 1 + 3)


def test_a_method_without_forecasts_has_no_record() -> None:
    one = made()
    silent = {**one.curves, "constant": np.full_like(one.curves["constant"], NAN)}
    found = records(msgspec.structs.replace(one, curves=silent), PROTOCOL)
    assert {record["method"] for record in found} == {"tidal"}


def test_a_method_without_bands_is_judged_by_its_over_provision_alone() -> None:
    one = made()
    raw = {"tidal": one.curves["tidal"], "window-maximum-raw": one.curves["constant"]}
    changed = msgspec.structs.replace(one, curves=raw)
    found = [r for r in records(changed, PROTOCOL) if r["method"] == "window-maximum-raw"]
    assert [(r["horizon_seconds"], r["over_provision"]) for r in found] == [
        (HOUR, pytest.approx(-0.01))
    ]
    first = ratios([changed], PROTOCOL)[0]
    assert first["best_rival"] is None
    assert not [name for name in first if name.startswith(("pinball_ratio_w", "share_better"))]
    assert "over_provision_ratio_window_maximum_raw" in first
    assert list(mean_losses([changed], PROTOCOL)) == [("g", False, "tidal")]


def test_ratios_are_geometric_means_over_a_group_on_shared_targets() -> None:
    several = [made("a"), made("b", ours=1.4), made("c", group="h", ours=0.9)]
    first, second, *_ = ratios(several, PROTOCOL)
    assert (first["group"], first["horizon_seconds"], first["series"]) == ("g", HOUR, 2)
    assert (second["group"], second["lead_seconds"]) == ("g", 2 * HOUR)
    assert first["pinball_ratio_constant"] == pytest.approx(math.sqrt(0.5 * 2.0))
    assert first["share_better_than_constant"] == 0.5
    assert first["best_rival"] == "constant"
    assert first["pinball_ratio_best_rival"] == first["pinball_ratio_constant"]
    assert first["coverage_p90"] == 1.0
    assert first["coverage_error_p90_points"] == pytest.approx(10.0)
    assert first["series_of_500_targets_p90"] == 0
    assert first["share_within_3_points_p90"] is None
    assert first["targets"] == 70


def test_shared_targets_only() -> None:
    one = made()
    worse = one.curves["tidal"].copy()
    worse[:, :5] *= 100  # where the rival has nothing
    changed = msgspec.structs.replace(one, curves={**one.curves, "tidal": worse})
    assert ratios([changed], PROTOCOL)[0]["pinball_ratio_constant"] == pytest.approx(0.5)


def test_series_that_are_mostly_zero_stand_apart() -> None:
    found = ratios([made("a"), made("b", busy=0.1)], PROTOCOL)
    assert [(one["intermittent"], one["series"]) for one in found] == [(False, 1)] * 2 + [
        (True, 1)
    ] * 2


def test_without_tidal_there_is_nothing_to_compare() -> None:
    one = made()
    bare = msgspec.structs.replace(one, curves={"constant": one.curves["constant"]})
    assert ratios([bare], PROTOCOL) == []
    assert list(mean_losses([bare], PROTOCOL)) == [("g", False, "constant")]


def test_mean_losses_and_exceedance() -> None:
    several = [made("a", ours=1.1), made("b", ours=1.4)]
    losses = mean_losses(several, PROTOCOL)
    expected = math.sqrt(0.01 * 0.04)
    assert losses["g", False, "tidal"] == [pytest.approx(expected)] * 2
    assert exceeded([made(ours=0.9), made(ours=1.1)], 0).tolist() == [0.5, 0.5, 0.5]


def test_what_is_held_twice_counts_once() -> None:
    one = np.zeros(1000)
    alone, twice = bytes_of((one,)), bytes_of((one, one))
    assert 8000 <= alone <= 8200
    assert twice - alone < 100
    assert bytes_of({"a": np.zeros(10), "b": [np.zeros(10)]}) > 160


def test_the_better_of_two_bands_counts() -> None:
    rows = {"a": [0.2, 0.1, None], "a-scaled": [0.1, 0.3, None], "b": [0.5, None, 0.4]}
    assert with_better_bands(rows) == {"a": [0.1, 0.1, None], "b": [0.5, None, 0.4]}


@pytest.mark.parametrize(("tau", "name"), [(0.9, "p90"), (0.55, "p55"), (0.999, "p99_9")])
def test_a_quantile_has_a_name_for_fields(tau: float, name: str) -> None:
    assert quantile_name(tau) == name
