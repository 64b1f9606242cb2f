"""Panels that tests of learning from tick to tick begin with."""

import numpy as np

from forecasting.grid import Grid
from forecasting.panel import Panel, panel_of


def steady(grid: Grid, bins: int, newest: float, *, known: bool = True) -> Panel:
    """One series at root 10 whose newest bin is `newest`."""
    z = np.full((1, bins), 10.0)
    z[0, -1] = newest
    seen = np.ones((1, bins), dtype=np.bool_)
    seen[0, -1] = known
    return panel_of(np.where(seen, z, 0.0), seen, seen, 0, grid)
