"""Demand without a file: the built-in tides, for the demo and for a first try.

intensity = profile of the week x exp(Ornstein-Uhlenbeck noise), the generator with which the
forecaster's distance to the truth was measured (there sd 0.25 and correlation 3 h). Its level is
arbitrary, as the simulation scales all demand to a share of the cluster. Day 0 is a Monday, and a
trace starts at midnight.
"""

import math
from itertools import accumulate
from zlib import crc32

import msgspec
import numpy as np

from scheduler.simulation.demandfile import Floats, Trace

DAY_SECONDS = 86400.0
WEEK_DAYS = 7
SATURDAY = 5
NOISE_CORRELATION_SECONDS = 10800.0
"""As in the forecaster's study."""


class Tide(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of one kind of demand."""

    trough: float
    """Lowest intensity of a day; the highest is 1."""
    peak_hour: float
    width_hours: float
    """Standard deviation of the day's bump; large: smooth."""
    weekend: float
    """Factor on Saturday and Sunday."""
    noise_sd: float
    requests_per_second: float
    prompt_tokens: float
    generated_tokens: float
    iat_cv: float


# Lengths: the conversation, code and reasoning mixes of published engine comparisons. Shapes and
# levels: invented after the recordings of ServeGen (consumer tides, CV of gaps 1.6 to 3.2) and
# Azure (office hours); less noise than the study's 0.25, which is one client's, not a service's.
_TIDES = {
    "chat": Tide(
        trough=0.25,
        peak_hour=20.0,
        width_hours=5.0,
        weekend=1.1,
        noise_sd=0.12,
        requests_per_second=40.0,
        prompt_tokens=1200.0,
        generated_tokens=200.0,
        iat_cv=1.5,
    ),
    "code": Tide(
        trough=0.08,
        peak_hour=14.0,
        width_hours=3.0,
        weekend=0.2,
        noise_sd=0.15,
        requests_per_second=60.0,
        prompt_tokens=2000.0,
        generated_tokens=30.0,
        iat_cv=2.0,
    ),
    "reason": Tide(
        trough=0.45,
        peak_hour=17.0,
        width_hours=6.0,
        weekend=0.85,
        noise_sd=0.08,
        requests_per_second=6.0,
        prompt_tokens=800.0,
        generated_tokens=2000.0,
        iat_cv=1.2,
    ),
}
_GENERIC = Tide(
    trough=0.3,
    peak_hour=15.0,
    width_hours=5.0,
    weekend=0.7,
    noise_sd=0.15,
    requests_per_second=20.0,
    prompt_tokens=1000.0,
    generated_tokens=250.0,
    iat_cv=1.5,
)


def tide_of(model: str) -> Tide:
    """Return the built-in shape of a model's demand."""
    return _TIDES.get(model, _GENERIC)


def generate(
    model: str, days: float, seed: int, bin_seconds: float = 600.0, tide: Tide | None = None
) -> Trace:
    """Return a made-up trace; the same arguments give the same bytes. `tide`: not the built-in."""
    tide = tide_of(model) if tide is None else tide
    rng = np.random.default_rng([seed, crc32(model.encode())])
    bins = max(2, math.ceil(days * DAY_SECONDS / bin_seconds))
    seconds = (np.arange(bins, dtype=np.float64) + 0.5) * bin_seconds
    noise = _ornstein_uhlenbeck(rng, bins, bin_seconds, tide.noise_sd)
    mean = tide.requests_per_second * bin_seconds * _profile(tide, seconds) * np.exp(noise)
    requests = rng.poisson(mean).astype(np.float64)
    return Trace(
        start_seconds=0.0,
        bin_seconds=bin_seconds,
        requests=requests,
        prompt_tokens=requests * tide.prompt_tokens * _drift(rng, bins, bin_seconds),
        generated_tokens=requests * tide.generated_tokens * _drift(rng, bins, bin_seconds),
        valid=np.ones(bins, dtype=np.bool_),
        iat_cv=np.full(bins, tide.iat_cv),
    )


def _profile(tide: Tide, seconds: Floats) -> Floats:
    """Return the mean intensity at each time, 1 at a weekday's peak."""
    hours = seconds / 3600 % 24
    from_peak = np.abs(hours - tide.peak_hour)
    bump = np.exp(-0.5 * (np.minimum(from_peak, 24 - from_peak) / tide.width_hours) ** 2)
    days = seconds // DAY_SECONDS % WEEK_DAYS
    return np.asarray(
        (tide.trough + (1 - tide.trough) * bump) * np.where(days >= SATURDAY, tide.weekend, 1.0)
    )


def _drift(rng: np.random.Generator, bins: int, bin_seconds: float) -> Floats:
    """Return a slow wander of mean lengths of 5 % (invented)."""
    return np.asarray(np.exp(_ornstein_uhlenbeck(rng, bins, bin_seconds, 0.05)))


def _ornstein_uhlenbeck(
    rng: np.random.Generator, bins: int, bin_seconds: float, sd: float
) -> Floats:
    return autoregressive(rng, bins, sd, bin_seconds / NOISE_CORRELATION_SECONDS)


def autoregressive(rng: np.random.Generator, steps: int, sd: float, decay: float) -> Floats:
    """Return stationary Gaussian noise whose correlation falls by exp(-decay) per step."""
    keep = math.exp(-decay)
    shocks = rng.normal(0.0, sd, steps)
    shocks[1:] *= math.sqrt(1 - keep * keep)
    return np.fromiter(
        accumulate(shocks.tolist(), lambda last, shock: keep * last + shock), np.float64, steps
    )
