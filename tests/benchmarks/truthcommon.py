"""What the measures of `forecast_truth` share: what is asked for, and how it is forecast."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from forecasting.backtest import Protocol, Scored
from forecasting.grid import Bools, Ints
from scheduler.cli.backtestpool import perform
from tests.benchmarks.truthfamilies import BIN_SECONDS, Truth

QUANTILES = (0.5, 0.9, 0.95, 0.99)
P90, P95 = QUANTILES.index(0.9), QUANTILES.index(0.95)
HORIZONS = (1800.0, 86400.0)
LEADS = (600.0, 1800.0, 3600.0)
HOUR = round(3600 / BIN_SECONDS)

Record = dict[str, object]


def quiet(_: float) -> None:
    """Take progress and say nothing."""


def near(first_origin_seconds: float) -> Protocol:
    """Every bin an origin, only the half hour ahead."""
    return Protocol(
        horizons_seconds=HORIZONS[:1],
        leads_seconds=LEADS[:1],
        quantiles=QUANTILES,
        first_origin_seconds=first_origin_seconds,
        step_seconds=BIN_SECONDS,
    )


def run(truths: Sequence[Truth], protocol: Protocol, options: argparse.Namespace) -> list[Scored]:
    """Forecast every series with every method."""
    several = [truth.series for truth in truths]
    done, _ = perform(several, protocol, options.methods, options.processes, quiet)
    return done


def within(ends: Ints, after: Sequence[int], low: int, high: int) -> Bools:
    """Which bins end in (start + low, start + high] of any of the starts."""
    found: Bools = np.zeros(ends.size, np.bool_)
    for start in after:
        found |= (ends > start + low) & (ends <= start + high)
    return found
