"""Errors of the past become bands, bands become a mixture.

Steps, each for every (series, target, quantile) on its own:
0. how far errors follow the present restlessness, which is chance where nothing changes, and
   whether they grow with what is said, as where demand varies by a share of itself;
1. split-conformal bands per voice: weighted quantiles of its replayed errors; the widths of far
   ones lean on the usual one (`widths`);
2. weights from the pinball loss of those bands, so that a season has to earn its weight.
"Voices" are the members that vote and the stack. Some have two bands up to an hour ahead: bursts
need bands in proportion to the present restlessness, other hours do better with its root.
`feedback` corrects single series online.
"""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.grid import Bools, Floats, Grid, Ints, Reals, Singles
from forecasting.replay import Replay
from forecasting.scales import MEDIAN, Scales, assumed_band, near
from forecasting.widths import steadied

# Memory of near targets (up to an hour) and of far ones; the sharpness serves both.
_ERROR_HALF_LIFE_DAYS = (3.0, 7.0)
_LOSS_HALF_LIFE_DAYS = (2.0, 14.0)
_LOSS_SHARPNESS = 15.0
# The stack has heard all members: it counts as so many voices.
_STACK_VOICES = 4.0
# Losses start as if all voices had been equally good for this long.
_PRIOR_LOSS_DAYS = 1.0
# As many independent errors as this, and the assumed band counts half; it fades with the square.
# Errors are independent that lie as far apart as the target is ahead.
_PRIOR_ERRORS = 1.0
# Far bands are usually so wide against the assumed one, which has to hold for all that is young:
# the geometric mean over clients and models of public LLM traces.
_USUAL_SHARE = 0.5
# The power by which errors may grow with the root that is said, over the level within bounds.
_GROWTH = 0.5
_LEAST_AND_MOST_RATIO = (0.1, 4.0)
# Second bands weigh as if they lost so much more: they are the bolder guess.
_SECOND_GUESS = 1.05
# Variance of the logarithm of a restlessness where nothing changes: of means over few errors.
_CHANCE = 0.04
# Units follow the restlessness in full where it varies that many times as much.
_PLAIN = 3.5
# As if so many days of a plain restlessness had been seen.
_PRIOR_VARIANCE_DAYS = 0.25
# Errors older than this teach nothing: of a far target one day tells little.
_WINDOW_DAYS = (7.0, 14.0)


class Calibration(msgspec.Struct, frozen=True):
    """Everything learnt from a replay, first axis the series.

    `offset` [series, band, target, quantile] in units; `trust` [series, band, target] the
    share of the learnt band against the assumed one; `weight` [series, band, target,
    quantile], sums to 1 over bands; the second bands of `_twice` come first, then one of each
    voice; `growth` [series, target] the power by which units grow with what is said, `heed`
    [series, target] the one by which those of second bands grow with the restlessness; half of it
    serves the others.
    """

    offset: Singles
    trust: Singles
    weight: Singles
    growth: Singles
    heed: Singles


def calibrate(past: Replay, grid: Grid) -> Calibration:
    """Learn bands and weights from replayed forecasts, target by target."""
    parts = [_learnt(_of_target(past, grid, one), grid) for one in range(past.steps.size)]
    offset, trust, weight = (np.stack([part[n] for part in parts], axis=2) for n in range(3))
    growth, heed = (np.stack([part[n] for part in parts], axis=1) for n in (3, 4))
    return Calibration(offset, trust, weight, growth, heed)


class _Target(msgspec.Struct, frozen=True):
    """What a replay holds of one target, in single precision: half the memory to go through.

    `said`, `unit` [series, band, origin], the `again` second ones first; `seen`, `level`
    [series, 1, origin]; `age` [origin]; `assumed` [quantile]. Origins of which nothing can be
    learnt are left out.
    """

    steps: int
    near: bool
    again: int
    said: Singles
    seen: Singles
    unit: Singles
    heed: Singles
    level: Singles
    age: Ints
    assumed: Singles

    def units(self, growth: Reals) -> Singles:
        """What errors are measured in [series, band, origin]."""
        units: Singles = (self.unit * lift(self.said, self.level, growth[:, None, None])).astype(
            np.float32
        )
        return units


def _of_target(past: Replay, grid: Grid, target: int) -> _Target:
    steps = past.steps[target : target + 1]
    is_near = bool(near(steps, grid)[0])
    recent = past.age <= _WINDOW_DAYS[not is_near] * grid.day + steps
    over = past.age >= steps
    used = recent & (over if over.any() else ~over)
    restless = past.scales.restless[:, None, target, used].astype(np.float32)
    seen = past.seen[:, None, target, used].astype(np.float32)
    known = np.isfinite(seen - past.said[:, -1:, target, used])
    heed = _heed(restless[:, 0], known[:, 0], grid)
    said, unit = _banded(past.said[:, :, target][..., used], restless, heed[:, None, None])
    return _Target(
        int(steps[0]),
        is_near,
        len(_twice(past.said.shape[1])),
        said.astype(np.float32),
        seen,
        unit.astype(np.float32),
        heed,
        past.scales.level[:, None, used].astype(np.float32),
        past.age[used],
        assumed_band(steps, grid)[0].astype(np.float32),
    )


def _learnt(one: _Target, grid: Grid) -> tuple[Singles, ...]:
    """Offset, trust, weight, growth and heed of one target."""
    growth = _growth(one, grid)
    units = one.units(growth)
    known = np.isfinite(one.seen - one.said)
    independent = known.sum(axis=-1) * grid.origin_step / max(one.steps, grid.origin_step)
    offset = _offsets(one, units, grid) if one.near else _steadied(one, units, independent, grid)
    trust: Singles = (independent**2 / (independent**2 + _PRIOR_ERRORS**2)).astype(np.float32)
    offset = np.where(trust[..., None] > 0, offset, np.float32(0.0))
    recency = _recency(one.age, _LOSS_HALF_LIFE_DAYS[not one.near], grid)
    prior = _PRIOR_LOSS_DAYS * grid.day / grid.origin_step
    weight = np.zeros(offset.shape, np.float32)
    for index, tau in enumerate(grid.quantiles):
        band = one.said + (trust * offset[..., index])[..., None] * units
        band += ((1 - trust) * one.assumed[index])[..., None] * one.level
        loss = pinball(one.seen**2, np.maximum(band, 0.0) ** 2, tau)
        ratio, heard = _excess(loss, recency, prior)
        ratio = np.where(trust > 0, ratio, np.inf)
        # further ahead both bands of a voice are the same
        ratio[:, : one.again] = ratio[:, : one.again] * _SECOND_GUESS if one.near else np.inf
        weight[..., index] = _softmin(ratio, heard, _LOSS_SHARPNESS)
    return offset, trust, weight, growth, one.heed


def _offsets(one: _Target, units: Singles, grid: Grid, *more: float) -> Singles:
    """Conformal offsets [series, voice, quantile] in units, of the grid's quantiles and `more`."""
    recency = _recency(one.age, _ERROR_HALF_LIFE_DAYS[not one.near], grid)
    offset = weighted_quantiles((one.seen - one.said) / units, recency, (*grid.quantiles, *more))
    return offset.astype(np.float32)


def _steadied(one: _Target, units: Singles, independent: Floats, grid: Grid) -> Singles:
    """Offsets [series, band, quantile] whose widths lean on the usual share of the level."""
    both = _offsets(one, units, grid, MEDIAN)
    known = np.isfinite(one.seen - one.said)
    recency = _recency(one.age, _ERROR_HALF_LIFE_DAYS[1], grid)
    level = np.where(known, one.level / units, np.float32(0.0)) @ recency
    level /= np.maximum(known.astype(np.float32) @ recency, 1e-12)
    usual = _USUAL_SHARE * level[..., None] * one.assumed
    return steadied(both[..., :-1], both[..., -1:], usual, independent).astype(np.float32)


def _heed(restless: Singles, known: Bools, grid: Grid) -> Singles:
    """The power of the restlessness in units [series], at most 1.

    It grows with the share of the logarithm's variance that is no chance, for what is measured with
    errors explains so much less (attenuation, Spearman 1904). 0 for far targets, which have none.
    `restless`, `known` [series, origin].
    """
    count = known.sum(axis=1)
    size = np.where(known, np.log(restless), 0.0)
    usual = size.sum(axis=1) / np.maximum(count, 1)
    square = (np.where(known, size - usual[:, None], 0.0) ** 2).sum(axis=1)
    prior = _PRIOR_VARIANCE_DAYS * grid.day / grid.origin_step
    variance = (square + prior * _PLAIN * _CHANCE) / (count + prior)
    share = 1 - _CHANCE / np.maximum(variance, _CHANCE)
    heed: Singles = np.minimum(share / (1 - 1 / _PLAIN), 1.0).astype(np.float32)
    return heed


def _growth(one: _Target, grid: Grid) -> Singles:
    """The power [series]: above 0 where bands of the last voice, the stack, then lose less.

    Roots of counts have errors of one size at every level; where demand varies by a share of
    itself, errors grow with what is said.
    """
    stack = msgspec.structs.replace(one, said=one.said[:, -1:], unit=one.unit[:, -1:])
    none = np.zeros(one.seen.shape[0], np.float32)
    even, grown = (_band_loss(stack, none + power, grid) for power in (0.0, _GROWTH))
    return np.where(grown < even, np.float32(_GROWTH), none)


def _band_loss(stack: _Target, growth: Reals, grid: Grid) -> Floats:
    """Loss of one voice's bands over all quantiles [series]; recent ones count more."""
    units = stack.units(growth)
    offset = _offsets(stack, units, grid)
    recency = _recency(stack.age, _ERROR_HALF_LIFE_DAYS[not stack.near], grid)
    total = np.zeros(stack.seen.shape[0])
    for index, tau in enumerate(grid.quantiles):
        band = stack.said + offset[..., index, None] * units
        loss = pinball(stack.seen**2, np.maximum(band, 0.0) ** 2, tau)
        total += np.nan_to_num(loss[:, 0]) @ recency
    return total


def voice_bands(
    said: Floats, scales: Scales, learnt: Calibration, steps: Ints, grid: Grid
) -> Floats:
    """Quantiles of each band in roots [series, band, target, origin, quantile].

    `steps` [target] or [series, target]. The assumed band fills in where trust is missing.
    """
    level = scales.level[:, None, None, :]
    said, unit = _banded(said, scales.restless[:, None], learnt.heed[:, None, :, None])
    unit = unit * lift(said, level, learnt.growth[:, None, :, None])
    own = learnt.offset[:, :, :, None, :] * unit[..., None]
    band = np.broadcast_to(assumed_band(steps, grid), (said.shape[0], *learnt.offset.shape[2:]))
    assumed = band[:, None, :, None, :] * level[..., None]
    share = learnt.trust[:, :, :, None, None]
    return said[..., None] + share * own + (1 - share) * assumed


def _banded(said: Floats, restless: Reals, heed: Reals) -> tuple[Floats, Floats]:
    """What the voice of each band says, and the unit of its errors.

    `said` [series, voice, ...], `restless` and `heed` [series, 1, ...]; both come back as [series,
    band, ...].
    """
    again = said[:, _twice(said.shape[1])]
    whole = np.broadcast_to(restless**heed, again.shape)
    root = np.broadcast_to(restless ** (heed / 2), said.shape)
    return np.concatenate([again, said], axis=1), np.concatenate([whole, root], axis=1)


def _twice(voices: int) -> list[int]:
    """The voices with a second band: what holds the present, in front, and the stack, last."""
    return sorted({0, min(1, voices - 1), voices - 1})


def of_voices(weight: Reals, voices: int) -> Reals:
    """The weights of each voice's bands together: [series, band, ...] -> [series, voice, ...]."""
    again = _twice(voices)
    total = weight[:, len(again) :].copy()
    total[:, again] += weight[:, : len(again)]
    return total


def lift(said: Reals, level: Reals, growth: Reals) -> Reals:
    """How much larger errors are for what is said; arguments broadcast, NaN where not said."""
    ratio = np.divide(said, level, out=np.ones_like(said), where=level > 0)
    lifted: Reals = np.clip(ratio, *_LEAST_AND_MOST_RATIO) ** growth
    return lifted


def mix(band: Floats, weight: Reals) -> Floats:
    """Weighted mean over bands (axis 1) that have a forecast; NaN if none has."""
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
    known = np.isfinite(loss[:, :1])
    both = np.isfinite(loss) & known
    own = np.where(both, loss, 0.0) @ recency
    first = np.where(both, loss[:, :1], 0.0) @ recency
    # numpy has warned of an invalid value where truth values were multiplied as they are
    targets = both.astype(np.float32) @ recency
    typical = first / np.maximum(targets, 1e-12) * prior
    ratio: Floats = (own + typical) / np.maximum(first + typical, 1e-12)
    heard: Floats = targets / np.maximum(known.astype(np.float32) @ recency, 1e-12)
    return ratio, heard


def _softmin(ratio: Floats, heard: Floats, sharpness: float) -> Floats:
    """Share heard x exp(-sharpness x excess ratio), summing to 1 over voices (axis 1).

    The stack, last, counts as several. Voices without any error of their own (infinite) get no
    weight, unless none has one: then the first takes all.
    """
    best = ratio.min(axis=1, keepdims=True)
    usable = np.isfinite(ratio)
    usable[:, 0] |= ~usable.any(axis=1)
    excess = np.where(np.isfinite(ratio), ratio, 0) / np.where(best > 0, best, 1) - 1
    excess = np.where(np.isfinite(best), excess, 0.0)
    raw = np.where(usable, np.maximum(heard, 1e-6) * np.exp(-sharpness * excess), 0.0)
    raw[:, -1] *= _STACK_VOICES
    weight: Floats = raw / raw.sum(axis=1, keepdims=True)
    return weight
