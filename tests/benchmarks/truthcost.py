"""What a large fleet costs: CPU of its ticks, refits included, and memory of its state."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np

from forecasting.backtest.footprint import bytes_of
from forecasting.forecast import forecast, initial_state
from forecasting.grid import Floats
from forecasting.history import Stretch
from forecasting.values import Sample
from tests.benchmarks.truthcommon import HOUR, QUANTILES, Record
from tests.benchmarks.truthfamilies import BIN_SECONDS, DAY, FAMILIES, generate

TIMING_HORIZONS = (300.0, 600.0, 1800.0, 3600.0, 21600.0, 86400.0)


def timing(options: argparse.Namespace) -> Record:
    """CPU per series and tick of a large fleet with 14 days of history, and its memory."""
    count, hours = options.timing_series, options.timing_hours
    days = 14 + hours / 24
    kinds = [generate(FAMILIES[k % 4], k // 4, (0.02, 0.5, 20.0)[k % 3], days) for k in range(24)]
    rates = [
        np.roll(kinds[row % 24].rate, 7 * (row // 24)) * (1 + row / count) for row in range(count)
    ]
    state = initial_state(
        bin_seconds=BIN_SECONDS, horizons_seconds=TIMING_HORIZONS, quantiles=QUANTILES
    )
    begun = time.process_time()
    state = forecast(state, history(rates, 14 * DAY), 14 * DAY * BIN_SECONDS)[1]
    first = time.process_time() - begun
    spent = []
    for at in range(14 * DAY, 14 * DAY + hours * HOUR):
        new = tick(rates, at)
        before = time.process_time()
        state = forecast(state, new, (at + 1) * BIN_SECONDS)[1]
        spent.append(time.process_time() - before)
    return {
        "series": count,
        "ticks": len(spent),
        "horizons": len(TIMING_HORIZONS),
        "leads": len(state.grid.lead_steps),
        "quantiles": len(QUANTILES),
        "first_forecast_cpu_seconds": first,
        "cpu_seconds_per_series_tick": sum(spent) / len(spent) / count,
        "cpu_seconds_per_series_tick_median": float(np.median(spent)) / count,
        "cpu_seconds_longest_tick": max(spent),
        "bytes_per_series": round(bytes_of(state) / count),
    }


def history(rates: Sequence[Floats], bins: int) -> list[Stretch]:
    """The first bins of each series."""
    return [Stretch(f"{row:05}", 0.0, BIN_SECONDS, rate[:bins]) for row, rate in enumerate(rates)]


def tick(rates: Sequence[Floats], at: int) -> list[Sample]:
    """One bin of each series."""
    return [
        Sample(f"{row:05}", at * BIN_SECONDS, BIN_SECONDS, float(rate[at]))
        for row, rate in enumerate(rates)
    ]
