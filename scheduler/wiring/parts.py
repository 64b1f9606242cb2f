"""What every daemon is made of, whatever world it runs in: signals, heartbeat, log, watch."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Protocol, TextIO

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from forecasting import State
from scheduler.adapters.statefile import StateFileError, load, save
from scheduler.daemon.forecast import SeriesForecaster
from scheduler.daemon.keeper import Keeper
from scheduler.daemon.worker import PlanningProcess
from scheduler.extender.process import ExtenderGoneError, ExtenderProcess
from scheduler.planning.policy import Policy
from scheduler.planning.standing import Standing
from scheduler.ports import Tick

LOOPBACK = "127.0.0.1"
HEARTBEAT_SECONDS = 30
RETAIN_TICKS = 40_320
"""A week of ticks at 15 s."""
SWITCH_SECONDS = 0.0005
"""Longest wait of the tick for the threads of the ledger and the API."""

Log = structlog.typing.FilteringBoundLogger


class PolicySource(Protocol):
    """Where the policy comes from."""

    error: tuple[str, ...]
    """Why the newest edit was refused."""

    def current(self) -> Policy:
        """Return the last good policy."""
        ...


class KeptExtender:
    """The extender's process, started anew where it has ended; for the tick's thread alone."""

    def __init__(self, start: Callable[[int], ExtenderProcess], port: int, log: Log) -> None:
        """`start` one on a port; its successors listen on the port of the first."""
        self._start = start
        self._log = log
        self._process = start(port)
        self.port = self._process.port

    def publish(self, standing: Standing) -> None:
        """Give it a standing; where it is gone, the next process gets it."""
        try:
            self._process.publish(standing)
        except ExtenderGoneError as error:
            self._log.warning("extender_gone", error=str(error))
            self._process.stop()
            self._process = self._start(self.port)
            self._process.publish(standing)

    def stop(self) -> None:
        """End the process."""
        self._process.stop()


class Watch:
    """Says in the log what happens, and that nothing does."""

    def __init__(self, policy: PolicySource, planner: PlanningProcess, log: Log) -> None:
        self._policy = policy
        self._planner = planner
        self._log = log
        self._ticks = 0
        self._ticks_at_beat = 0
        self._failures_at_beat = 0
        self._refused: tuple[str, ...] = ()
        self._dropped: tuple[str, ...] = ()
        self.violations = 0

    def ticked(self, done: Tick) -> None:
        """Log one tick: its plan, what was acted, what was dropped, what is broken."""
        self._ticks += 1
        now, plan = done.snapshot.now_seconds, done.plan
        self._log.debug("tick", tick=done.number, now_seconds=now, plan=plan.summary)
        dropped = tuple(one.detail for one in done.outcomes if not one.applied)
        acted = len(done.outcomes) - len(dropped)
        if acted or dropped != self._dropped:  # a follower drops the same at every plan
            self._log.info(
                "acted",
                tick=done.number,
                now_seconds=now,
                source=plan.source,
                summary=plan.summary,
                applied=acted,
                dropped=dropped,
            )
        self._dropped = dropped
        for sentence in done.violations:
            self.violations += 1
            self._log.error("violation", tick=done.number, now_seconds=now, sentence=sentence)

    def beat(self) -> None:
        """Log what came up since the last beat; runs beside the ticks, and outlives a stuck one."""
        refused = self._policy.error
        if refused and refused != self._refused:
            self._log.warning("policy_refused", errors=refused)
        self._refused = refused
        failures = self._planner.failures
        if failures > self._failures_at_beat:
            self._log.warning("planner_failed", failures=failures)
        self._failures_at_beat = failures
        ticks = self._ticks
        if ticks == self._ticks_at_beat:
            self._log.warning("no_tick", seconds=HEARTBEAT_SECONDS)
        self._ticks_at_beat = ticks


def kept_forecaster(
    members: tuple[str, ...], path: Path, stack: ExitStack, log: Log
) -> SeriesForecaster:
    """Return a forecaster that goes on from the state in a file, and has it kept there.

    `stack` writes the last state. A file that cannot be used or written costs a line in the log.
    """

    def restore(begun: State, now_seconds: float) -> State | None:
        try:
            state = load(path, begun, now_seconds)
        except StateFileError as error:
            log.warning("forecast_state_refused", error=str(error))
            return None
        if state is not None:
            log.info("forecast_state_restored", series=len(state.store.keys), file=str(path))
        return state

    def tell(error: OSError) -> None:
        log.warning("forecast_state_not_saved", error=error.strerror, file=str(path))

    keeper = stack.enter_context(Keeper(partial(save, path), tell))
    return SeriesForecaster(members, restore, keeper.keep)


@contextmanager
def until_signal() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set; children leave SIGINT to their parent."""
    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    before = {one: signal.signal(one, stop) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopped
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def heartbeat(beat: Callable[[], None]) -> Iterator[None]:
    """Call `beat` at wall intervals, in a thread of its own."""
    scheduler = BackgroundScheduler()
    scheduler.add_job(beat, "interval", seconds=HEARTBEAT_SECONDS, coalesce=True)
    scheduler.start()
    try:
        yield
    finally:
        scheduler.shutdown(wait=False)


def logger(*, verbose: bool, file: TextIO | None = None) -> Log:
    """Return a logger that writes one JSON object a line to `file`, or to standard error."""
    level = "debug" if verbose else "info"
    log: Log = structlog.wrap_logger(
        structlog.PrintLogger(file or sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    return log
