"""Distance to the truth: loss over the oracle's, coverage of peaks, coverage after a shift."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from forecasting.backtest import Protocol, Scored
from forecasting.backtest.scores import coverage, relative_pinball
from forecasting.grid import Floats
from tests.benchmarks.truthcommon import (
    HORIZONS,
    HOUR,
    LEADS,
    P90,
    P95,
    QUANTILES,
    Record,
    run,
    within,
)
from tests.benchmarks.truthfamilies import BIN_SECONDS, Truth, oracle

SHIFT_HOURS = ((1, 6), (6, 24))
ORACLE = "oracle"


def gap(options: argparse.Namespace, truths: Sequence[Truth]) -> list[Record]:
    """Loss over the oracle's, coverage of peaks, coverage after shifts."""
    protocol = Protocol(
        horizons_seconds=HORIZONS,
        leads_seconds=LEADS,
        quantiles=QUANTILES,
        first_origin_seconds=options.first_origin,
        step_seconds=options.step,
    )
    done = run(truths, protocol, options)
    steps = np.array([round(seconds / BIN_SECONDS) for seconds in HORIZONS])
    true = [
        oracle(truth, np.array(one.columns), steps, QUANTILES, options.samples)
        for truth, one in zip(truths, done, strict=True)
    ]
    found: list[Record] = []
    for family in dict.fromkeys(truth.family for truth in truths):
        rows = [row for row, truth in enumerate(truths) if truth.family == family]
        several = [(truths[row], done[row], true[row]) for row in rows]
        for method in options.methods:
            found += gaps({"family": family, "method": method}, several)
            for scale in options.scales:
                named = {"family": family, "method": method, "requests_per_second": scale}
                found += gaps(named, [one for one in several if one[0].scale == scale])
            found += peaks(family, method, [one for _, one, _ in several])
        for method in (*options.methods, ORACLE):
            found += after_shifts(family, method, several)
    return found


def gaps(named: Record, several: Sequence[tuple[Truth, Scored, Floats]]) -> list[Record]:
    """Geometric mean over series of the P90 loss over the true quantile's, less 1."""
    found: list[Record] = []
    for target, seconds in enumerate(HORIZONS):
        ratios, covered = [], []
        for _, one, true in several:
            curve = one.curves[str(named["method"])][target, :, P90]
            seen = np.where(np.isfinite(curve), one.seen[target], np.nan)
            own, best = (relative_pinball(seen, c, 0.9) for c in (curve, true[target, :, P90]))
            share = coverage(seen, curve)
            if own and best and share is not None:
                ratios.append(own / best)
                covered.append(share)
        if ratios:
            found.append(
                {
                    "measure": "gap",
                    **named,
                    "horizon_seconds": seconds,
                    "quantile": 0.9,
                    "series": len(ratios),
                    "gap": float(np.exp(np.mean(np.log(ratios)))) - 1,
                    "coverage": float(np.mean(covered)),
                }
            )
    return found


def peaks(family: str, method: str, several: Sequence[Scored]) -> list[Record]:
    """Mean coverage of the P95 of the largest rate over a lead."""
    found: list[Record] = []
    for number, seconds in enumerate(LEADS, start=len(HORIZONS)):
        shares = [coverage(one.seen[number], one.curves[method][number, :, P95]) for one in several]
        known = [share for share in shares if share is not None]
        if known:
            found.append(
                {
                    "measure": "peak",
                    "family": family,
                    "method": method,
                    "lead_seconds": seconds,
                    "quantile": 0.95,
                    "series": len(known),
                    "coverage": float(np.mean(known)),
                }
            )
    return found


def after_shifts(
    family: str, method: str, several: Sequence[tuple[Truth, Scored, Floats]]
) -> list[Record]:
    """Coverage of the 30-minute P90 in the hours after a shift upwards, all targets alike."""
    found: list[Record] = []
    for first, last in SHIFT_HOURS:
        hit, count = 0, 0
        for truth, one, true in several:
            curves = true if method == ORACLE else one.curves[method]
            ends = np.array(one.columns) + round(HORIZONS[0] / BIN_SECONDS) + 1
            known = within(ends, truth.rises, first * HOUR, last * HOUR)
            known &= np.isfinite(curves[0, :, P90]) & np.isfinite(one.seen[0])
            hit += int((one.seen[0][known] <= curves[0, known, P90]).sum())
            count += int(known.sum())
        if count:
            found.append(
                {
                    "measure": "shift",
                    "family": family,
                    "method": method,
                    "horizon_seconds": HORIZONS[0],
                    "quantile": 0.9,
                    "hours_from": first,
                    "hours_to": last,
                    "targets": count,
                    "coverage": hit / count,
                }
            )
    return found
