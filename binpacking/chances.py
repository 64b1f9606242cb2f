"""The normal distribution on arrays, as numpy has none: how likely, and how much, need exceeds."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_ROOT_TWO_PI = float(np.sqrt(2 * np.pi))
_SERIES = (0.319381530, -0.356563782, 1.781477937, -1.821255978, 1.330274429)
"""Abramowitz and Stegun, Handbook of Mathematical Functions, 26.2.17: error below 7.5e-8."""


def density(deviations: Floats) -> Floats:
    """Of the standard normal."""
    found: Floats = np.exp(-deviations * deviations / 2) / _ROOT_TWO_PI
    return found


def exceeds(deviations: Floats) -> Floats:
    """The chance that a standard normal is larger than this."""
    part = 1 / (1 + 0.2316419 * np.abs(deviations))
    series = np.zeros_like(part)
    for factor in reversed(_SERIES):
        series = (series + factor) * part
    tail = density(deviations) * series
    found: Floats = np.where(deviations >= 0, tail, 1 - tail)
    return found


def expected_excess(mean: Floats, deviation: Floats, held: Floats) -> Floats:
    """E[(need - held)+] of a normal need; `deviation` above 0."""
    away = (held - mean) / deviation
    found: Floats = deviation * density(away) - (held - mean) * exceeds(away)
    return found
