"""Hard hours of a series: after an outage, and its first day."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import msgspec
import numpy as np

from forecasting.backtest import Scored, Series
from forecasting.backtest.scores import coverage, relative_pinball
from scheduler.cli.backtestpool import perform
from tests.benchmarks.truthcommon import HORIZONS, HOUR, P90, Record, near, quiet, run, within
from tests.benchmarks.truthfamilies import BIN_SECONDS, DAY, Truth

OUTAGE_BINS = HOUR
OUTAGE_AFTER_BINS = 6 * HOUR
OUTAGE_FAMILIES = ("smooth", "office")
FIRST_DAY_HISTORY_SECONDS = 1800.0


def outage(options: argparse.Namespace, truths: Sequence[Truth]) -> list[Record]:
    """P90 loss in the 6 hours after an outage, over the loss where it is read as zero.

    The series form two halves whose outages lie 12 hours apart, so that zeros of one half are no
    silence of the fleet. `masked`: not valid. `silent`: zeros, each half a fleet of its own.
    """
    chosen = [truth for truth in truths if truth.family in OUTAGE_FAMILIES]
    first = round(options.first_origin / 3600) * HOUR
    starts = [
        range(first + (2 + 12 * (row % 2)) * HOUR, truth.rate.size - DAY, 2 * DAY)
        for row, truth in enumerate(chosen)
    ]
    halves = [f"half-{row % 2}" for row in range(len(chosen))]
    series = {
        "zero": [broken(*pair, valid=True) for pair in zip(chosen, starts, strict=True)],
        "masked": [broken(*pair, valid=False) for pair in zip(chosen, starts, strict=True)],
    }
    series["silent"] = [
        msgspec.structs.replace(one, group=f"{one.group}-{half}")
        for one, half in zip(series["zero"], halves, strict=True)
    ]
    found: list[Record] = []
    losses: dict[tuple[str, str], list[float]] = {}
    for name, several in series.items():
        done, _ = perform(
            several, near(options.first_origin), options.methods, options.processes, quiet
        )
        for method in options.methods:
            losses[name, method] = [
                lost(truth, one, at, method)
                for truth, one, at in zip(chosen, done, starts, strict=True)
            ]
    for name in ("masked", "silent"):
        for method in options.methods:
            pairs = zip(losses[name, method], losses["zero", method], strict=True)
            ratios = [ours / zero for ours, zero in pairs if ours > 0 and zero > 0]
            if ratios:
                found.append(
                    {
                        "measure": "outage",
                        "method": method,
                        "outage": name,
                        "horizon_seconds": HORIZONS[0],
                        "quantile": 0.9,
                        "series": len(ratios),
                        "loss_over_read_as_zero": float(np.exp(np.mean(np.log(ratios)))),
                    }
                )
    return found


def broken(truth: Truth, starts: Sequence[int], *, valid: bool) -> Series:
    """The series with zeros for an hour from each start, which are `valid` or not."""
    series = truth.series
    rate, known = series.rate.copy(), series.valid.copy()
    for start in starts:
        rate[start : start + OUTAGE_BINS] = 0.0
        known[start : start + OUTAGE_BINS] = valid
    return msgspec.structs.replace(series, rate=rate, valid=known)


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
