"""What the planner remembers from tick to tick; small, frozen, lost without harm.

A fresh `Memory` makes the planner hold: windows must fill again before anything shrinks.
"""

import msgspec

from preemption.values import Stop


class Vote(msgspec.Struct, frozen=True):
    """A count that sizing asked for at some time, for stabilisation windows."""

    at_seconds: float
    wanted_milli: int


class Belief(msgspec.Struct, frozen=True):
    """Learnt capacity of one replica of (role, GPU model)."""

    role: str
    gpu_model: str
    tokens_per_second: float
    samples: int


class Level(msgspec.Struct, frozen=True):
    """One-minute demand of a role, as observed."""

    at_seconds: float
    tokens_per_second: float


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a role's demand rises, and how many deviations are kept above it."""

    role: str
    levels: tuple[Level, ...] = ()
    """The last minutes, oldest first."""
    variance: float
    """Of the logarithm of rises over `pace.RISE_SECONDS`; falls count as 0."""
    samples: int = 0
    sigmas: float
    """Moved by the SLO: late minutes widen it, minutes in time narrow it."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Windows, beliefs and budgets."""

    since_seconds: float | None = None
    """First tick of this memory."""
    planned_seconds: float | None = None
    """Last tick that planned in full."""
    votes: dict[str, tuple[Vote, ...]] = {}
    beliefs: tuple[Belief, ...] = ()
    paces: tuple[Pace, ...] = ()
    stops: tuple[Stop, ...] = ()
    protected_until_seconds: dict[str, float] = {}
