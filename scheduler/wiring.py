"""Joins the parts into a running daemon; nothing here decides.

The world comes from outside behind HTTP; planner and extender are processes of their own, the
API is a thread, and the tick runs in the caller's. Everything is taken down in reverse order of
its start, also where a start fails half way.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import msgspec
import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from scheduler.adapters.ledger import SqliteLedger, open_ledger
from scheduler.adapters.policyfile import PolicyFile
from scheduler.daemon.api import Api, ApiServer
from scheduler.daemon.documents.shapes import Facts
from scheduler.daemon.forecast import SeriesForecaster
from scheduler.daemon.loop import run
from scheduler.daemon.tick import Progress, Shell
from scheduler.daemon.worker import PlanningProcess
from scheduler.daemon.writebehind import WriteBehind
from scheduler.extender import process as extender_process
from scheduler.extender.process import ExtenderGoneError
from scheduler.planning.actions import Plan
from scheduler.planning.snapshot import Snapshot
from scheduler.planning.standing import Standing, standing_of
from scheduler.ports import Tick
from scheduler.simulation.remote import RemoteWorld

LOOPBACK = "127.0.0.1"
HEARTBEAT_SECONDS = 30
RETAIN_TICKS = 40_320
"""A week of ticks at 15 s."""
SWITCH_SECONDS = 0.0005
"""Longest wait of the tick for the threads of the ledger and the API."""

Log = structlog.typing.FilteringBoundLogger


class DaemonSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a daemon is started with; port 0 stands for any free one."""

    world_url: str
    policy: Path
    ledger: Path
    api_port: int
    extender_port: int
    verbose: bool = False


def run_daemon(settings: DaemonSettings) -> int:
    """Run until the world ends or a signal comes; return 1 where an invariant broke, else 0.

    Raises what the parts raise where they cannot start: `PolicyError`, `LedgerFormatError`,
    `PortInUseError`, `ApiPortError`, `WorldUnreachableError`, ValueError for the world's address.
    """
    log = _logger(verbose=settings.verbose)
    sys.setswitchinterval(SWITCH_SECONDS)
    with ExitStack() as stack:
        stopped = stack.enter_context(_until_signal())
        policy = PolicyFile(settings.policy)
        world = RemoteWorld(settings.world_url)
        stack.callback(world.close)
        ledger = stack.enter_context(open_ledger(settings.ledger, RETAIN_TICKS))
        planner = PlanningProcess()
        stack.callback(planner.stop)
        extender = _Extender(world, settings.extender_port, log)
        stack.callback(extender.stop)
        api = _api(ledger, planner, policy, extender)
        server = ApiServer(api, LOOPBACK, settings.api_port)
        stack.callback(server.stop)
        watch = _Watch(policy, planner, log)
        stack.enter_context(_heartbeat(watch.beat))
        shell = Shell(
            observer=world,
            actuator=world,
            clock=world,
            ledger=stack.enter_context(WriteBehind(ledger)),
            forecaster=SeriesForecaster(policy.current().forecast.members),
            planner=planner,
            policy=policy.current,
            publish=_publisher(extender, policy),
        )

        def on_tick(progress: Progress) -> None:
            if progress.last is not None:
                world.planned(progress.last.plan, progress.last.violations)
                watch.ticked(progress.last)
            api.publish(progress)

        log.info("started", api=f"http://{LOOPBACK}:{server.port}", extender=extender.url)
        last = run(shell, on_tick, stopped.is_set)
        log.info("stopped", tick=last.number - 1, violations=watch.violations)
    return 1 if watch.violations else 0


class _Extender:
    """The extender's process, started anew where it has ended; for the tick's thread alone."""

    def __init__(self, world: RemoteWorld, port: int, log: Log) -> None:
        self._world = world
        self._log = log
        self._process = extender_process.start(LOOPBACK, port, world.url)
        self.port = self._process.port
        self._world.register_extender(self.url)

    @property
    def url(self) -> str:
        """Where it listens; the same for all its processes."""
        return f"http://{LOOPBACK}:{self.port}"

    def publish(self, standing: Standing) -> None:
        """Give it a standing; where it is gone, the next process gets it."""
        try:
            self._process.publish(standing)
        except ExtenderGoneError as error:
            self._log.warning("extender_gone", error=str(error))
            self._process.stop()
            self._process = extender_process.start(LOOPBACK, self.port, self._world.url)
            self._process.publish(standing)

    def stop(self) -> None:
        """End the process."""
        self._process.stop()


class _Watch:
    """Says in the log what happens, and that nothing does."""

    def __init__(self, policy: PolicyFile, planner: PlanningProcess, log: Log) -> None:
        self._policy = policy
        self._planner = planner
        self._log = log
        self._ticks = 0
        self._ticks_at_beat = 0
        self._failures_at_beat = 0
        self._refused: tuple[str, ...] = ()
        self.violations = 0

    def ticked(self, done: Tick) -> None:
        """Log one tick: its plan, what was acted, what was dropped, what is broken."""
        self._ticks += 1
        now, plan = done.snapshot.now_seconds, done.plan
        self._log.debug("tick", tick=done.number, now_seconds=now, plan=plan.summary)
        dropped = tuple(one.detail for one in done.outcomes if not one.applied)
        if done.outcomes:
            acted = len(done.outcomes) - len(dropped)
            self._log.info(
                "acted",
                tick=done.number,
                now_seconds=now,
                source=plan.source,
                summary=plan.summary,
                applied=acted,
                dropped=dropped,
            )
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


def _api(
    ledger: SqliteLedger, planner: PlanningProcess, policy: PolicyFile, extender: _Extender
) -> Api:
    return Api(
        ledger,
        lambda: Facts(
            extender_port=extender.port,
            worker_failures=planner.failures,
            policy_errors=policy.error,
        ),
    )


def _publisher(extender: _Extender, policy: PolicyFile) -> Callable[[Snapshot, Plan], None]:
    def publish(snapshot: Snapshot, plan: Plan) -> None:
        extender.publish(standing_of(snapshot, plan, policy.current()))

    return publish


@contextmanager
def _until_signal() -> Iterator[threading.Event]:
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
def _heartbeat(beat: Callable[[], None]) -> Iterator[None]:
    """Call `beat` at wall intervals, in a thread of its own."""
    scheduler = BackgroundScheduler()
    scheduler.add_job(beat, "interval", seconds=HEARTBEAT_SECONDS, coalesce=True)
    scheduler.start()
    try:
        yield
    finally:
        scheduler.shutdown(wait=False)


def _logger(*, verbose: bool) -> Log:
    """Return a logger that writes one JSON object a line to standard error."""
    level = "debug" if verbose else "info"
    log: Log = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    return log
