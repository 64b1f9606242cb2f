"""Origins, targets and what is known: hand-counted cases, and no look into the future."""

import msgspec
import numpy as np
import pytest

from forecasting.backtest import (
    RIVAL_METHODS,
    Fleet,
    Protocol,
    ProtocolError,
    Series,
    fleets,
    rival_curves,
    tidal_curves,
)
from forecasting.backtest.protocol import imputed, intermittent, origins, targets
from forecasting.backtest.tidal import MOST_SERIES
from forecasting.grid import Floats, Ints
from forecasting.values import DAY, HOUR

HOURLY = Protocol(
    horizons_seconds=(HOUR, 3 * HOUR),
    leads_seconds=(2 * HOUR,),
    quantiles=(0.5, 0.9),
    first_origin_seconds=DAY,
    step_seconds=2 * HOUR,
)


def hourly(rate: Floats, invalid: tuple[int, ...] = (), **changes: object) -> Series:
    valid = np.ones(rate.size, np.bool_)
    valid[list(invalid)] = False
    series = Series(
        group="g", name="n", field="f", bin_seconds=HOUR, first_bin=0, rate=rate, valid=valid
    )
    return msgspec.structs.replace(series, **changes)


def wavy(bins: int, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    wave: Floats = 10 + 5 * np.sin(np.arange(bins) * 2 * np.pi / 24) + rng.gamma(2.0, 1.0, bins)
    return wave


def test_origins_start_after_the_history_and_leave_the_longest_target() -> None:
    # 34 bins: at column 23 a day has ended; from column 30 on, 3 hours are not over in time
    assert origins(hourly(wavy(34)), HOURLY).tolist() == [23, 25, 27, 29]


def test_a_horizon_is_one_bin_and_a_lead_the_largest_until_then() -> None:
    rate = np.arange(34.0)
    rate[25] = 99.0
    seen = targets(hourly(rate), HOURLY.grid(HOUR), np.array([23, 25]))
    assert seen.tolist() == [[24, 26], [26, 28], [99, 27]]


def test_what_is_not_valid_or_not_over_is_no_target() -> None:
    seen = targets(hourly(np.arange(34.0), (25,)), HOURLY.grid(HOUR), np.array([22, 23, 24, 32]))
    nan = np.nan
    expected = [[23, 24, nan, 33], [nan, 26, 27, nan], [24, nan, nan, nan]]
    np.testing.assert_array_equal(seen, expected)


def test_gaps_are_filled_from_the_day_before_else_with_the_last_value() -> None:
    rate = np.arange(1.0, 61.0)
    filled = imputed(hourly(rate, (0, 3, 4, 30, 54)), 24)
    assert np.isnan(filled[0])
    assert filled[[3, 4, 30, 54]].tolist() == [3.0, 3.0, 7.0, 7.0]
    assert (
        np.delete(filled, [0, 3, 4, 30, 54]).tolist() == np.delete(rate, [0, 3, 4, 30, 54]).tolist()
    )


@pytest.mark.parametrize(("busy", "apart"), [(1, True), (2, True), (3, False)])
def test_few_busy_bins_after_the_first_origin_set_a_series_apart(busy: int, apart: bool) -> None:
    rate = np.concatenate([np.ones(23), np.zeros(11)])  # column 23 is the first origin's
    rate[24 : 24 + busy] = 1.0
    assert intermittent(hourly(rate), HOURLY) is apart


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"step_seconds": 5400.0}, "n/f: --step: 5400 s is no multiple of its bins of 3600 s"),
        ({"step_seconds": 1800.0}, "n/f: --step: 1800 s is not between its bin of 3600 s"),
        ({"horizons_seconds": (5400.0,)}, "n/f: --horizons: 5400 s is no multiple of its bins"),
        ({"leads_seconds": (2 * DAY,)}, "n/f: --leads: 172800 s is not between its bin"),
        ({"quantiles": (0.9, 0.5)}, "n/f: quantiles: must be ascending"),
        ({"first_origin_seconds": 2 * DAY}, "n/f: --first-origin: 1.42 days hold no origin at 2 d"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ProtocolError, match="^" + named.replace("(", r"\(")):
        origins(hourly(wavy(34)), msgspec.structs.replace(HOURLY, **changes))


def curves_of(several: list[Series], protocol: Protocol) -> list[Floats]:
    """Tidal's and every rival's curves, series by series."""
    ours = tidal_curves(Fleet(tuple(several)), protocol, lambda *_: None)
    theirs = [rival_curves(series, protocol, RIVAL_METHODS) for series in several]
    return [np.stack([own, *others]) for own, others in zip(ours, theirs, strict=True)]


def test_the_raw_window_maximum_is_one_curve_for_every_quantile() -> None:
    series = hourly(wavy(234))
    columns = origins(series, HOURLY)
    (curve,) = rival_curves(series, HOURLY, ("window-maximum-raw",))
    expected = np.broadcast_to(series.rate[columns][None, :, None], curve.shape)
    np.testing.assert_array_equal(curve, expected)  # half an hour holds one bin of an hour


def changed_after(series: Series, column: int) -> Series:
    rate, valid = series.rate.copy(), series.valid.copy()
    rate[column + 1 :] = 3 * rate[column + 1 :][::-1] + 1
    valid[column + 4 :: 5] = False
    return msgspec.structs.replace(series, rate=rate, valid=valid)


@pytest.mark.parametrize("column", [200, 215])
def test_another_future_changes_no_forecast_that_was_made_before_it(column: int) -> None:
    protocol = msgspec.structs.replace(HOURLY, first_origin_seconds=8 * DAY, step_seconds=HOUR)
    series = [hourly(wavy(234, seed), (20, 21, 90), name=f"n{seed}") for seed in range(2)]
    before: Ints = np.flatnonzero(origins(series[0], protocol) <= column)
    now = curves_of(series, protocol)
    other = curves_of([changed_after(one, column) for one in series], protocol)
    for one, two in zip(now, other, strict=True):
        np.testing.assert_array_equal(one[:, :, before], two[:, :, before])
        assert not np.array_equal(
            one[:, :, before.size :], two[:, :, before.size :], equal_nan=True
        )


def test_tidal_starts_with_the_history_and_then_takes_one_bin_a_call() -> None:
    ticks: list[tuple[int, int, int]] = []
    tidal_curves(
        Fleet((hourly(wavy(34)),)),
        HOURLY,
        lambda state, done, total: ticks.append((state.store.end, done, total)),
    )
    assert ticks == [(23 + number, number, 7) for number in range(1, 8)]


def test_series_of_other_times_meet_in_one_fleet() -> None:
    several = [hourly(wavy(34), name="old"), hourly(wavy(34), name="new", first_bin=10_000)]
    alone = [tidal_curves(Fleet((one,)), HOURLY, lambda *_: None)[0] for one in several]
    ticks: list[int] = []
    both = tidal_curves(Fleet(tuple(several)), HOURLY, lambda *tick: ticks.append(tick[2]))
    assert ticks[-1] == 14  # the time between them is not walked through
    np.testing.assert_array_equal(np.isfinite(both[1]), np.isfinite(alone[1]))
    np.testing.assert_allclose(both[0], alone[0])


def test_fleets_are_groups_of_one_bin_width_and_keep_the_fields_of_a_file_together() -> None:
    several = [
        hourly(wavy(34), group=group, name=str(name), field=field, bin_seconds=width)
        for group, width, names in (("a", HOUR, 60), ("a", 1800.0, 1), ("b", HOUR, 1))
        for name in range(names)
        for field in ("x", "y")
    ]
    found = fleets(several)
    assert [len(fleet.series) for fleet in found] == [60, 60, 2, 2]
    assert max(len(fleet.series) for fleet in found) <= MOST_SERIES
    for fleet in found:
        assert len({(one.group, one.bin_seconds) for one in fleet.series}) == 1
        fields = [one.name for one in fleet.series]
        assert all(fields.count(name) == 2 for name in fields)
