"""Errors of the past become bands, bands become a mixture.

Two steps, each for every (series, target, quantile) on its own:
1. split-conformal bands per voice: weighted quantiles of its replayed errors;
2. weights from the pinball loss of those bands, so that a season has to earn its weight.
"Voices" are the members that vote and the stack. `feedback` corrects single series online.
"""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.grid import Bools, Floats, Grid, Ints
from forecasting.replay import Replay
from forecasting.scales import Scales, assumed_band, near

# Memory and sharpness of near targets (up to an hour) and of far ones.
_ERROR_HALF_LIFE_DAYS = (2.0, 1e6)
_LOSS_HALF_LIFE_DAYS = (3.0, 7.0)
_LOSS_SHARPNESS = (12.0, 4.0)
# Losses start as if all voices had been equally good for this long.
_PRIOR_LOSS_DAYS = 1.0
# Independent errors that outweigh the assumed band: spans as long as the target is ahead.
_PRIOR_ERRORS = 1.0
# Errors older than this teach nothing.
_WINDOW_DAYS = 7.0


class Calibration(msgspec.Struct, frozen=True):
    """Everything learnt from a replay, first axis the series.

    `offset` [series, voice, target, quantile] in units; `trust` [series, voice, target] the
    share of the learnt band against the assumed one; `weight` [series, voice, target,
    quantile], sums to 1 over voices.
    """

    offset: Floats
    trust: Floats
    weight: Floats


def calibrate(past: Replay, grid: Grid) -> Calibration:
    """Learn bands and weights from replayed forecasts."""
    error = (past.seen[:, None] - past.said) / past.scales.unit[:, None]
    recency = _recency(past, grid, _ERROR_HALF_LIFE_DAYS)
    offset = weighted_quantiles(error, recency, grid.quantiles)
    independent = _independent(np.isfinite(error), past.steps, grid)
    trust = independent / (independent + _PRIOR_ERRORS)
    offset = np.where(trust[..., None] > 0, offset, 0.0)
    bands = voice_bands(past.said, past.scales, offset, trust, past.steps, grid)
    return Calibration(offset, trust, _weights(bands, past, trust, grid))


def voice_bands(
    said: Floats, scales: Scales, offset: Floats, trust: Floats, steps: Ints, grid: Grid
) -> Floats:
    """Quantiles of each voice in roots [series, voice, target, origin, quantile].

    `steps` [target] or [series, target]. The assumed band fills in where trust is missing.
    """
    learnt = offset[:, :, :, None, :] * scales.unit[:, None, :, :, None]
    band = np.broadcast_to(assumed_band(steps, grid), (said.shape[0], *offset.shape[2:]))
    assumed = band[:, None, :, None, :] * scales.level[:, None, None, :, None]
    share = trust[:, :, :, None, None]
    return said[..., None] + share * learnt + (1 - share) * assumed


def mix(band: Floats, weight: Floats) -> Floats:
    """Weighted mean over voices (axis 1) that have a forecast; NaN if none has."""
    there = np.isfinite(band)
    share = np.where(there, weight, 0.0)
    total = share.sum(axis=1)
    mixed = (share * np.where(there, band, 0.0)).sum(axis=1)
    unknown = np.full_like(mixed, np.nan)
    mean: Floats = np.divide(mixed, total, out=unknown, where=total > 0)
    return mean


def weighted_quantiles(
    values: Floats, weight: Floats, quantiles: tuple[float, ...] | Floats
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
    return np.take_along_axis(ordered, np.minimum(index, values.shape[-1] - 1), -1)


def pinball(seen: Floats, quantile: Floats, tau: float) -> Floats:
    """Quantile loss in the units of its arguments (Koenker & Bassett 1978)."""
    miss = seen - quantile
    return np.maximum(tau * miss, (tau - 1) * miss)


def _recency(past: Replay, grid: Grid, half_life_days: tuple[float, float]) -> Floats:
    """Weight of each origin per target [target, origin]."""
    half_life = np.where(near(past.steps, grid), *half_life_days) * grid.day
    recency: Floats = 0.5 ** (past.age / half_life[:, None])
    return np.where(past.age <= _WINDOW_DAYS * grid.day + past.steps[:, None], recency, 0.0)


def _independent(known: Bools, steps: Ints, grid: Grid) -> Floats:
    """How many errors `known` [..., target, origin] is worth: overlapping spans count once."""
    apart = grid.origin_step
    count: Floats = known.sum(axis=-1) * apart / np.maximum(steps, apart)
    return count


def _weights(bands: Floats, past: Replay, trust: Floats, grid: Grid) -> Floats:
    """exp(-sharpness x excess loss) per (series, target, quantile), summing to 1 over voices.

    A voice's loss is compared with the first one's on the same targets. Voices without any error
    of their own get no weight, unless none has one: then the first takes all.
    """
    recency = _recency(past, grid, _LOSS_HALF_LIFE_DAYS)
    sharpness = np.where(near(past.steps, grid), *_LOSS_SHARPNESS)
    seen = past.seen[:, None] ** 2
    prior = _PRIOR_LOSS_DAYS * grid.day / grid.origin_step
    out = np.zeros((*bands.shape[:3], len(grid.quantiles)))
    for index, tau in enumerate(grid.quantiles):
        loss = pinball(seen, np.maximum(bands[..., index], 0.0) ** 2, tau)
        both = np.isfinite(loss) & np.isfinite(loss[:, :1])
        share = np.where(both, recency, 0.0)
        own = (share * np.where(both, loss, 0.0)).sum(-1)
        first = (share * np.where(both, loss[:, :1], 0.0)).sum(-1)
        typical = first / np.maximum(share.sum(-1), 1e-12) * prior
        ratio = (own + typical) / np.maximum(first + typical, 1e-12)
        ratio = np.where(trust > 0, ratio, np.inf)
        out[..., index] = _softmin(ratio, sharpness)
    return out


def _softmin(ratio: Floats, sharpness: Floats) -> Floats:
    best = ratio.min(axis=1, keepdims=True)
    usable = np.isfinite(ratio)
    usable[:, 0] |= ~usable.any(axis=1)
    excess = np.where(np.isfinite(ratio), ratio, 0) / np.where(best > 0, best, 1) - 1
    excess = np.where(np.isfinite(best), excess, 0.0)
    raw = np.where(usable, np.exp(-sharpness * excess), 0.0)
    weight: Floats = raw / raw.sum(axis=1, keepdims=True)
    return weight
