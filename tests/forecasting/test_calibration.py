"""Bands that cover, a season that has to earn its weight, and the arithmetic under both."""

import numpy as np
import pytest

from forecasting import Forecasts, Sample, State, Stretch, forecast, initial_state
from forecasting.calibration import calibrate, mix, of_voices, pinball, weighted_quantiles
from forecasting.forecast import DEFAULT_MEMBERS
from forecasting.grid import Floats, make_grid
from forecasting.members import voices
from forecasting.replay import Replay
from forecasting.scales import Scales

DAY, BIN, BINS = 86400.0, 300.0, 288
SIX_HOURS, HALF_HOUR, P90 = 5, 2, 1
HOUR = 12


def samples(rates: Floats, start: int = 0) -> list[Sample]:
    return [Sample("x", BIN * (start + i), BIN, rate) for i, rate in enumerate(rates.tolist())]


pytestmark = pytest.mark.xdist_group("calibration")  # its walks are long


def walk(rates: Floats, known: int, members: tuple[str, ...]) -> tuple[list[Forecasts], State]:
    """A forecast at every bin from `known` on; element i was issued after bin known + i - 1."""
    first, state = forecast(initial_state(members=members), samples(rates[:known]), BIN * known)
    out = [first]
    for bin_number in range(known, rates.size):
        new = samples(rates[bin_number : bin_number + 1], bin_number)
        issued, state = forecast(state, new, BIN * (bin_number + 1))
        out.append(issued)
    return out, state


def said(issued: list[Forecasts], horizon: int, quantile: int) -> Floats:
    return np.array([one.series["x"].at[horizon][quantile] for one in issued])


def drawn(seed: int, phase: float) -> Floats:
    """Eight days with a strong daily season, noise that lasts a while, and noise that does not."""
    rng = np.random.default_rng(seed)
    slow = np.zeros(8 * BINS)
    for t in range(1, slow.size):
        slow[t] = 0.97 * slow[t - 1] + 0.02 * rng.normal()
    season = 1 + 0.8 * np.sin(2 * np.pi * (np.arange(slow.size) / BINS + phase))
    noise = 1 + 0.03 * rng.normal(size=slow.size)
    rates: Floats = 1000 * season * np.exp(slow) * noise
    return rates


@pytest.fixture(scope="module")
def tide() -> Floats:
    return drawn(5, 0.0)


@pytest.fixture(scope="module")
def both(tide: Floats) -> tuple[tuple[list[Forecasts], State], tuple[list[Forecasts], State]]:
    known = 6 * BINS
    return walk(tide, known, DEFAULT_MEMBERS), walk(tide, known, ("last",))


Walks = tuple[tuple[list[Forecasts], State], tuple[list[Forecasts], State]]


def losses(walks: Walks, tide: Floats, horizon: int, steps: int) -> list[float]:
    seen = tide[6 * BINS + steps - 1 :]
    return [
        float(pinball(seen, said(issued, horizon, P90)[: seen.size], 0.9).mean())
        for issued, _ in walks
    ]


def test_a_strong_season_earns_the_weight_and_pays_for_it(both: Walks, tide: Floats) -> None:
    mixture, last = losses(both, tide, SIX_HOURS, 72)
    assert mixture < 0.5 * last
    knowledge = both[0][1].knowledge
    assert knowledge is not None
    names = voices(DEFAULT_MEMBERS)
    weight = of_voices(knowledge.calibration.weight, len(names))[0, :, SIX_HOURS, P90]
    share = dict(zip(names, weight.tolist(), strict=True))
    assert share["last"] < 0.05
    seasonal = ("yesterday", "typical", "harmonic", "waves", "profile", "stack")
    assert sum(share[name] for name in seasonal) > 0.9


def test_the_mixture_is_no_worse_than_the_last_value_half_an_hour_ahead(
    both: Walks, tide: Floats
) -> None:
    mixture, last = losses(both, tide, HALF_HOUR, 6)
    assert mixture < last


def test_the_band_covers_what_it_says(both: Walks, tide: Floats) -> None:
    seen = tide[6 * BINS + 5 :]
    for quantile, share in ((P90, 0.9), (2, 0.95)):
        covered = seen <= said(both[0][0], HALF_HOUR, quantile)[: seen.size]
        assert covered.mean() == pytest.approx(share, abs=0.03)


def test_the_peak_over_a_lead_is_covered_too(both: Walks, tide: Floats) -> None:
    lead, steps = 3, 6
    windows = np.lib.stride_tricks.sliding_window_view(tide[6 * BINS :], steps).max(axis=1)
    issued = [one.series["x"].peak[lead][P90] for one in both[0][0]]
    covered = windows <= np.array(issued)[: windows.size]
    assert covered.mean() == pytest.approx(0.9, abs=0.03)


def test_it_knows_how_good_it_is(both: Walks) -> None:
    one = both[0][0][-1].series["x"]
    assert one.coverage == pytest.approx(0.9, abs=0.07)
    assert one.skill is not None
    assert 0.1 < one.skill < 1


def test_a_level_shift_is_followed() -> None:
    """From the second to the sixth hour, at all times of the day."""
    series = {str(seed): drawn(seed, seed / 4) for seed in range(5, 13)}
    since, steps = 6 * BINS, 6
    for rates in series.values():
        rates[since:] *= 2.2
    past = [Stretch(key, 0.0, BIN, rates[:since]) for key, rates in series.items()]
    _, state = forecast(initial_state(), past, BIN * since)
    covered = []
    for now in range(since + 1, since + 6 * HOUR - steps):
        new = [Sample(key, BIN * (now - 1), BIN, rates[now - 1]) for key, rates in series.items()]
        issued, state = forecast(state, new, BIN * now)
        target = now + steps - 1
        if target >= since + HOUR:
            p90s = [issued.series[key].at[HALF_HOUR][P90] for key in series]
            covered += [
                rates[target] <= p90 for rates, p90 in zip(series.values(), p90s, strict=True)
            ]
    assert np.mean(covered) > 0.65


@pytest.mark.parametrize(
    ("weights", "quantile", "expected"),
    [
        pytest.param([1, 1, 1, 1], 0.5, 2, id="equal weights"),
        pytest.param([1, 1, 1, 1], 0.75, 3, id="at a boundary"),
        pytest.param([1, 1, 1, 1], 0.76, 4, id="past a boundary"),
        pytest.param([0, 0, 0, 1], 0.1, 4, id="all weight on one"),
        pytest.param([5, 1, 1, 1], 0.6, 1, id="heavy first"),
    ],
)
def test_weighted_quantile(weights: list[float], quantile: float, expected: float) -> None:
    values = np.array([4.0, np.nan, 1.0, 3.0, 2.0])
    order = np.array([weights[3], 100.0, weights[0], weights[2], weights[1]])
    assert weighted_quantiles(values, order, (quantile,))[0] == expected


def test_no_value_has_no_quantile() -> None:
    assert np.isnan(weighted_quantiles(np.full(3, np.nan), np.ones(3), (0.5,)))[0]


def test_a_member_without_a_forecast_leaves_its_weight_to_the_others() -> None:
    band, weight = np.array([[10.0, np.nan, 30.0]]), np.array([[0.25, 0.5, 0.25]])
    assert mix(band, weight)[0] == 20.0
    assert np.isnan(mix(np.full((1, 3), np.nan), weight)[0])


def replayed(errors: Floats, spread: Floats) -> Replay:
    """Three voices that all say root 100, a target an hour ahead and one six hours ahead."""
    steps, count = np.array([HOUR, 6 * HOUR]), errors.size
    restless = np.stack([spread, np.ones(count)])
    return Replay(
        steps,
        np.full((1, 3, 2, count), 100.0),
        np.repeat(100.0 + errors[None, None], 2, axis=1),
        np.full((1, 2, count), np.nan),
        Scales(restless[None], np.full((1, count), 100.0), spread[None]),
        np.arange(count)[::-1] * HOUR // 2,
    )


@pytest.mark.parametrize("bursts", [True, False])
def test_second_bands_weigh_more_where_errors_grow_with_the_restlessness(bursts: bool) -> None:
    rng = np.random.default_rng(1)
    noise, spread = rng.normal(size=336), np.exp(rng.normal(size=336))
    grid = make_grid(BIN, (3600.0, 21600.0), (3600.0,), (0.5, 0.9))
    past = replayed(noise * spread if bursts else noise, spread)
    weight = calibrate(past, grid).weight
    near, far = weight[0, :, 0, P90], weight[0, :, 1, P90]
    assert (near[:3] > near[3:]).tolist() == [bursts] * 3
    assert not far[:3].any()
    together = of_voices(weight, 3)[0, :, 0, P90]
    assert together == pytest.approx(near[:3] + near[3:])
    assert together.sum() == pytest.approx(1.0)
    assert far[5] == pytest.approx(4 * far[3])  # the stack, of three that say the same


@pytest.mark.parametrize(
    ("varies", "least", "most"),
    [
        pytest.param(0.0, 0.0, 0.0, id="never changes"),
        pytest.param(0.2, 0.0, 0.2, id="as much as chance does"),
        pytest.param(0.28, 0.55, 0.85, id="twice as much"),
        pytest.param(1.0, 1.0, 1.0, id="comes and goes"),
    ],
)
def test_units_heed_a_restlessness_that_is_no_chance(
    varies: float, least: float, most: float
) -> None:
    """`varies` is the standard deviation of its logarithm."""
    rng = np.random.default_rng(2)
    spread = np.exp(varies * rng.normal(size=336))
    grid = make_grid(BIN, (3600.0, 21600.0), (3600.0,), (0.5, 0.9))
    near, far = calibrate(replayed(rng.normal(size=336), spread), grid).heed[0]
    assert least <= near <= most
    assert far == 0.0


def test_what_is_not_known_yet_is_not_restless() -> None:
    """The hours before a series' first bin look calm as nothing else does."""
    rng = np.random.default_rng(3)
    errors, spread = rng.normal(size=336), np.ones(336)
    errors[:100], spread[:100] = np.nan, 1e-12
    grid = make_grid(BIN, (3600.0, 21600.0), (3600.0,), (0.5, 0.9))
    assert calibrate(replayed(errors, spread), grid).heed[0, 0] < 0.2
