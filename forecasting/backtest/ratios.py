"""Tidal against its rivals, group by group: what a user decides with.

A ratio is between two methods on the same targets of a series, then the geometric mean over the
series of a group. Series that are mostly zero are a group of their own. Below 1, Tidal is better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from forecasting.backtest import scores
from forecasting.backtest.protocol import Protocol
from forecasting.backtest.records import (
    OVER_PROVISION_QUANTILE,
    SHORT_SHARE,
    Record,
    Scored,
    named_targets,
    shared,
)
from forecasting.backtest.rivals import SCALED, has_bands
from forecasting.backtest.tidal import TIDAL
from forecasting.grid import Floats

JUDGED_QUANTILE = 0.9
LEAST_TARGETS = 500
"""Below these, the coverage of one series is chance."""
WITHIN_POINTS = 3.0

Figure = Callable[[Floats, Floats], float | None]


def ratios(several: Sequence[Scored], protocol: Protocol) -> list[Record]:
    """One record per group, kind of series and target; empty without Tidal."""
    kinds: dict[tuple[str, bool], list[Scored]] = {}
    for one in several:
        if TIDAL in one.curves:
            kinds.setdefault((one.series.group, one.intermittent), []).append(one)
    return [
        {
            "group": group,
            "intermittent": apart,
            **named,
            **_of(kinds[group, apart], target, protocol),
        }
        for group, apart in sorted(kinds)
        for target, named in enumerate(named_targets(protocol))
    ]


def mean_losses(
    several: Sequence[Scored], protocol: Protocol
) -> dict[tuple[str, bool, str], list[float | None]]:
    """Relative loss at the judged quantile per (group, intermittent, method) and target.

    The geometric mean over the series that have one, each on all targets of its method. Methods
    without bands have none.
    """
    tau = judged(protocol)
    index = protocol.quantiles.index(tau)
    count = len(named_targets(protocol))
    found: dict[tuple[str, bool, str], list[list[float]]] = {}
    for one in sorted(several, key=lambda one: (one.series.group, one.intermittent)):
        for method, curves in one.curves.items():
            if not has_bands(method):
                continue
            kind = (one.series.group, one.intermittent, method)
            rows = found.setdefault(kind, [[] for _ in range(count)])
            for target, row in enumerate(rows):
                loss = scores.relative_pinball(one.seen[target], curves[target, :, index], tau)
                row.extend([loss] if loss else [])
    return {kind: [_geometric(row) for row in rows] for kind, rows in found.items()}


def with_better_bands(
    losses: Mapping[str, Sequence[float | None]],
) -> dict[str, list[float | None]]:
    """Method -> loss per target, NAME-scaled merged into NAME: the lower of the two."""
    merged: dict[str, list[float | None]] = {}
    for method, row in losses.items():
        name = method.removesuffix(SCALED)
        pairs = zip(merged.get(name, row), row, strict=True)
        merged[name] = [min((x for x in pair if x is not None), default=None) for pair in pairs]
    return merged


def exceeded(several: Sequence[Scored], target: int) -> Floats:
    """Share of targets above each quantile of Tidal, mean of the series [quantile]."""
    shares = []
    for one in several:
        curves, seen = one.curves[TIDAL][target], one.seen[target]
        known = np.isfinite(seen) & np.isfinite(curves).all(axis=1)
        if known.any():
            shares.append((seen[known, None] > curves[known]).mean(axis=0))
    quantiles = several[0].curves[TIDAL].shape[2]
    mean: Floats = np.mean(shares, axis=0) if shares else np.full(quantiles, np.nan)
    return mean


def judged(protocol: Protocol) -> float:
    """The asked quantile nearest to P90."""
    return min(protocol.quantiles, key=lambda tau: (abs(tau - JUDGED_QUANTILE), tau))


def quantile_name(tau: float) -> str:
    """`p90`, `p99_9`: how a field names a quantile."""
    return f"p{tau * 100:g}".replace(".", "_")


def _of(several: list[Scored], target: int, protocol: Protocol) -> Record:
    rivals = [name for name in several[0].curves if name != TIDAL]
    banded = [name for name in rivals if has_bands(name)]
    tau = judged(protocol)
    judging = protocol.quantiles.index(tau)
    losses = {
        name: _compared(several, target, name, protocol, tau, _pinball(tau)) for name in banded
    }
    record: Record = {
        "series": len(several),
        "targets": int(sum(shared(one, target, judging, (TIDAL,)).sum() for one in several)),
        "quantile": tau,
    }
    for name in banded:
        record[f"pinball_ratio_{_word(name)}"] = _geometric(losses[name])
        record[f"share_better_than_{_word(name)}"] = _share(one < 1 for one in losses[name])
    record |= _best(record, banded)
    for index, quantile in enumerate(protocol.quantiles):
        record |= _calibration(several, target, index, quantile)
    if target < len(protocol.horizons_seconds) and OVER_PROVISION_QUANTILE in protocol.quantiles:
        for name in rivals:
            ratio = _compared(
                several, target, name, protocol, OVER_PROVISION_QUANTILE, _over_provision
            )
            record[f"over_provision_ratio_{_word(name)}"] = _geometric(ratio)
    return record


def _word(name: str) -> str:
    return name.replace("-", "_")


def _pinball(tau: float) -> Figure:
    return lambda seen, curve: scores.relative_pinball(seen, curve, tau)


def _over_provision(seen: Floats, curve: Floats) -> float | None:
    return scores.over_provision(seen, curve, SHORT_SHARE)


def _compared(
    several: list[Scored], target: int, rival: str, protocol: Protocol, tau: float, figure: Figure
) -> list[float]:
    """Tidal's figure over the rival's per series, where both are above 0."""
    index = protocol.quantiles.index(tau)
    found = []
    for one in several:
        same = shared(one, target, index, (TIDAL, rival))
        seen = np.where(same, one.seen[target], np.nan)
        ours, theirs = (figure(seen, one.curves[name][target, :, index]) for name in (TIDAL, rival))
        if ours is not None and theirs is not None and ours > 0 and theirs > 0:
            found.append(ours / theirs)
    return found


def _best(record: Record, rivals: list[str]) -> Record:
    """The rival that comes closest in this group, or is ahead."""
    named = [(record[f"pinball_ratio_{_word(name)}"], name) for name in rivals]
    known = [(ratio, name) for ratio, name in named if isinstance(ratio, float)]
    if not known:
        return {"best_rival": None, "pinball_ratio_best_rival": None}
    ratio, name = max(known)
    return {"best_rival": name, "pinball_ratio_best_rival": ratio}


def _calibration(several: list[Scored], target: int, index: int, tau: float) -> Record:
    """Coverage of Tidal at one quantile, in the mean and of single series."""
    covered, enough = [], []
    for one in several:
        seen, curve = one.seen[target], one.curves[TIDAL][target, :, index]
        share = scores.coverage(seen, curve)
        if share is not None:
            covered.append(share)
            if scores.both(seen, curve).sum() >= LEAST_TARGETS:
                enough.append(abs(share - tau) * 100 <= WITHIN_POINTS)
    mean = float(np.mean(covered)) if covered else None
    name = quantile_name(tau)
    return {
        f"coverage_{name}": mean,
        f"coverage_error_{name}_points": None if mean is None else 100 * (mean - tau),
        f"series_of_{LEAST_TARGETS}_targets_{name}": len(enough),
        f"share_within_{WITHIN_POINTS:g}_points_{name}": _share(enough),
    }


def _geometric(values: list[float]) -> float | None:
    return float(np.exp(np.mean(np.log(values)))) if values else None


def _share(flags: Iterable[bool]) -> float | None:
    found = list(flags)
    return sum(found) / len(found) if found else None
