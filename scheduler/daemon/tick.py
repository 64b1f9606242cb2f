"""One tick: observe -> forecast -> size, lend, pack, preempt -> act -> record.

The daemon, the demo and `simulate` all run this function; they differ in the ports. Everything
between observing and acting is values, so the ledger's entry of a tick computes again to the
same plan.
"""

from collections.abc import Callable
from math import floor

import msgspec

from forecasting import Forecasts
from scheduler.planning.actions import Plan
from scheduler.planning.invariants import broken, broken_by
from scheduler.planning.memory import Memory
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import Snapshot
from scheduler.ports import (
    Actuator,
    Clock,
    Forecaster,
    Ledger,
    Observer,
    Outcome,
    Planner,
    Tick,
)

Publish = Callable[[Snapshot, Plan], None]


class Shell(msgspec.Struct, frozen=True, kw_only=True):
    """Everything outside that a tick talks to."""

    observer: Observer
    actuator: Actuator
    clock: Clock
    ledger: Ledger
    forecaster: Forecaster
    planner: Planner
    policy: Callable[[], Policy]
    """Returns the last good policy, reloaded when its source changed."""
    publish: Publish
    """Gives the extender the plan before it is acted on, so that no pod meets an older one."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What one tick hands to the next."""

    number: int
    memory: Memory = Memory()
    forecasts: Forecasts | None = None
    full_seconds: float | None = None
    last: Tick | None = None


def first(shell: Shell) -> Progress:
    """Take the history in and return the state before the first tick."""
    snapshot = shell.observer.observe()
    forecasts = shell.forecaster.update(shell.observer.history(), snapshot.now_seconds)
    return Progress(number=shell.ledger.next_number(), forecasts=forecasts)


def tick(shell: Shell, progress: Progress) -> Progress:
    """Run one tick and return the state for the next."""
    policy = shell.policy()
    observed = shell.observer.observe()
    forecasts = _forecast(shell, progress, policy, observed.now_seconds)
    snapshot = msgspec.structs.replace(observed, forecasts=forecasts)
    effort = _effort(progress, policy, snapshot.now_seconds)
    planned, memory = shell.planner(snapshot, progress.memory, policy, effort)
    refused = broken_by(snapshot, planned)
    violations = (*broken(snapshot), *refused)
    outcomes = _act(shell, snapshot, planned, effort, policy, refused)
    done = Tick(
        number=progress.number,
        snapshot=snapshot,
        memory_before=progress.memory,
        memory_after=memory,
        policy=policy.model_dump_json().encode(),
        effort=effort,
        plan=planned,
        outcomes=outcomes,
        violations=violations,
    )
    shell.ledger.record(done)
    return Progress(
        number=progress.number + 1,
        memory=memory,
        forecasts=forecasts,
        full_seconds=snapshot.now_seconds if effort == "full" else progress.full_seconds,
        last=done,
    )


def next_tick_seconds(shell: Shell, progress: Progress) -> float:
    """Return the next multiple of the observation period after the last tick."""
    every = shell.policy().cadence.observe_seconds
    now = progress.last.snapshot.now_seconds if progress.last else 0.0
    return (floor(now / every) + 1) * every


def _forecast(
    shell: Shell, progress: Progress, policy: Policy, now_seconds: float
) -> Forecasts | None:
    """Return fresh forecasts when they are due, else the ones in force.

    Forecasts that know no series are due at once: metrics may have come back since.
    """
    issued = progress.forecasts
    every = policy.cadence.forecast_seconds
    if issued is not None and _knows(issued) and now_seconds - issued.issued_at_seconds < every:
        return issued
    return shell.forecaster.update(shell.observer.samples(), now_seconds)


def _knows(issued: Forecasts) -> bool:
    return any(one.status != "absent" for one in issued.series.values())


def _effort(progress: Progress, policy: Policy, now_seconds: float) -> str:
    every = policy.cadence.plan_seconds
    due = progress.full_seconds is None or now_seconds - progress.full_seconds >= every
    return "full" if due else "quick"


def _act(
    shell: Shell,
    snapshot: Snapshot,
    planned: Plan,
    effort: str,
    policy: Policy,
    refused: tuple[str, ...],
) -> tuple[Outcome, ...]:
    """Publish and apply the plan where the mode says so; otherwise say why not.

    Where Tidal does not act it holds nothing either: the extender keeps pods off no GPU. A plan
    that breaks a rule is neither published nor applied: it stays in the ledger with the rules that
    it breaks, and what was published before grows old as if no plan had been made.
    """
    shell.clock.charge_planning(effort)
    if refused:
        detail = f"the plan breaks a rule and is not applied: {refused[0]}"
        return tuple(Outcome(action, applied=False, detail=detail) for action in planned.actions)
    if policy.mode != "act":
        shell.publish(snapshot, msgspec.structs.replace(planned, actions=(), reservations=()))
        return tuple(
            Outcome(action, applied=False, detail=f"mode {policy.mode}")
            for action in planned.actions
        )
    shell.publish(snapshot, planned)
    shell.actuator.reserve(planned.reservations, snapshot.epoch)
    return shell.actuator.apply(planned.actions, snapshot.epoch)
