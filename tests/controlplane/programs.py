"""One program of the control plane as a process: started with a log file, ended by its pid.

A program lives in a session of its own, so that Ctrl-C reaches the tests only, and these end their
programs in order. Should the tests themselves be killed, the guard ends what they left.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

POLL_SECONDS = 0.02
TAIL_LINES = 20


class StartError(Exception):
    """Why a program did not come up, with the end of its log."""


class Program:
    """A running program. `command[0]` is the path of its binary."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        guard: "Guard",
    ) -> None:
        self.name = name
        self._guard = guard
        self.log = log
        self._known_bytes = 0
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self._guard.watch(self.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def status(self) -> int | None:
        """What it ended with, None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """SIGKILL, as a crash does it: nothing that a program of the tests holds is worth a wait
        (an API server takes five seconds to close its watches). Ended already: nothing.
        """
        self._process.kill()
        self._process.wait()
        self._guard.forget(self.pid)

    def wait_until(self, ready: Callable[[], bool], timeout_seconds: float, what: str) -> None:
        """Waits for a condition. Raises StartError when the program ends first, or at the end."""
        deadline = time.monotonic() + timeout_seconds
        while not ready():
            if not self.running:
                raise StartError(f"{self.name} ended before {what}\n{self.tail()}")
            if time.monotonic() > deadline:
                raise StartError(f"no {what} in {timeout_seconds:.0f} s\n{self.tail()}")
            time.sleep(POLL_SECONDS)

    def tail(self) -> str:
        """The last lines of its log, under the log's name."""
        return "\n".join([f"--- {self.log}", *_last(self.log.read_bytes())])

    def read(self) -> None:
        """What its log holds now is no news any more."""
        self._known_bytes = self.log.stat().st_size

    def news(self) -> str:
        """The last lines of its log that came since `read`."""
        return "\n".join(_last(self.log.read_bytes()[self._known_bytes :]))


def _last(log: bytes) -> list[str]:
    return log.decode(errors="replace").splitlines()[-TAIL_LINES:]


class Guard:
    """A process that outlives this one by a moment: it kills the programs which this one left
    behind, and removes their folder.

    It reads `+PID` and `-PID` lines; its input ends when this process does, however it dies.
    """

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def watch(self, pid: int) -> None:
        self._tell(f"+{pid}\n")

    def forget(self, pid: int) -> None:
        self._tell(f"-{pid}\n")

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()

    def close(self) -> None:
        """Ends the guard, and with it every program that is still watched, and the folder."""
        self._process.communicate()


def stand_guard(folder: str) -> None:
    """What the guard does: follow the lines, then kill who is left, the newest first."""
    watched: dict[int, None] = {}
    for line in sys.stdin:
        pid = int(line[1:])
        if line.startswith("+"):
            watched[pid] = None
        else:
            watched.pop(pid, None)
    for pid in reversed(watched):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    stand_guard(sys.argv[1])
