"""Days that are not like the others: a holiday, and the one after the level has shifted."""

import numpy as np

from forecasting import SeriesForecast, State, Stretch, forecast, initial_state
from forecasting.grid import Floats

BIN, DAY = 600.0, 144
DAY_AHEAD = 1
MEDIAN, P90 = 0, 1
QUANTILES = (0.5, 0.9)
HOLIDAY = 9  # a Wednesday, as day 0 is a Monday
SHIFT = 9 * DAY


def office(days: int) -> Floats:
    """Busy by day, quieter at weekends, with a wander of some hours."""
    rng = np.random.default_rng(5)
    bins = np.arange(days * DAY)
    hour = bins % DAY * 24 / DAY
    busy = 1 / (1 + np.exp(-2 * (hour - 8.5))) - 1 / (1 + np.exp(-1.5 * (hour - 18)))
    wander = np.zeros(bins.size)
    for at in range(1, bins.size):
        wander[at] = 0.95 * wander[at - 1] + 0.03 * rng.normal()
    return 1000 * (0.15 + busy * np.where(bins // DAY % 7 >= 5, 0.35, 1.0)) * np.exp(wander)


def stretch(key: str, rates: Floats, first: int, last: int) -> Stretch:
    return Stretch(key, BIN * first, BIN, rates[first:last])


def begun() -> State:
    return initial_state(
        bin_seconds=BIN,
        horizons_seconds=(1800.0, 86400.0),
        leads_seconds=(1800.0,),
        quantiles=QUANTILES,
    )


def issued(series: dict[str, Floats], ends: list[int]) -> list[dict[str, SeriesForecast]]:
    """What is forecast at the end of each of these bins, by one forecaster that goes on."""
    state, out, before = begun(), [], 0
    for end in ends:
        told = [stretch(key, rates, before, end) for key, rates in series.items()]
        found, state = forecast(state, told, BIN * end)
        out.append(found.series)
        before = end
    return out


def test_a_holiday_costs_that_day_and_no_more() -> None:
    plain = office(14)
    odd = plain.copy()
    sunday = plain[(HOLIDAY - 3) * DAY : (HOLIDAY - 2) * DAY]
    odd[HOLIDAY * DAY : (HOLIDAY + 1) * DAY] = sunday
    ends = [round((HOLIDAY + 1 + hour / 24) * DAY) for hour in (7, 9, 11, 13, 15, 17, 19)]
    for both in issued({"plain/x": plain, "odd/x": odd}, ends):
        ratio = np.array(both["odd/x"].at) / np.array(both["plain/x"].at)
        assert np.abs(ratio - 1).max() < 0.15


def test_a_day_after_a_shift_the_band_a_day_ahead_is_wider_and_holds() -> None:
    plain = office(14)
    shifted = plain.copy()
    shifted[SHIFT:] *= 2.2
    ends = [SHIFT + round(hour / 24 * DAY) for hour in range(24, 48, 3)]
    held = []
    for end, both in zip(ends, issued({"plain/x": plain, "shifted/x": shifted}, ends), strict=True):
        usual, wider = (both[key].at[DAY_AHEAD] for key in ("plain/x", "shifted/x"))
        assert wider[P90] / wider[MEDIAN] > usual[P90] / usual[MEDIAN]
        held.append(shifted[end + DAY - 1] <= wider[P90])
    assert np.mean(held) >= 0.75
