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


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """A role's present demand, how it strays within minutes, and how careful to be."""

    role: str
    since_seconds: float
    at_seconds: float
    level_tokens_per_second: float
    """Smoothed over minutes, but for jumps."""
    minute_variance: float
    """Of log(one-minute demand / level)."""
    samples: int
    care: float
    """Factor on the room for errors; late minutes raise it, minutes in time lower it."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Windows, beliefs and budgets."""

    since_seconds: float | None = None
    """First tick of this memory."""
    votes: dict[str, tuple[Vote, ...]] = {}
    beliefs: tuple[Belief, ...] = ()
    paces: tuple[Pace, ...] = ()
    stops: tuple[Stop, ...] = ()
    """Of the last hour; the plan in force and the snapshot's jobs tell of them after a restart."""
