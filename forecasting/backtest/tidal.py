"""Tidal as it runs: one state for a fleet, fed bin by bin, forecasting at every bin.

A fleet is all series of one group and one bin width. The first call brings the history up to the
first origin, as a daemon that starts does; from then on each call brings one bin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from forecasting.backtest.protocol import Protocol, Series, origins
from forecasting.forecast import State, forecast, initial_state
from forecasting.grid import Floats, Grid, Ints
from forecasting.history import Stretch
from forecasting.values import Forecasts, Sample

TIDAL = "tidal"
# Larger groups are cut into fleets of equal size, so that several cores can work on them. The
# cut depends on the input alone: the number of cores must not change a figure.
MOST_SERIES = 96


class Fleet(msgspec.Struct, frozen=True, eq=False):
    """Series that one forecaster sees together."""

    series: tuple[Series, ...]

    @property
    def bin_seconds(self) -> float:
        return self.series[0].bin_seconds


def fleets(several: Sequence[Series]) -> tuple[Fleet, ...]:
    """Cut series into fleets, in their order; the fields of one file stay together."""
    kinds: dict[tuple[str, float], list[Series]] = {}
    for series in several:
        kinds.setdefault((series.group, series.bin_seconds), []).append(series)
    return tuple(part for kind in kinds.values() for part in _parts(kind))


def _parts(several: list[Series]) -> list[Fleet]:
    names = list(dict.fromkeys(series.name for series in several))
    count = -(-len(several) // MOST_SERIES)
    chosen = [
        set(part.tolist()) for part in np.array_split(np.array(names), min(count, len(names)))
    ]
    return [Fleet(tuple(s for s in several if s.name in part)) for part in chosen]


def tidal_curves(
    fleet: Fleet, protocol: Protocol, on_tick: Callable[[State, int, int], None]
) -> list[Floats]:
    """Quantile curves per series [target, origin, quantile], from the real forecaster.

    `on_tick` is called after each forecast with the state, how many ticks are done and how many
    there are; the first tick takes in the history.
    """
    grid = protocol.grid(fleet.bin_seconds)
    state = initial_state(
        bin_seconds=fleet.bin_seconds,
        horizons_seconds=protocol.horizons_seconds,
        leads_seconds=protocol.leads_seconds,
        quantiles=protocol.quantiles,
    )
    at = [origins(series, protocol) for series in fleet.series]
    curves = [_empty(columns, grid) for columns in at]
    ticks = _ticks(fleet, at)
    before = min(series.first_bin for series in fleet.series)
    for number, tick in enumerate(ticks.tolist(), start=1):
        end = tick + 1
        told = _told(fleet, before, end)
        issued, state = forecast(state, told, end * fleet.bin_seconds)
        _keep(issued, fleet, at, tick, curves)
        before = end
        on_tick(state, number, ticks.size)
    return curves


def _empty(columns: Ints, grid: Grid) -> Floats:
    return np.full((len(grid.target_steps), columns.size, len(grid.quantiles)), np.nan)


def _ticks(fleet: Fleet, at: list[Ints]) -> Ints:
    """Bins after which the forecaster is called: every one between a series' origins."""
    spans = [
        series.first_bin + np.arange(columns[0], columns[-1] + 1)
        for series, columns in zip(fleet.series, at, strict=True)
    ]
    return np.unique(np.concatenate(spans))


def _told(fleet: Fleet, first: int, end: int) -> list[Sample | Stretch]:
    """What was observed in bins first <= b < end of the time line; gaps come as not valid."""
    width = fleet.bin_seconds
    out: list[Sample | Stretch] = []
    for series in fleet.series:
        low = max(first - series.first_bin, 0)
        rates = np.where(series.valid, series.rate, np.nan)[low : max(end - series.first_bin, low)]
        start = (series.first_bin + low) * width
        if rates.size == 1:
            out.append(Sample(series.key, start, width, float(rates[0])))
        elif rates.size:
            out.append(Stretch(series.key, start, width, rates))
    return out


def _keep(issued: Forecasts, fleet: Fleet, at: list[Ints], tick: int, curves: list[Floats]) -> None:
    for series, columns, curve in zip(fleet.series, at, curves, strict=True):
        origin = int(np.searchsorted(columns, tick - series.first_bin))
        if origin < columns.size and columns[origin] == tick - series.first_bin:
            said = issued.series.get(series.key)  # it may not have been heard of yet
            if said is not None:
                curve[:, origin] = (*said.at, *said.peak)
