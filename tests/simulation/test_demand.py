"""True demand of a run: totals hold, noise has its size, peaks and shares are as asked."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.simulation.capacity import ROLES
from scheduler.simulation.demand import Demand
from scheduler.simulation.demandfile import COUNTS, DemandError, Floats, Trace
from scheduler.simulation.generated import generate
from scheduler.simulation.scale import gpu_needs, per_gpu
from scheduler.simulation.worldfile import World, load_world
from tests.fixtures.demands import H100, H200, run, trace

WORLD = load_world()
RATES = st.lists(st.just(0.0) | st.floats(0.01, 50), min_size=2, max_size=6).filter(any)


def quiet(**noise: float) -> World:
    """The default world with other noise."""
    document = WORLD.model_dump()
    return World.model_validate({**document, "noise": {**document["noise"], **noise}})


@given(rates=RATES, seed=st.integers(0, 99), iat_cv=st.sampled_from([0.0, 1.0, 40.0]))
def test_bin_totals_are_those_of_the_scaled_trace(
    rates: list[float], seed: int, iat_cv: float
) -> None:
    one = trace(rates, iat_cv=iat_cv)
    demand = run(WORLD, {"m": one}, seed=seed)
    arrays, factor = demand.models["m"], demand.factors["m"]
    for field in COUNTS:
        steps = getattr(arrays, field)
        assert (steps >= 0).all()
        totals = steps.reshape(len(rates), -1).sum(axis=1)
        assert totals == pytest.approx(getattr(one, field) * factor, rel=1e-9, abs=1e-9)


def test_a_run_reads_history_warm_up_scored_time() -> None:
    demand = run(
        WORLD,
        {"m": trace([1.0] * 24)},
        history_seconds=3600,
        warm_up_seconds=1800,
        days=1 / 24,
    )
    assert (demand.start_seconds, demand.end_seconds) == (-1800, 3600)
    assert demand.steps == 5400 / 5
    assert demand.time(360) == 0
    past = demand.history("m")
    assert {sample.key for sample in past} == {f"m/{field}" for field in COUNTS}
    assert past[0].start_seconds == -5400
    assert past[-1].start_seconds + past[-1].width_seconds == -1800
    assert len(past) == 6 * 3


def test_traces_are_joined_on_their_own_time_lines() -> None:
    early = trace([1.0] * 12, start=0)
    late = trace([1.0] * 2 + [9.0] * 10, start=1200)
    demand = run(WORLD, {"early": early, "late": late}, history_seconds=1200)
    assert demand.end_seconds == 7200 - 2400
    assert demand.history("early")[0].start_seconds == -1200
    rates = demand.models["late"].requests
    assert rates[:240].mean() > 5 * demand.models["early"].requests[:240].mean()


def test_a_gap_is_unknown_to_the_planner_and_full_in_the_world() -> None:
    known = [True, True, True, False, True, True]
    demand = run(
        WORLD,
        {"m": trace([4.0, 4, 4, 0, 4, 4], valid=known)},
        history_seconds=1200,
    )
    arrived = demand.models["m"].requests.reshape(-1, 120).sum(axis=1)
    assert arrived == pytest.approx(arrived[0] * np.ones(4))
    live = [s for s in demand.bins_between(0, 3000) if s.key == "m/requests"]
    assert [s.start_seconds for s in live] == [300.0 * i for i in range(8)]
    assert [s.valid for s in live] == [True, True, False, False, True, True, True, True]
    past = run(
        WORLD, {"m": trace([4.0, 0, 4, 4], valid=[True, False, True, True])}, history_seconds=1200
    ).history("m")
    assert [sample.valid for sample in past] == [True] * 3 + [False] * 3


def test_live_bins_close_once_and_hold_what_arrived() -> None:
    demand = run(WORLD, {"a": trace([4.0] * 3), "b": trace([2.0] * 3)}, warm_up_seconds=600)
    whole = demand.bins_between(-600, 1200)
    parts = [s for t in range(-600, 1200, 15) for s in demand.bins_between(t, t + 15)]
    assert list(whole) == parts
    assert len(whole) == 2 * 3 * 6
    for field in COUNTS:
        total = sum(s.rate * 300 for s in whole if s.key == f"b/{field}")
        assert total == pytest.approx(getattr(demand.models["b"], field).sum())


@pytest.mark.parametrize("iat_cv", [1.0, 3.0])
def test_arrival_noise_has_the_variance_of_its_gaps(iat_cv: float) -> None:
    world = quiet(minute_sd=0.0)
    demand = run(world, {"m": trace([20.0] * 144, iat_cv=iat_cv)})
    steps = demand.models["m"].requests
    assert steps.var() / steps.mean() == pytest.approx(iat_cv**2, rel=0.1)


def test_minute_means_stray_as_stated() -> None:
    world = quiet(minute_sd=0.2)
    demand = run(world, {"m": trace([20.0] * 144, iat_cv=0.0)})
    minutes = demand.models["m"].requests.reshape(-1, 12).mean(axis=1)
    # each bin of ten minutes is brought to its total, which takes part of the spread away
    assert 0.15 < np.log(minutes).std() < 0.2


def test_large_gap_variation_is_capped() -> None:
    demand = run(WORLD, {"m": trace([1.0, 1.0], iat_cv=73.0)})
    assert (demand.models["m"].iat_cv == WORLD.noise.iat_cv_max).all()


def test_a_model_draws_the_same_whatever_runs_beside_it() -> None:
    world = quiet()
    alone = run(world, {"a": trace([3.0] * 4)}, peak_share=0.5)
    both = run(world, {"a": trace([3.0] * 4), "b": trace([3.0] * 4)}, shares={"a": 0.5})
    half = alone.models["a"].requests.sum() / both.models["a"].requests.sum()
    assert half == pytest.approx(2.0)
    other = run(world, {"a": trace([3.0] * 4)}, seed=2)
    again = run(world, {"a": trace([3.0] * 4)})
    assert again.models["a"].requests.tobytes() == alone.models["a"].requests.tobytes()
    assert other.models["a"].requests.tobytes() != alone.models["a"].requests.tobytes()


def fleet_needs(
    demand: Demand, traces: dict[str, Trace], gpus: dict[str, int]
) -> dict[str, Floats]:
    """GPUs that each model needs in each window."""
    span = (0.0, min(one.end_seconds for one in traces.values()))
    return {
        model: demand.factors[model] * gpu_needs(WORLD, model, one, span, gpus)
        for model, one in traces.items()
    }


@pytest.mark.parametrize("shares", [{}, {"chat": 0.5}, {"chat": 0.2, "code": 0.3, "reason": 0.5}])
def test_the_peak_takes_its_share_of_all_gpus(shares: dict[str, float]) -> None:
    gpus = {H100: 48, H200: 16}
    traces = {model: generate(model, 1, 1) for model in ("chat", "code", "reason")}
    demand = run(WORLD, traces, gpus=gpus, peak_share=0.6, shares=shares)
    needs = fleet_needs(demand, traces, gpus)
    fleet = np.sum(list(needs.values()), axis=0)
    assert fleet.max() == pytest.approx(0.6 * 64)
    for model, share in shares.items():
        assert needs[model][fleet.argmax()] / fleet.max() == pytest.approx(share)
    if not shares:
        assert len({round(factor, 9) for factor in demand.factors.values()}) == 1


def test_shares_that_no_window_allows_still_keep_the_peak() -> None:
    traces = {"a": trace([9.0, 1, 1, 1]), "b": trace([1.0, 1, 1, 9])}
    demand = run(WORLD, traces, peak_share=0.6, shares={"a": 0.5})
    needs = fleet_needs(demand, traces, {H100: 32, H200: 32})
    fleet = np.sum(list(needs.values()), axis=0)
    assert fleet.max() == pytest.approx(0.6 * 64)


def test_capacity_per_gpu_is_averaged_over_usable_gpus() -> None:
    lengths = (1200.0, 200.0)
    for role in ROLES:
        one, two = (per_gpu(WORLD, "chat", role, lengths, {name: 8}) for name in (H100, H200))
        mixed = per_gpu(WORLD, "chat", role, lengths, {H100: 24, H200: 8, "L4": 99})
        assert mixed == pytest.approx(0.75 * one + 0.25 * two)


def test_a_level_shift_starts_at_its_time() -> None:
    before = run(WORLD, {"a": trace([3.0] * 4), "b": trace([3.0] * 4)})
    after = before.with_level_shift("a", 600, 2.0)
    for field in COUNTS:
        old, new = (getattr(one.models["a"], field) for one in (before, after))
        assert (new[:120] == old[:120]).all()
        assert (new[120:] == 2 * old[120:]).all()
    assert after.models["b"] is before.models["b"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"traces": {}}, "--demand: no trace"),
        (
            {"traces": {"a": trace([1.0, 1]), "b": trace([1.0, 1], start=9000)}},
            "--demand: b starts at 9000 s, after a ends at 1200 s",
        ),
        ({"history_seconds": 1200}, "--history: 1200 s of history"),
        ({"history_seconds": -600}, "--history: -600 s of history"),
        ({"warm_up_seconds": 1200}, "--history: 0 s of history and 1200 s of warm-up"),
        ({"days": 1}, "--days: 1 days are not inside the 0.01389"),
        ({"days": 0}, "--days: 0 days"),
        ({"days": 1e-9}, "--days: 1e-09 days are less than a step of 5 s"),
        ({"peak_share": 0}, "--peak-share: 0"),
        ({"peak_share": float("nan")}, "--peak-share: nan"),
        ({"gpus": {H100: 0}}, "--cluster: no GPUs"),
        ({"gpus": {"L4": 8}}, "--cluster: m is served by qwen3-32b, which runs on none"),
        ({"shares": {"x": 0.5}}, "--demand-share x: no such model"),
        ({"shares": {"m": 0.5}}, "--demand-share: the shares sum to 0.5; they must sum to 1"),
        ({"shares": {"m": -1}}, "--demand-share m: -1"),
        (
            {"traces": {"m": trace([1.0, 1]), "n": trace([1.0, 1])}, "shares": {"m": 1}},
            "--demand-share: the shares sum to 1;",
        ),
        (
            {"traces": {"m": trace([1.0, 0]), "n": trace([0.0, 1])}, "shares": {"m": 0.5}},
            "--demand: no window in which",
        ),
        ({"traces": {"m": trace([1.0, 1], bin_seconds=7)}}, "--demand m: bins of 7 s"),
        (
            {"traces": {"m": trace([1.0, 1]), "n": trace([1.0, 1], start=2)}},
            "do not fall on steps of 5 s",
        ),
    ],
)
def test_impossible_demand_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DemandError) as caught:
        run(WORLD, **{"traces": {"m": trace([1.0, 1])}, **changes})
    assert words in str(caught.value)
