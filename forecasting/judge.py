"""How good the forecast has been lately, on targets it had not learnt from.

The replay is cut in time: the older part calibrates, the newer part is scored. The yardsticks
are yesterday's value and the last value, each with a conformal band learnt from the same older
part.
"""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.calibration import calibrate, mix, pinball, voice_bands, weighted_quantiles
from forecasting.grid import Bools, Floats, Grid, Ints, Singles
from forecasting.replay import Replay
from forecasting.scales import Scales

JUDGED_QUANTILE = 0.9
JUDGED_SECONDS = 1800.0
_RECORDED_SECONDS = (1800.0, 3600.0, 6 * 3600.0, 24 * 3600.0)
_LEARNING_SHARE = 0.6
_LEAST_TARGETS = 48


class Verdict(msgspec.Struct, frozen=True):
    """Per series and recorded horizon [series, horizon]; NaN where there were too few targets.

    `coverage` of the judged quantile; `skill` and `skill_last` against yesterday's and the last
    value: 1 - pinball loss / pinball loss of the yardstick.
    """

    coverage: Singles
    skill: Singles
    skill_last: Singles


def judged_target(grid: Grid) -> int:
    """The horizon nearest to half an hour."""
    return _nearest(grid, JUDGED_SECONDS)


def judged_quantile(grid: Grid) -> int:
    """The quantile nearest to P90."""
    return int(np.argmin(np.abs(np.array(grid.quantiles) - JUDGED_QUANTILE)))


def recorded_targets(grid: Grid) -> Ints:
    """The horizons a record is kept of: nearest to 30 minutes, 1, 6 and 24 hours."""
    return np.array(sorted({_nearest(grid, seconds) for seconds in _RECORDED_SECONDS}))


def _nearest(grid: Grid, seconds: float) -> int:
    ahead = np.array(grid.horizon_steps) * grid.bin_seconds
    return int(np.argmin(np.abs(ahead - seconds)))


def judge(past: Replay, grid: Grid) -> Verdict:
    """Score the judged quantile of the recorded horizons on the newer part of the replay."""
    tau = grid.quantiles[judged_quantile(grid)]
    lone = msgspec.structs.replace(grid, quantiles=(tau,))
    columns = [_judged(past, lone, target) for target in recorded_targets(grid).tolist()]
    scores = [np.stack(column, axis=1) for column in zip(*columns, strict=True)]
    return Verdict(*(score.astype(np.float32) for score in scores))


def _judged(past: Replay, grid: Grid, target: int) -> tuple[Floats, Floats, Floats]:
    """Coverage and both skills of one target [series]."""
    count = past.age.size
    cut = int(count * _LEARNING_SHARE)
    older = past.age >= past.age[min(cut, count - 1)] + past.steps[target]
    unknown = np.full(past.seen.shape[0], np.nan)
    if not older.any():
        return unknown, unknown, unknown
    learnt = calibrate(_part(past, target, older), grid)
    newer = _part(past, target, np.arange(count) >= cut)
    bands = voice_bands(newer.said, newer.scales, learnt, newer.steps, grid)
    said = mix(bands, learnt.weight[:, :, :, None])[:, 0, :, 0]
    (tau,) = grid.quantiles
    naive = newer.naive[:, 0] + _offset(past.seen, past.naive, target, older, tau)
    last = newer.said[:, 0, 0] + _offset(past.seen, past.said[:, 0], target, older, tau)
    seen = newer.seen[:, 0]
    return _coverage(seen, said), _skill(seen, said, naive, tau), _skill(seen, said, last, tau)


def _part(past: Replay, target: int, origins: Bools) -> Replay:
    """One target at some origins."""
    pick = slice(target, target + 1)
    scales = past.scales
    return Replay(
        past.steps[pick],
        past.said[:, :, pick][..., origins],
        past.seen[:, pick][..., origins],
        past.naive[:, pick][..., origins],
        Scales(
            scales.restless[:, pick][..., origins],
            scales.level[:, origins],
            scales.spread[:, origins],
        ),
        past.age[origins] - past.age[origins].min(),
    )


def _offset(seen: Floats, said: Floats, target: int, older: Bools, tau: float) -> Floats:
    error = (seen[:, target] - said[:, target])[:, older]
    return weighted_quantiles(error, np.ones(error.shape[-1]), (tau,))


def _coverage(seen: Floats, said: Floats) -> Floats:
    scored = np.isfinite(seen) & np.isfinite(said)
    count = scored.sum(axis=1)
    covered = (scored & (seen <= said)).sum(axis=1)
    out = np.full(count.shape, np.nan)
    share: Floats = np.divide(covered, count, out=out, where=count >= _LEAST_TARGETS)
    return share


def _skill(seen: Floats, said: Floats, yardstick: Floats, tau: float) -> Floats:
    """Skill in rates; arguments are roots [series, origin]."""
    both = np.isfinite(seen) & np.isfinite(said) & np.isfinite(yardstick)
    own = _loss(seen, said, tau, both)
    theirs = _loss(seen, yardstick, tau, both)
    enough = (both.sum(axis=1) >= _LEAST_TARGETS) & (theirs > 0)
    ratio = np.divide(own, theirs, out=np.full_like(own, np.nan), where=enough)
    return 1 - ratio


def _loss(seen: Floats, said: Floats, tau: float, where: Bools) -> Floats:
    loss = pinball(seen**2, np.maximum(said, 0) ** 2, tau)
    total: Floats = np.where(where, loss, 0.0).sum(axis=1)
    return total
