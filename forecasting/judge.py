"""How good the forecast has been lately, on targets it had not learnt from.

The replay is cut in time: the older part calibrates, the newer part is scored. The yardstick is
yesterday's value with a conformal band learnt from the same older part.
"""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.calibration import calibrate, member_bands, mix, pinball, weighted_quantiles
from forecasting.grid import Bools, Floats, Grid
from forecasting.replay import Replay
from forecasting.scales import Scales

JUDGED_QUANTILE = 0.9
JUDGED_SECONDS = 1800.0
_LEARNING_SHARE = 0.6
_LEAST_TARGETS = 48


class Verdict(msgspec.Struct, frozen=True):
    """Realised coverage and skill per series; NaN where there were too few targets."""

    coverage: Floats
    skill: Floats


def judged_target(grid: Grid) -> int:
    """The horizon nearest to half an hour."""
    ahead = np.array(grid.horizon_steps) * grid.bin_seconds
    return int(np.argmin(np.abs(ahead - JUDGED_SECONDS)))


def judged_quantile(grid: Grid) -> int:
    """The quantile nearest to P90."""
    return int(np.argmin(np.abs(np.array(grid.quantiles) - JUDGED_QUANTILE)))


def judge(past: Replay, grid: Grid) -> Verdict:
    """Coverage and skill of the judged target and quantile on the newer part of the replay."""
    target, index = judged_target(grid), judged_quantile(grid)
    tau = grid.quantiles[index]
    count = past.age.size
    cut = int(count * _LEARNING_SHARE)
    older = past.age >= past.age[min(cut, count - 1)] + past.steps[target]
    if not older.any():
        unknown = np.full(past.seen.shape[0], np.nan)
        return Verdict(unknown, unknown)
    learnt = calibrate(_part(past, target, older), grid)
    newer = _part(past, target, np.arange(count) >= cut)
    bands = member_bands(newer.said, newer.scales, learnt.offset, learnt.trust, newer.steps, grid)[
        ..., index
    ]
    unit = newer.scales.unit[:, 0]
    said = mix(bands, learnt.weight[..., None, index])[:, 0] + learnt.shift[:, :, index] * unit
    seen = newer.seen[:, 0]
    naive = newer.naive[:, 0] + _naive_offset(past, target, older, tau)
    return _verdict(seen, said, naive, tau)


def _part(past: Replay, target: int, origins: Bools) -> Replay:
    """One target at some origins."""
    pick = slice(target, target + 1)
    return Replay(
        past.steps[pick],
        past.said[:, :, pick][..., origins],
        past.seen[:, pick][..., origins],
        past.naive[:, pick][..., origins],
        Scales(past.scales.unit[:, pick][..., origins], past.scales.level[:, origins]),
        past.age[origins],
    )


def _naive_offset(past: Replay, target: int, older: Bools, tau: float) -> Floats:
    error = (past.seen[:, target] - past.naive[:, target])[:, older]
    return weighted_quantiles(error, np.ones(error.shape[-1]), (tau,))


def _verdict(seen: Floats, said: Floats, naive: Floats, tau: float) -> Verdict:
    """Scores in rates; arguments are roots [series, origin]."""
    scored = np.isfinite(seen) & np.isfinite(said)
    covered = (scored & (seen <= said)).sum(axis=1)
    coverage = _mean(covered, scored.sum(axis=1))
    both = scored & np.isfinite(naive)
    own = _loss(seen, said, tau, both)
    theirs = _loss(seen, naive, tau, both)
    enough = (both.sum(axis=1) >= _LEAST_TARGETS) & (theirs > 0)
    ratio = np.divide(own, theirs, out=np.full_like(own, np.nan), where=enough)
    return Verdict(coverage, 1 - ratio)


def _mean(total: Floats, count: Floats) -> Floats:
    out = np.full(count.shape, np.nan)
    mean: Floats = np.divide(total, count, out=out, where=count >= _LEAST_TARGETS)
    return mean


def _loss(seen: Floats, said: Floats, tau: float, where: Bools) -> Floats:
    loss = pinball(seen**2, np.maximum(said, 0) ** 2, tau)
    total: Floats = np.where(where, loss, 0.0).sum(axis=1)
    return total
