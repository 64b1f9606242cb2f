"""The members of the mixture: one idea a module, all of one shape.

A member never says 0 when it does not know: it says NaN, "no forecast", and the mixture goes on
without it. Members that vote have bands of their own in the mixture; those that are regressed
on are what the stack (`forecasting.stack`) looks at.
"""

from __future__ import annotations

from typing import Protocol

from forecasting.grid import Floats, Grid, Ints, Reals
from forecasting.members.again import Hourly, LastWeek, Yesterday
from forecasting.members.harmonic import Harmonic
from forecasting.members.held import Average, Highest, Last
from forecasting.members.profile import Profile, Typical
from forecasting.members.waves import Waves
from forecasting.panel import Panel

Fit = tuple[Reals, ...]


class Member(Protocol):
    """A way to predict the roots of the coming bins, batched over series."""

    @property
    def votes(self) -> bool:
        """Whether it has bands of its own in the mixture."""

    @property
    def regressed(self) -> bool:
        """Whether the stack looks at it."""

    def fit(self, panel: Panel, cut: int, grid: Grid) -> Fit:
        """Learn from columns before `cut`; arrays whose first axis is the series."""

    def path(self, panel: Panel, fit: Fit, origins: Ints, steps: Ints) -> Floats:
        """Predicted roots [series, origin, step] from what is known up to each origin column."""


# Tides twice: by recency, and by what stands out of the noise, which must not pass for a season.
MEMBERS: dict[str, Member] = {
    "last": Last(),
    "half-hour": Average(0.5),
    "highest": Highest(0.5),
    "day": Average(24.0),
    "hourly": Hourly(),
    "yesterday": Yesterday(),
    "last-week": LastWeek(),
    "typical": Typical(),
    "profile": Profile(),
    "sharp": Profile(day_decay=0.8, smooth_hours=0.0, ratio_half_life_hours=6.0, votes=False),
    "harmonic": Harmonic(),
    "waves": Waves(),
}

STACK = "stack"


def voices(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of what has bands of its own: the members that vote, then the stack."""
    return (*(name for name in names if MEMBERS[name].votes), STACK)


__all__ = ["MEMBERS", "STACK", "Fit", "Member", "voices"]
