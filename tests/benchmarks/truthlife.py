"""Hard hours of a series: after an outage, and its first day."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from forecasting.backtest import Scored, Series
from forecasting.backtest.scores import coverage, relative_pinball
from scheduler.cli.backtestpool import perform
from tests.benchmarks.truthcommon import HORIZONS, HOUR, P90, Record, near, quiet, run, within
from tests.benchmarks.truthfamilies import BIN_SECONDS, DAY, Truth

OUTAGE_BINS = HOUR
OUTAGE_EVERY_BINS = 50 * HOUR  # another hour of the day each time
OUTAGE_AFTER_BINS = 6 * HOUR
OUTAGE_FAMILIES = ("smooth", "office")
FIRST_DAY_HISTORY_SECONDS = 1800.0
_NEARLY_ZERO = 1e-6


def outage(options: argparse.Namespace, truths: Sequence[Truth]) -> list[Record]:
    """P90 loss in the 6 hours after an outage, over the loss where it is read as zero.

    Every series loses the same hours. `masked`: they are not valid. `silent`: they come as zeros,
    which a forecaster may know for an outage of the fleet; `source`: only every other series
    falls to zero, and only these are scored. Read as zero: too little to be called zero.
    """
    chosen = [truth for truth in truths if truth.family in OUTAGE_FAMILIES]
    if not chosen:
        return []
    first = round(options.first_origin / 3600) * HOUR + 2 * HOUR
    starts = range(first, chosen[0].rate.size - DAY, OUTAGE_EVERY_BINS)
    cases = {
        "zero": [broken(truth, starts, _NEARLY_ZERO) for truth in chosen],
        "masked": [broken(truth, starts, np.nan) for truth in chosen],
        "silent": [broken(truth, starts, 0.0) for truth in chosen],
        "source": [
            broken(truth, starts if row % 2 else (), 0.0) for row, truth in enumerate(chosen)
        ],
    }
    losses = {
        name: losses_after(chosen, several, starts, options) for name, several in cases.items()
    }
    return [
        record
        for name in ("masked", "silent", "source")
        for method in options.methods
        for record in compared(name, method, losses[name][method], losses["zero"][method])
    ]


def losses_after(
    chosen: Sequence[Truth],
    several: Sequence[Series],
    starts: Sequence[int],
    options: argparse.Namespace,
) -> dict[str, list[float]]:
    """Relative loss of each series after the outages, by method."""
    protocol = near(options.first_origin)
    done, _ = perform(several, protocol, options.methods, options.processes, quiet)
    return {
        method: [lost(truth, one, starts, method) for truth, one in zip(chosen, done, strict=True)]
        for method in options.methods
    }


def compared(
    name: str, method: str, ours: Sequence[float], zero: Sequence[float]
) -> Iterator[Record]:
    """Yield the geometric mean over series, where there are any."""
    scored = range(1, len(ours), 2) if name == "source" else range(len(ours))
    ratios = [ours[row] / zero[row] for row in scored if ours[row] > 0 and zero[row] > 0]
    if ratios:
        yield {
            "measure": "outage",
            "method": method,
            "outage": name,
            "horizon_seconds": HORIZONS[0],
            "quantile": 0.9,
            "series": len(ratios),
            "loss_over_read_as_zero": float(np.exp(np.mean(np.log(ratios)))),
        }


def broken(truth: Truth, starts: Sequence[int], rate: float) -> Series:
    """The series with this rate for an hour from each start; NaN makes it not valid."""
    series = truth.series
    rates, valid = series.rate.copy(), series.valid.copy()
    for start in starts:
        rates[start : start + OUTAGE_BINS] = np.nan_to_num(rate)
        valid[start : start + OUTAGE_BINS] = not np.isnan(rate)
    return msgspec.structs.replace(series, rate=rates, valid=valid)


def lost(truth: Truth, one: Scored, starts: Sequence[int], method: str) -> float:
    """Relative loss of the targets after an outage, scored on what really came."""
    columns = np.array(one.columns)
    target = columns + round(HORIZONS[0] / BIN_SECONDS)
    after = [start + OUTAGE_BINS for start in starts]
    counted = within(target + 1, after, 0, OUTAGE_AFTER_BINS)
    seen = np.where(counted, truth.rate[target], np.nan)
    return relative_pinball(seen, one.curves[method][0, :, P90], 0.9) or 0.0


def first_day(options: argparse.Namespace, truths: Sequence[Truth]) -> list[Record]:
    """Coverage of the 30-minute P90 in the first 24 hours, all series being new."""
    young = [msgspec.structs.replace(truth, rate=truth.rate[:DAY]) for truth in truths]
    done = run(young, near(FIRST_DAY_HISTORY_SECONDS), options)
    found: list[Record] = []
    for method in options.methods:
        shares = [coverage(one.seen[0], one.curves[method][0, :, P90]) for one in done]
        known = sorted(share for share in shares if share is not None)
        if known:
            worst = known[: max(1, len(known) // 10)]
            found.append(
                {
                    "measure": "first_day",
                    "method": method,
                    "horizon_seconds": HORIZONS[0],
                    "quantile": 0.9,
                    "series": len(known),
                    "coverage_mean": float(np.mean(known)),
                    "coverage_decile": float(np.quantile(known, 0.1)),
                    "coverage_worst_tenth_mean": float(np.mean(worst)),
                }
            )
    return found
