"""Protocols of everything outside, owned by those who use them.

The daemon knows the world only through these. Production adapters, the virtual cluster in the
same process and the virtual cluster behind HTTP all satisfy them.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from forecasting import Forecasts, Observed
from scheduler.planning.actions import Action, Plan
from scheduler.planning.memory import Memory
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import CapacitySignal, Reservation, RoleSignal, Snapshot


class Outcome(msgspec.Struct, frozen=True):
    """What became of one action: applied, or why it was dropped."""

    action: Action
    applied: bool
    detail: str = ""


class WorldEndedError(Exception):
    """The world has come to its end and takes no more ticks; only virtual ones do."""


class WorldStaleError(Exception):
    """The world cannot be seen now; nothing may be decided until it can."""


class Observer(Protocol):
    """Reads the world."""

    def observe(self) -> Snapshot:
        """Return the newest state, without forecasts.

        Raises `WorldStaleError` where what is known is too old to decide on.
        """
        ...

    def history(self) -> Sequence[Observed]:
        """Return the demand known before the first tick."""
        ...

    def samples(self) -> Sequence[Observed]:
        """Return demand bins that closed since the last call; missing bins as invalid."""
        ...


Ready = Mapping[tuple[str, str], int]
"""(role key, GPU model) -> ready replicas."""


class GpuUse(msgspec.Struct, frozen=True, kw_only=True):
    """Means over all GPUs that report, 0 to 1; None: nobody reports it."""

    gpus: int = 0
    """How many report GPU_UTIL, or `active_metric` where none does."""
    gpu_util: float | None = None
    active: float | None = None
    active_metric: str = ""
    """Which metric `active` is."""
    note: str = ""
    """What a reader of the numbers should know; a sentence, or nothing."""


class Signals(Protocol):
    """Reads what the engines report; half of an observer where the cluster is another source."""

    def history(self, now_seconds: float) -> Sequence[Observed]:
        """Return the demand known before the first tick."""
        ...

    def samples(self, now_seconds: float) -> Sequence[Observed]:
        """Return demand bins that closed since the last call; missing bins as invalid."""
        ...

    def roles(self, now_seconds: float, ready: Ready) -> tuple[RoleSignal, ...]:
        """Return what the engines of each role reported over the last window."""
        ...

    def capacities(self, now_seconds: float, ready: Ready) -> tuple[CapacitySignal, ...]:
        """Return measured capacities of the pools that have ready replicas."""
        ...

    @property
    def problem(self) -> str:
        """Why something is missing, in a sentence; empty where nothing is."""
        ...


class Actuator(Protocol):
    """Changes the world; checks each precondition again before it acts."""

    def reserve(self, reservations: tuple[Reservation, ...], epoch: int) -> None:
        """Replace the held reservations by these."""
        ...

    def apply(self, actions: tuple[Action, ...], epoch: int) -> tuple[Outcome, ...]:
        """Apply in order; an action whose precondition fails is dropped and said so."""
        ...


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """All that one tick saw, decided and did; enough to compute it again."""

    number: int
    snapshot: Snapshot
    memory_before: Memory
    memory_after: Memory
    policy: bytes
    """JSON of the policy in force."""
    effort: str
    plan: Plan
    outcomes: tuple[Outcome, ...]
    violations: tuple[str, ...] = ()


class TickLine(msgspec.Struct, frozen=True):
    """One tick in a list."""

    number: int
    at_seconds: float
    effort: str
    source: str
    actions: int
    applied: int
    violations: int
    summary: str


class Ledger(Protocol):
    """Evidence of every tick; correctness never reads it."""

    def record(self, tick: Tick) -> None:
        """Store one tick."""
        ...

    def next_number(self) -> int:
        """Return the number that the next tick carries."""
        ...


class Clock(Protocol):
    """Time as the world counts it."""

    def wait_until(self, seconds: float) -> None:
        """Return once the world's time is at least `seconds`.

        Raises `WorldEndedError` when the world ends before.
        """
        ...

    def charge_planning(self, effort: str) -> None:
        """Let the time pass that a plan of this effort takes, where that is simulated."""
        ...


class Planner(Protocol):
    """Computes plans, in this process or in one of its own."""

    def __call__(
        self, snapshot: Snapshot, memory: Memory, policy: Policy, effort: str
    ) -> tuple[Plan, Memory]:
        """Return the plan and the memory after it."""
        ...


class Forecaster(Protocol):
    """Holds the series state between calls."""

    def update(self, observed: Sequence[Observed], now_seconds: float) -> Forecasts:
        """Take what was observed in and return the forecasts issued now."""
        ...
