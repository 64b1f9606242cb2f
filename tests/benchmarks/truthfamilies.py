"""Synthetic demand whose true conditional quantiles are known: four families at three scales.

Requests per second are scale x profile x level shifts x exp(x), with x an Ornstein-Uhlenbeck
process (standard deviation 0.25, correlation time 3 h) held over a bin. Requests are Poisson,
tokens per request gamma with mean 500 and standard deviation 650. The oracle knows the profile,
every shift to come and x at the origin, so its quantiles are those of the coming noise alone.
"""

from __future__ import annotations

from zlib import crc32

import msgspec
import numpy as np

from forecasting.backtest import Series
from forecasting.grid import Floats, Ints

BIN_SECONDS = 300.0
DAY = 288
FAMILIES = ("smooth", "office", "edge", "shift")
SHIFTS = ((17.0, 2.2), (22.5, 0.6))
"""Day of a level shift, of 28, and its factor; the seed moves the day by up to 12 h."""
OU_SD, OU_SECONDS = 0.25, 10800.0
TOKENS_MEAN, TOKENS_SD = 500.0, 650.0
_SHAPE = (TOKENS_MEAN / TOKENS_SD) ** 2
_KEPT = float(np.exp(-BIN_SECONDS / OU_SECONDS))
_WEEKEND = 0.35
_NIGHT = 0.15
_BATCH_HOURS = (2.0, 3.5)
_BATCH_LEVEL = 0.6


class Truth(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One series and what the oracle knows of it.

    `mean` [bin] requests per second at x = 0, `state` [bin] the x of each bin, `rate` [bin] tokens
    per second as drawn; `rises` the first bins of shifts upwards.
    """

    family: str
    seed: int
    scale: float
    mean: Floats
    state: Floats
    rate: Floats
    rises: tuple[int, ...]

    @property
    def series(self) -> Series:
        """The series as a backtest takes it."""
        return Series(
            group=self.family,
            name=f"{self.scale:g}-{self.seed}",
            field="tokens",
            bin_seconds=BIN_SECONDS,
            first_bin=0,
            rate=self.rate,
            valid=np.ones(self.rate.size, np.bool_),
        )


def generate(family: str, seed: int, scale: float, days: float) -> Truth:
    """Draw a series; its stream of chance depends on all four arguments but the days."""
    rng = np.random.default_rng([seed, crc32(family.encode()), round(scale * 1000)])
    bins = round(days * DAY)
    offset = int(rng.integers(7 * DAY)) if family == "smooth" else int(rng.integers(DAY))
    mean = scale * _profile(family, np.arange(bins) + offset)
    moved = [(round((day + rng.uniform(-0.5, 0.5)) * DAY), factor) for day, factor in SHIFTS]
    shifts = [(at, factor) for at, factor in moved if at < bins and family == "shift"]
    for at, factor in shifts:
        mean[at:] *= factor
    state = _walk(rng, bins)
    requests = rng.poisson(mean * np.exp(state) * BIN_SECONDS)
    return Truth(
        family=family,
        seed=seed,
        scale=scale,
        mean=mean,
        state=state,
        rate=_tokens(rng, requests) / BIN_SECONDS,
        rises=tuple(at for at, factor in shifts if factor > 1),
    )


def oracle(
    truth: Truth, columns: Ints, steps: Ints, quantiles: tuple[float, ...], samples: int
) -> Floats:
    """True quantiles [target, origin, quantile] of single bins ahead, by Monte Carlo."""
    rng = np.random.default_rng([truth.seed, crc32(truth.family.encode()), samples])
    out = np.empty((steps.size, columns.size, len(quantiles)))
    for target, ahead in enumerate(steps.tolist()):
        kept = _KEPT**ahead
        spread = OU_SD * np.sqrt(1 - kept**2)
        noise = rng.standard_normal((columns.size, samples)) * spread
        state = truth.state[columns, None] * kept + noise
        requests = rng.poisson(truth.mean[columns + ahead, None] * np.exp(state) * BIN_SECONDS)
        rate = _tokens(rng, requests) / BIN_SECONDS
        out[target] = np.quantile(rate, quantiles, axis=1).T
    return out


def _walk(rng: np.random.Generator, bins: int) -> Floats:
    noise = rng.standard_normal(bins) * OU_SD
    out = np.empty(bins)
    state = noise[0]
    for at, step in enumerate((noise * np.sqrt(1 - _KEPT**2)).tolist()):
        state = state * _KEPT + step
        out[at] = state
    return out


def _tokens(rng: np.random.Generator, requests: Ints) -> Floats:
    """Sum of that many gamma lengths, itself gamma."""
    tokens: Floats = rng.gamma(_SHAPE * requests, TOKENS_MEAN / _SHAPE)
    return tokens


def _profile(family: str, bins: Ints) -> Floats:
    """Relative level of each bin; bin 0 is midnight before a Monday."""
    hour = bins % DAY * BIN_SECONDS / 3600
    if family == "smooth":
        return 1 + 0.45 * np.sin(2 * np.pi * (hour - 9) / 24) + 0.1 * np.sin(4 * np.pi * hour / 24)
    rise, fall = 1 / (1 + np.exp(-2 * (hour - 8.5))), 1 / (1 + np.exp(-1.5 * (hour - 18)))
    quiet = np.where(bins // DAY % 7 >= 5, _WEEKEND, 1.0)
    level: Floats = _NIGHT + (rise - fall) * quiet
    if family == "edge":
        level = level + _BATCH_LEVEL * ((hour >= _BATCH_HOURS[0]) & (hour < _BATCH_HOURS[1]))
    return level
