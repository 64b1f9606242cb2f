"""The members of the mixture: one idea a module, all of one shape.

A member never says 0 when it does not know: it says NaN, "no forecast", and the mixture goes on
without it.
"""

from __future__ import annotations

from typing import Protocol

from forecasting.grid import Floats, Ints
from forecasting.members.harmonic import Harmonic
from forecasting.members.last import Last
from forecasting.members.profile import Profile
from forecasting.panel import Panel

Fit = tuple[Floats, ...]


class Member(Protocol):
    """A way to predict the roots of the coming bins, batched over series."""

    def fit(self, panel: Panel, cut: int, steps: Ints) -> Fit:
        """Learn from columns before `cut`; arrays whose first axis is the series."""

    def path(self, panel: Panel, fit: Fit, origins: Ints, steps: Ints) -> Floats:
        """Predicted roots [series, origin, step] from what is known up to each origin column."""


MEMBERS: dict[str, Member] = {"last": Last(), "profile": Profile(), "harmonic": Harmonic()}

__all__ = ["MEMBERS", "Fit", "Member"]
