"""One tick's inputs under one name, and the choices in which planners differ.

`Situation` is what every step of a plan looks at. `Tactics` are the steps that a rival replaces:
the frame around them (reservations, packing, actions) is the same for all, so that a comparison
shows the decision and nothing else.
"""

from collections.abc import Callable
from math import inf

import msgspec

from binpacking.fragmentation import Mix
from binpacking.problem import USUAL_MIX, BatchRequest, Effort, Gang, StopLimit
from preemption.values import Claimant, Refusal
from scheduler.planning.actions import Sizing
from scheduler.planning.holdings import Holding
from scheduler.planning.memory import Memory
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import Job, Reservation, Snapshot
from scheduler.planning.supply import Told


class Offer(msgspec.Struct, frozen=True):
    """A waiting job with the terms on which it would start."""

    job: Job
    return_by_seconds: float
    request: BatchRequest


class Victims(msgspec.Struct, frozen=True):
    """Jobs that may give way, and how many of them one plan may stop."""

    gangs: tuple[Gang, ...]
    limits: tuple[StopLimit, ...] = ()
    claimants: tuple[Claimant, ...] = ()
    """Those whose gangs these are."""
    refusals: tuple[Refusal, ...] = ()
    """Why the other running jobs may not be asked."""


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What is, what is believed, and what is asked for."""

    snapshot: Snapshot
    memory: Memory
    policy: Policy
    held: tuple[Holding, ...]
    reserved: tuple[Reservation, ...]
    """Open reservations that stay."""
    told: Told
    """Jobs that an earlier plan told to go, and that do not show it yet."""
    effort: Effort
    mix: Mix = USUAL_MIX
    """Pods to come by GPUs, for what a placement leaves behind."""
    card_mix: Mix = ()
    """Those that share a card, by milli-GPU."""

    @property
    def now(self) -> float:
        """Seconds on the world's time line."""
        return self.snapshot.now_seconds


class Haste(msgspec.Struct, frozen=True):
    """What victims are granted, by how much the shortages press."""

    notice_seconds: float
    """How long one has to write a checkpoint; 0: it is stopped at once."""
    most_lost_seconds: float = inf
    """Jobs that would lose more running time than this are spared."""


class Tactics(msgspec.Struct, frozen=True, kw_only=True):
    """The decisions that make one planner differ from another."""

    size: Callable[[Situation], tuple[Sizing, ...]]
    """One sizing per holding, in the same order."""
    haste: Callable[[Situation, tuple[Sizing, ...]], Haste]
    """What victims are granted, given these sizings."""
    victims: Callable[[Situation, Haste], Victims]
    """Running jobs that may give way, with their cost, when granted that."""
    offers: Callable[[Situation], tuple[Offer, ...]]
    """Waiting jobs with the terms on which they would start, best first."""
