"""Local linear trend by a Kalman filter, with the noise settings that Dynamo's planner ships.

State: level and slope per bin. Process noise 1 (level) and 0.1 (slope), observation noise 10,
identity covariance at the start. The gain does not depend on the data.
"""

from __future__ import annotations

import numpy as np

from forecasting.grid import Floats, Grid, Ints

_LEVEL_NOISE, _SLOPE_NOISE, _OBSERVATION_NOISE = 1.0, 0.1, 10.0


def kalman(rates: Floats, steps: Ints, grid: Grid) -> Floats:
    """Level plus slope times steps ahead, never below 0."""
    level, slope = rates[0], 0.0
    levels, slopes = np.empty(rates.size), np.empty(rates.size)
    for column, (rate, gain) in enumerate(zip(rates.tolist(), _gains(rates.size), strict=True)):
        miss = rate - (level + slope)
        level, slope = level + slope + gain[0] * miss, slope + gain[1] * miss
        levels[column], slopes[column] = level, slope
    return np.maximum(levels[:, None] + slopes[:, None] * steps, 0.0)


def _gains(count: int) -> list[tuple[float, float]]:
    """Kalman gains (level, slope) of each update."""
    own, cross, slope = 1.0, 0.0, 1.0
    gains = []
    for _ in range(count):
        own, cross = own + 2 * cross + slope + _LEVEL_NOISE, cross + slope
        slope += _SLOPE_NOISE
        first, second = own / (own + _OBSERVATION_NOISE), cross / (own + _OBSERVATION_NOISE)
        gains.append((first, second))
        own, cross, slope = (1 - first) * own, (1 - first) * cross, slope - second * cross
    return gains
