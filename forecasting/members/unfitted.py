"""What members that learn nothing have in common."""

from __future__ import annotations

import msgspec

from forecasting.grid import Floats, Grid
from forecasting.panel import Panel


class Unfitted(msgspec.Struct, frozen=True, kw_only=True):
    """A member that looks things up: it votes, and the stack looks at it, unless it says not."""

    votes: bool = True
    regressed: bool = True

    def fit(self, panel: Panel, cut: int, grid: Grid) -> tuple[Floats, ...]:
        """Nothing to learn."""
        return ()
