"""The last known value, held: hard to beat up to half an hour ahead."""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.grid import Floats, Ints
from forecasting.panel import Panel, at_newest


class Last(msgspec.Struct, frozen=True):
    """Every coming bin looks like the newest known one."""

    def fit(self, panel: Panel, cut: int, steps: Ints) -> tuple[Floats, ...]:
        """Nothing to learn."""
        return ()

    def path(self, panel: Panel, fit: tuple[Floats, ...], origins: Ints, steps: Ints) -> Floats:
        """[series, origin, step]; NaN before the first known bin."""
        value, _ = at_newest(panel, panel.z, origins)
        return np.repeat(value[:, :, None], steps.size, axis=2)
