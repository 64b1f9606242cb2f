"""No program outlives the tests, however these end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.controlplane.programs import Guard, Program, StartError

ROOT = Path(__file__).parents[2]
STARTS_ONE = """
import sys, time
from pathlib import Path
from tests.controlplane.programs import Guard, Program
folder = Path(sys.argv[1])
folder.mkdir()
sleeper = Program("sleep", ["/bin/sleep", "300"], folder / "log", {}, Guard(folder))
print(sleeper.pid, flush=True)
time.sleep(300)
"""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_guard_ends_what_killed_tests_leave(tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-c", STARTS_ONE, str(tmp_path / "made")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        pid = int(tests.stdout.readline())
        assert is_alive(pid)
        tests.send_signal(how)
    deadline = time.monotonic() + 120
    while is_alive(pid) and not is_zombie(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while (tmp_path / "made").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_zombie(pid: int) -> bool:
    """Killed, but where nobody adopts orphans its entry stays in the process table."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_program_that_ends_early_shows_its_log(tmp_path: Path) -> None:
    guard = Guard(tmp_path)
    program = Program("sh", ["/bin/sh", "-c", "echo no luck"], tmp_path / "log", {}, guard)
    with pytest.raises(StartError, match=r"sh ended before luck\n.*\nno luck"):
        program.wait_until(lambda: False, 10, "luck")
    program.stop()
    guard.close()


def test_a_program_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    guard = Guard(tmp_path)
    program = Program("sleep", ["/bin/sleep", "300"], tmp_path / "log", {}, guard)
    with pytest.raises(StartError, match="no luck in 0 s"):
        program.wait_until(lambda: False, 0, "luck")
    program.stop()
    program.stop()
    assert not is_alive(program.pid)
    guard.close()
