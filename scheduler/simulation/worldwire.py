"""What the virtual world and those who drive it say to each other over loopback.

Bodies are msgpack of these values; both ends import this module, so neither can drift. The
world's own paths stand here too. A call that is sent twice, because an answer was lost, does no
harm: actions carry their preconditions, demand is asked for by a cursor, and time only moves to
what is named.
"""

import msgspec

from forecasting import Sample
from scheduler.planning.actions import Action
from scheduler.planning.snapshot import Reservation
from scheduler.ports import Outcome
from scheduler.simulation.score import Figures
from scheduler.simulation.timeline import Timeline

OBSERVE = "/observe"
SAMPLES = "/samples"
RESERVE = "/reserve"
APPLY = "/apply"
PLANNED = "/planned"
ADVANCE = "/advance"
EXTENDER = "/extender"
PROGRESS = "/progress"
REPORT = "/report"

MEDIA_TYPE = "application/msgpack"


class After(msgspec.Struct, frozen=True):
    """Asks for demand bins; 0 asks for the whole history too."""

    cursor: int


class Bins(msgspec.Struct, frozen=True):
    """Demand bins after a cursor, and the cursor to ask with next."""

    samples: tuple[Sample, ...]
    cursor: int


class Reserve(msgspec.Struct, frozen=True):
    """Arguments of `Actuator.reserve`."""

    reservations: tuple[Reservation, ...]
    epoch: int


class Apply(msgspec.Struct, frozen=True):
    """Arguments of `Actuator.apply`."""

    actions: tuple[Action, ...]
    epoch: int


class Applied(msgspec.Struct, frozen=True):
    """What became of the actions."""

    outcomes: tuple[Outcome, ...]


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A plan was made; said for the event stream alone."""

    source: str
    actions: int
    violations: tuple[str, ...] = ()
    """Breaches that the planner's side found in the world or in the plan."""


class Advance(msgspec.Struct, frozen=True, kw_only=True):
    """Let time pass to `seconds`, or from `seconds` on by what a plan of some effort takes."""

    seconds: float
    effort: str = ""


class Moved(msgspec.Struct, frozen=True):
    """What time it is, and whether it is the end."""

    now_seconds: float
    ended: bool


class ExtenderAt(msgspec.Struct, frozen=True):
    """Where pods are to be placed from now on."""

    url: str


class Refused(msgspec.Struct, frozen=True):
    """Body of an answer with status 400 or above."""

    error: str


class RoleCount(msgspec.Struct, frozen=True):
    """Replicas of one role."""

    role: str
    ready: int
    coming: int
    draining: int


class WorldProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the world is, for people who watch."""

    now_seconds: float
    start_seconds: float
    end_seconds: float
    ended: bool
    unplanned: bool
    """The planner is gone and time runs on without it."""
    loans: int
    """Jobs that run on lent GPUs now."""
    stops: int
    """Runs of jobs stopped so far."""
    slo_attainment: float | None
    """So far; None before any scored request was due."""
    slo_attainment_worst_model: float | None
    roles: tuple[RoleCount, ...]
    timeline: Timeline
    """The bins so far."""
    placed_by_extender: int
    placed_by_default: int


class WorldReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the whole run came to."""

    figures: Figures
    timeline: Timeline
    violations: tuple[str, ...]
    unplanned_seconds: float
    """Simulated time that passed without a planner."""
    placed_by_extender: int
    placed_by_default: int
