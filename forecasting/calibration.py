"""Errors of the past become bands, bands become a mixture.

Two steps, each for every (series, target, quantile) on its own:
1. split-conformal bands per voice: weighted quantiles of its replayed errors;
2. weights from the pinball loss of those bands, so that a season has to earn its weight.
"Voices" are the members that vote and the stack. `feedback` corrects single series online.
"""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.grid import Floats, Grid, Ints, Reals, Singles
from forecasting.replay import Replay
from forecasting.scales import Scales, assumed_band, near

# Memory and sharpness of near targets (up to an hour) and of far ones.
_ERROR_HALF_LIFE_DAYS = (2.0, 1e6)
_LOSS_HALF_LIFE_DAYS = (1.5, 7.0)
_LOSS_SHARPNESS = (12.0, 4.0)
# Losses start as if all voices had been equally good for this long.
_PRIOR_LOSS_DAYS = 1.0
# As many independent errors as this, and the assumed band counts half; it fades with the square.
# Errors are independent that lie as far apart as the target is ahead.
_PRIOR_ERRORS = 1.0
# Errors older than this teach nothing.
_WINDOW_DAYS = 7.0


class Calibration(msgspec.Struct, frozen=True):
    """Everything learnt from a replay, first axis the series.

    `offset` [series, voice, target, quantile] in units; `trust` [series, voice, target] the
    share of the learnt band against the assumed one; `weight` [series, voice, target,
    quantile], sums to 1 over voices.
    """

    offset: Singles
    trust: Singles
    weight: Singles


def calibrate(past: Replay, grid: Grid) -> Calibration:
    """Learn bands and weights from replayed forecasts, target by target."""
    parts = [_learnt(past, grid, target) for target in range(past.steps.size)]
    offset, trust, weight = (np.stack(part, axis=2) for part in zip(*parts, strict=True))
    return Calibration(offset, trust, weight)


def _learnt(past: Replay, grid: Grid, target: int) -> tuple[Singles, Singles, Singles]:
    """Offset, trust and weight of one target, in single precision: half the memory to go through.

    Origins of which nothing can be learnt are left out.
    """
    recent = past.age <= _WINDOW_DAYS * grid.day + past.steps[target]
    over = past.age >= past.steps[target]
    used = recent & (over if over.any() else ~over)
    said = past.said[:, :, target, used].astype(np.float32)
    seen = past.seen[:, None, target, used].astype(np.float32)
    unit = past.scales.unit[:, None, target, used].astype(np.float32)
    steps, age = past.steps[target], past.age[used]
    is_near = bool(near(past.steps[target : target + 1], grid)[0])
    error = (seen - said) / unit
    known = np.isfinite(error)
    offset = weighted_quantiles(
        error, _recency(age, _ERROR_HALF_LIFE_DAYS[not is_near], grid), grid.quantiles
    )
    independent = known.sum(axis=-1) * grid.origin_step / max(steps, grid.origin_step)
    trust: Singles = (independent**2 / (independent**2 + _PRIOR_ERRORS**2)).astype(np.float32)
    offset = np.where(trust[..., None] > 0, offset, 0.0)
    level = past.scales.level[:, None, used].astype(np.float32)
    assumed = assumed_band(past.steps[target : target + 1], grid)[0].astype(np.float32)
    recency = _recency(age, _LOSS_HALF_LIFE_DAYS[not is_near], grid)
    prior = _PRIOR_LOSS_DAYS * grid.day / grid.origin_step
    weight = np.zeros(offset.shape, np.float32)
    for index, tau in enumerate(grid.quantiles):
        band = said + (trust * offset[..., index])[..., None] * unit
        band += ((1 - trust) * assumed[index])[..., None] * level
        loss = pinball(seen**2, np.maximum(band, 0.0) ** 2, tau)
        ratio, heard = _excess(loss, recency, prior)
        ratio = np.where(trust > 0, ratio, np.inf)
        weight[..., index] = _softmin(ratio, heard, _LOSS_SHARPNESS[not is_near])
    return offset.astype(np.float32), trust, weight


def voice_bands(
    said: Floats,
    scales: Scales,
    offset: Reals,
    trust: Reals,
    steps: Ints,
    grid: Grid,
) -> Floats:
    """Quantiles of each voice in roots [series, voice, target, origin, quantile].

    `steps` [target] or [series, target]. The assumed band fills in where trust is missing.
    """
    learnt = offset[:, :, :, None, :] * scales.unit[:, None, :, :, None]
    band = np.broadcast_to(assumed_band(steps, grid), (said.shape[0], *offset.shape[2:]))
    assumed = band[:, None, :, None, :] * scales.level[:, None, None, :, None]
    share = trust[:, :, :, None, None]
    return said[..., None] + share * learnt + (1 - share) * assumed


def mix(band: Floats, weight: Reals) -> Floats:
    """Weighted mean over voices (axis 1) that have a forecast; NaN if none has."""
    there = np.isfinite(band)
    share = np.where(there, weight, 0.0)
    total = share.sum(axis=1)
    mixed = (share * np.where(there, band, 0.0)).sum(axis=1)
    unknown = np.full_like(mixed, np.nan)
    mean: Floats = np.divide(mixed, total, out=unknown, where=total > 0)
    return mean


def weighted_quantiles(
    values: Reals, weight: Reals, quantiles: tuple[float, ...] | Floats
) -> Floats:
    """Smallest value with at least the quantile's share of weight at or below it.

    `values` [..., n] with NaN left out, `weight` and `quantiles` [..., quantile] broadcast to
    them; the result is [..., quantile], NaN where there is no value.
    """
    weight = np.where(np.isfinite(values), weight, 0.0)
    order = np.argsort(values, axis=-1)
    ordered = np.take_along_axis(values, order, -1)
    mass = np.cumsum(np.take_along_axis(weight, order, -1), axis=-1)
    goal = mass[..., -1:] * np.array(quantiles)
    index = (mass[..., None, :] < goal[..., None]).sum(axis=-1)
    found = np.take_along_axis(ordered, np.minimum(index, values.shape[-1] - 1), -1)
    return found.astype(np.float64)


def pinball(seen: Reals, quantile: Reals, tau: float) -> Reals:
    """Quantile loss in the units of its arguments (Koenker & Bassett 1978)."""
    miss = seen - quantile
    loss: Reals = np.maximum(tau * miss, (tau - 1) * miss)
    return loss


def _recency(age: Ints, half_life_days: float, grid: Grid) -> Singles:
    """Weight of each origin."""
    weight: Singles = (0.5 ** (age / (half_life_days * grid.day))).astype(np.float32)
    return weight


def _excess(loss: Reals, recency: Singles, prior: float) -> tuple[Floats, Floats]:
    """Loss of each voice against the first one's on the same targets [series, voice].

    `loss` [series, voice, origin], NaN where unknown. As many targets as `prior` count as equal.
    Also the share of the first one's targets for which the voice had something to say.
    """
    both = np.isfinite(loss) & np.isfinite(loss[:, :1])
    own = np.where(both, loss, 0.0) @ recency
    first = np.where(both, loss[:, :1], 0.0) @ recency
    typical = first / np.maximum(both @ recency, 1e-12) * prior
    ratio: Floats = (own + typical) / np.maximum(first + typical, 1e-12)
    heard: Floats = both @ recency / np.maximum(np.isfinite(loss[:, :1]) @ recency, 1e-12)
    return ratio, heard


def _softmin(ratio: Floats, heard: Floats, sharpness: float) -> Floats:
    """Share heard x exp(-sharpness x excess ratio), summing to 1 over voices (axis 1).

    Voices without any error of their own (infinite) get no weight, unless none has one: then the
    first takes all.
    """
    best = ratio.min(axis=1, keepdims=True)
    usable = np.isfinite(ratio)
    usable[:, 0] |= ~usable.any(axis=1)
    excess = np.where(np.isfinite(ratio), ratio, 0) / np.where(best > 0, best, 1) - 1
    excess = np.where(np.isfinite(best), excess, 0.0)
    raw = np.where(usable, np.maximum(heard, 1e-6) * np.exp(-sharpness * excess), 0.0)
    weight: Floats = raw / raw.sum(axis=1, keepdims=True)
    return weight
