"""The closed union of what Tidal may do, and the plan that carries it.

An action states its precondition (the value it expects to find), so that the actuator can
check it against fresh state and applying a plan twice does nothing the second time. Each has a
machine-readable `code` and a `sentence` for people.
"""

from typing import Literal

import msgspec

from binpacking.cards import Population
from binpacking.prices import Prices
from binpacking.problem import Rung
from preemption.values import Stop
from scheduler.planning.snapshot import Loan, Reservation

Code = Literal[
    "demand_rises",
    "demand_falls",
    "lend",
    "resume",
    "recall",
    "recall_now",
    "acknowledged",
    "deadline",
    "stalled",
    "consolidate",
    "shrink",
    "grow",
]


class ScaleRole(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Set a role's replica count; `retire` names the replicas to go when it falls."""

    role: str
    expected_replicas: int
    replicas: int
    retire: tuple[str, ...] = ()
    code: Code
    sentence: str


class StartJob(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Resume a waiting job on reserved nodes, as a loan."""

    job: str
    expected_attempt: int
    pods: int
    loan: Loan
    code: Code
    sentence: str


class NotifyJob(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Ask a running job to write a checkpoint and acknowledge before the deadline."""

    job: str
    expected_attempt: int
    deadline_seconds: float
    for_role: str
    code: Code
    sentence: str


class StopJob(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Suspend a job's owner and evict its pods."""

    job: str
    expected_attempt: int
    for_role: str
    code: Code
    sentence: str


class ResizeJob(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Change the pod count of an elastic job inside its bounds; `release` names pods to go."""

    job: str
    expected_attempt: int
    pods: int
    release: tuple[str, ...] = ()
    for_role: str = ""
    code: Code
    sentence: str


Action = ScaleRole | StartJob | NotifyJob | StopJob | ResizeJob


class Reason(msgspec.Struct, frozen=True):
    """One step of a decision: who said it, the value before and after, and why."""

    step: str
    before: float
    after: float
    sentence: str
    unit: Literal["milli_replicas", "tokens_per_second"] = "milli_replicas"
    """Of both values."""


class Sizing(msgspec.Struct, frozen=True, kw_only=True):
    """How many replicas one role should have, and the chain of reasons."""

    role: str
    tokens_per_second: float
    """Demand that the replicas are meant to hold, headroom included."""
    replica_tokens_per_second: float
    """Believed capacity of one reference replica (the role's first GPU model)."""
    held_milli: int
    """Capacity of replicas that stay, in thousandths of a reference replica."""
    wanted_milli: int
    reasons: tuple[Reason, ...] = ()


class Unplaced(msgspec.Struct, frozen=True):
    """A shortage that no placement covers, with the reason for people."""

    owner: str
    milli_replicas: int
    sentence: str
    code: Literal["no_gpus", "spread", "proximity"] = "no_gpus"
    """`spread`: there may be room, in failure domains that hold their part of the role already;
    `proximity`: where no replica of a role is that it must stand beside."""


class SolverAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The accepted packing and how it was found; a replay verifies it instead of re-solving."""

    rung: Rung
    gap: float | None
    problem: bytes
    """msgpack of `binpacking.problem.Problem`."""
    packing: bytes
    """msgpack of `binpacking.problem.Packing`."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do now, what to keep free, and why."""

    at_seconds: float
    source: Literal["full", "quick", "heuristic"]
    actions: tuple[Action, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    """The complete set to hold; what is not here is released."""
    stops: tuple[Stop, ...] = ()
    """Of the last hour, this plan's among them: what budgets count outlives planner and job."""
    sizings: tuple[Sizing, ...] = ()
    unplaced: tuple[Unplaced, ...] = ()
    lendable_gpus: int = 0
    answers: tuple[SolverAnswer, ...] = ()
    to_come: Population = ()
    """Pods that queue and forecast will ask, by which single pods are placed between plans."""
    prices: Prices = Prices()
    """What room is worth to them."""
    summary: str = ""
