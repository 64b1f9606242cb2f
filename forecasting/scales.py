"""What errors are measured in, and the band that is assumed before there are any.

The restlessness of a target is the geometric mean of how much the series moves at present and of
how far the stack has strayed lately. How far errors up to an hour ahead follow it differs between
series (`forecasting.calibration`). Further ahead the restlessness says nothing, and the plain error
in roots is kept.
"""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.grid import Bools, Floats, Grid, Ints
from forecasting.panel import Panel, level, spread

# Assumed spread of the root, as a share of its level, ten minutes ahead and at most. With the
# Laplace quantiles below: P90 of a held value is +15 % of the rate after 10 minutes, +26 % after
# 30 minutes, doubled from 7 hours on. About what clients of public LLM traces do.
_SHARE_AT_TEN_MINUTES = 0.045
_GREATEST_SHARE = 0.28
_TEN_MINUTES = 600.0
_LEAST_SPREAD = 1e-12
# A stack that was right for an hour is assumed to stray by this part of the spread.
_LEAST_STRAY = 0.1
MEDIAN = 0.5


class Scales(msgspec.Struct, frozen=True):
    """`restless` [series, target, origin], 1.0 for far targets; `level` and `spread` of roots
    [series, origin].
    """

    restless: Floats
    level: Floats
    spread: Floats


def near(steps: Ints, grid: Grid) -> Bools:
    """The targets whose errors follow the present restlessness."""
    return steps <= grid.hour


def scales(
    panel: Panel, grid: Grid, origins: Ints, stray: Floats, steps: Ints | None = None
) -> Scales:
    """Restlessness and levels at the origins; `steps` [series, target] where series differ.

    `stray` [series, target, origin] is how far the stack has strayed, NaN where that is unknown.
    """
    ahead = np.array(grid.target_steps) if steps is None else steps
    moves = spread(panel, origins)
    least = np.maximum(moves, _LEAST_SPREAD)[:, None, :]
    strays = np.where(np.isfinite(stray), stray, least * np.sqrt(ahead)[..., None])
    restless = np.sqrt(least * (strays + _LEAST_STRAY * least))
    return Scales(
        np.where(near(ahead, grid)[..., None], restless, 1.0), level(panel, origins), moves
    )


def assumed_band(steps: Ints, grid: Grid) -> Floats:
    """Quantiles of the error as a share of the level [target, quantile].

    A Laplace law whose spread grows with the square root of the time ahead, up to a bound.
    """
    seconds = steps * grid.bin_seconds
    share = np.minimum(_SHARE_AT_TEN_MINUTES * np.sqrt(seconds / _TEN_MINUTES), _GREATEST_SHARE)
    tau = np.array(grid.quantiles)
    laplace = np.where(tau < MEDIAN, np.log(2 * tau), -np.log(2 * (1 - tau)))
    band: Floats = share[..., None] * laplace
    return band
