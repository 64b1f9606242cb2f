"""Scores of one series as flat records, one figure a field; `measures` in JSON.

A record of a horizon has `horizon_seconds`, one of a lead `lead_seconds` in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from forecasting.backtest import scores
from forecasting.backtest.protocol import Protocol, Series, intermittent, origins, targets
from forecasting.backtest.rivals import has_bands
from forecasting.grid import Bools, Floats

Record = dict[str, Any]
OVER_PROVISION_QUANTILE = 0.95
SHORT_SHARE = 0.01


class Scored(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """All curves of one series beside what came.

    `seen` [target, origin]; `curves` method -> [target, origin, quantile].
    """

    series: Series
    intermittent: bool
    columns: tuple[int, ...]
    seen: Floats
    curves: Mapping[str, Floats]


def scored(series: Series, protocol: Protocol, curves: Mapping[str, Floats]) -> Scored:
    """Put the curves of a series beside its targets."""
    columns = origins(series, protocol)
    return Scored(
        series=series,
        intermittent=intermittent(series, protocol),
        columns=tuple(columns.tolist()),
        seen=targets(series, protocol.grid(series.bin_seconds), columns),
        curves=curves,
    )


def records(one: Scored, protocol: Protocol) -> Iterator[Record]:
    """Yield the records of a series, by method, target and quantile.

    A method without any forecast of a target has no record of it, one without bands only that of
    its over-provision.
    """
    for method, curves in one.curves.items():
        for target, named in enumerate(named_targets(protocol)):
            seen = one.seen[target]
            if not np.isfinite(curves[target]).any():
                continue
            about = {**_about(one.series), "method": method, **named}
            for index, tau in enumerate(protocol.quantiles if has_bands(method) else ()):
                yield {**about, "quantile": tau, **_figures(seen, curves[target, :, index], tau)}
            if "horizon_seconds" in named and OVER_PROVISION_QUANTILE in protocol.quantiles:
                curve = curves[target, :, protocol.quantiles.index(OVER_PROVISION_QUANTILE)]
                yield {
                    **about,
                    "short_percent": 100 * SHORT_SHARE,
                    "over_provision": scores.over_provision(seen, curve, SHORT_SHARE),
                }


def named_targets(protocol: Protocol) -> list[Record]:
    """The field that says which target, for each target in the order of the grid."""
    horizons: list[Record] = [{"horizon_seconds": h} for h in protocol.horizons_seconds]
    leads: list[Record] = [{"lead_seconds": lead} for lead in protocol.leads_seconds]
    return horizons + leads


def shared(one: Scored, target: int, index: int, methods: tuple[str, ...]) -> Bools:
    """The origins at which the target came and all of the methods had said the quantile."""
    known: Bools = np.isfinite(one.seen[target])
    for method in methods:
        known = known & np.isfinite(one.curves[method][target, :, index])
    return known


def _about(series: Series) -> Record:
    return {"group": series.group, "series": series.name, "field": series.field}


def _figures(seen: Floats, curve: Floats, tau: float) -> Record:
    return {
        "pinball": scores.relative_pinball(seen, curve, tau),
        "coverage": scores.coverage(seen, curve),
        "targets": int(scores.both(seen, curve).sum()),
    }
