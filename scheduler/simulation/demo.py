"""The demo as a play of processes: a world, a daemon beside it, and rivals on the spare cores.

The daemon is the real one, with its real extender; it is watched as a kubelet watches a pod, and
started anew three seconds after it ended before the world did. Every process that is started
here is ended here, also where the play breaks off.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from scheduler.simulation import worldserver
from scheduler.simulation.compare import TIDAL, Record
from scheduler.simulation.demorivals import RivalRun, RivalSearch
from scheduler.simulation.remote import RemoteWorld, WorldUnreachableError
from scheduler.simulation.run import Setup
from scheduler.simulation.worldserver import LOOPBACK, WorldGoneError, WorldProcess
from scheduler.simulation.worldservice import TIMELINE_BIN_SECONDS
from scheduler.simulation.worldwire import WorldProgress, WorldReport

LOOK_SECONDS = 0.5
RESTART_SECONDS = 3.0
STOP_SECONDS = 15.0
VAIN_STARTS = 3
"""Starts in a row in which the world did not move; then the fault will not go by itself."""
WRONG_USE = 2
FIRST_GUESS = 0.998
"""Of Tidal's attainment, while none of its requests was due."""


class DemoError(RuntimeError):
    """The demo cannot go on; the message says why, and where to look."""


class DemoPortError(OSError):
    """The port to listen on is taken."""


class Demo(msgspec.Struct, frozen=True, kw_only=True):
    """What is played; all files lie in the folder `out`, which exists."""

    setup: Setup
    seed: int
    out: Path
    api_port: int
    rivals: tuple[str, ...]
    """Of `demorivals.SETTINGS`."""

    @property
    def events(self) -> Path:
        """The event stream."""
        return self.out / "events.jsonl"

    @property
    def ledger(self) -> Path:
        """The daemon's ledger."""
        return self.out / "ledger.sqlite"

    @property
    def log(self) -> Path:
        """What the daemon says, one JSON object a line."""
        return self.out / "daemon.log"

    @property
    def policy(self) -> Path:
        """The policy that the daemon reads; an edit counts at once."""
        return self.out / "policy.yaml"


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """The play at one moment, for whoever shows it."""

    progress: WorldProgress
    wall_seconds: float
    daemon_pid: int | None
    """None while it is down."""


class Opened(msgspec.Struct, frozen=True):
    """Where everything is, so that a person may look at it, or kill it."""

    world_url: str
    api_url: str
    daemon_pid: int


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo came to."""

    report: WorldReport
    rivals: tuple[RivalRun, ...]
    """All runs of rivals."""
    chosen: dict[str, RivalRun]
    """Rival -> the run that counts."""
    restarts: int
    play_seconds: float
    """Wall time until the world ended."""
    wall_seconds: float


class Audience(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told what."""

    opened: Callable[[Opened], None]
    shown: Callable[[Scene], None]
    said: Callable[[str], None]
    """A line about something that happened."""


def play(demo: Demo, audience: Audience) -> Played:
    """Play the demo to its end.

    Raises `DemoError` where it cannot go on, `WorldGoneError` where the world ended early.
    """
    begun = time.monotonic()
    cores = len(os.sched_getaffinity(0))
    with ExitStack() as stack:
        world = worldserver.start(demo.setup, demo.seed, demo.events)
        stack.callback(world.stop)
        remote = RemoteWorld(world.url)
        stack.callback(remote.close)
        daemon = stack.enter_context(_Daemon(demo, world.url, audience.said))
        search = RivalSearch(demo.rivals, demo.setup, demo.seed, TIMELINE_BIN_SECONDS)
        stack.callback(search.stop)
        audience.opened(Opened(world.url, f"http://{LOOPBACK}:{demo.api_port}", daemon.pid or 0))
        for progress in _until_ended(world, remote):
            daemon.watch(progress.now_seconds)
            begins = progress.now_seconds == progress.start_seconds  # all cores are wanted
            search.pursue(_guess(progress), 0 if begins else cores - 1)
            audience.shown(
                Scene(
                    progress=progress,
                    wall_seconds=time.monotonic() - begun,
                    daemon_pid=daemon.pid,
                )
            )
        played = time.monotonic() - begun
        daemon.end()
        report = remote.report()
        record: Record = {"policy": TIDAL, **report.figures.record()}
        _finish(search, record, cores, audience.said)
        return Played(
            report=report,
            rivals=search.runs(),
            chosen=search.chosen(record),
            restarts=daemon.restarts,
            play_seconds=played,
            wall_seconds=time.monotonic() - begun,
        )


def _finish(
    search: RivalSearch, tidal: Record, processes: int, said: Callable[[str], None]
) -> None:
    """Run what the rivals still lack, now that Tidal's attainment is known."""
    search.drop_vain(tidal)
    if not search.pursue(tidal, processes):
        said("the world has ended; what lacks of the rivals is run")
    while not search.pursue(tidal, processes):
        time.sleep(LOOK_SECONDS)


def _guess(progress: WorldProgress) -> Record:
    """Return what is known of Tidal's attainment so far."""
    attained, worst = progress.slo_attainment, progress.slo_attainment_worst_model
    return {
        "slo_attainment": FIRST_GUESS if attained is None else attained,
        "slo_attainment_worst_model": FIRST_GUESS if worst is None else worst,
    }


def _until_ended(world: WorldProcess, remote: RemoteWorld) -> Iterator[WorldProgress]:
    """Yield how far the world is, now and then, the end not included."""
    while world.alive:
        try:
            progress = remote.progress()
        except WorldUnreachableError:
            break
        if progress.ended:
            return
        yield progress
        time.sleep(LOOK_SECONDS)
    raise WorldGoneError("the world ended early; its output is above")


def free_port(port: int) -> int:
    """Return `port`, or a free one for 0; raise `DemoPortError` where it is taken."""
    try:
        with socket.create_server((LOOPBACK, port)) as listener:
            found: int = listener.getsockname()[1]
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise DemoPortError(
            f"--port: cannot listen on {LOOPBACK}:{port} ({why}); choose another, or 0 for any"
        ) from None
    return found


class _Daemon:
    """The daemon's process, and whether it is to be started again."""

    def __init__(self, demo: Demo, world_url: str, said: Callable[[str], None]) -> None:
        self._command = [
            *(sys.executable, "-m", "scheduler.cli.main", "run"),
            *("--world", world_url, "--policy", str(demo.policy), "--ledger", str(demo.ledger)),
            *("--port", str(demo.api_port), "--extender-port", "0"),
        ]
        self._log_path = demo.log
        self._said = said
        self._process: subprocess.Popen[bytes] | None = None
        self._ended_at = 0.0
        self._vain = 0
        self._now_seconds: float | None = None
        self.restarts = 0

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._wait(self._process)

    @property
    def pid(self) -> int | None:
        """The process id, None while it is down."""
        return self._process.pid if self._process else None

    def watch(self, now_seconds: float) -> None:
        """Start the daemon again where it has ended; raise `DemoError` where that is vain."""
        if self._process is not None and self._process.poll() is not None:
            self._fell(self._process, now_seconds)
        elif self._process is None and time.monotonic() - self._ended_at >= RESTART_SECONDS:
            self._start()
            self.restarts += 1
            self._said(f"the daemon is started again, process {self.pid}")

    def end(self) -> None:
        """Wait for the daemon's own end, once the world has ended."""
        if self._process is not None:
            self._wait(self._process)
            self._process = None

    def _fell(self, process: subprocess.Popen[bytes], now_seconds: float) -> None:
        self._process, self._ended_at = None, time.monotonic()
        self._vain = self._vain + 1 if now_seconds == self._now_seconds else 0
        self._now_seconds = now_seconds
        if process.returncode == WRONG_USE or self._vain >= VAIN_STARTS:
            raise DemoError(
                f"the daemon ended with status {process.returncode}: {self._last_line()}; "
                f"see {self._log_path}"
            )
        wait = f"started again in {RESTART_SECONDS:.0f} s"
        self._said(f"the daemon is gone (status {process.returncode}); {wait}")

    def _start(self) -> None:
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603, our own command
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is the demo's, and the demo ends it
            )

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _last_line(self) -> str:
        lines = self._log_path.read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it said nothing"
