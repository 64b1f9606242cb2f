"""`scalerctl run` as a process: its children are killed, its policy is spoilt, and it is ended."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from scheduler.adapters.ledger import open_ledger
from scheduler.cli.main import main
from scheduler.simulation import worldserver
from scheduler.simulation.clusterfile import build
from scheduler.simulation.generated import generate
from scheduler.simulation.remote import RemoteWorld
from scheduler.simulation.run import Setup
from scheduler.simulation.worldfile import load_world
from tests.fixtures.calm import calm

ROOT = Path(__file__).parents[2]
HOUR = 3600.0
LOOK_SECONDS = 0.05  # whoever looks without pause takes the world's time from the daemon
SETUP = Setup(
    world=load_world(),
    cluster=build(4),
    traces={"code": generate("code", 2.0, 1)},
    history_seconds=6 * HOUR,
    days=1.0,
    peak_share=0.6,
    demand_shares={},
    jobs=None,
)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(calm(SETUP).model_dump(mode="json")))
    return path


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RemoteWorld]:
    running = worldserver.start(SETUP, 1, tmp_path / "events.jsonl")
    remote = RemoteWorld(running.url)
    yield remote
    remote.close()
    running.stop()


def passed(world: RemoteWorld, seconds: float) -> None:
    """Wait until so much more of the world's time has passed."""
    until = world.progress().now_seconds + seconds
    while world.progress().now_seconds < until:
        threading.Event().wait(LOOK_SECONDS)


def status(line: str) -> dict[str, Any]:
    address = urlsplit(json.loads(line)["api"])
    connection = HTTPConnection(address.hostname or "", address.port, timeout=60)
    connection.request("GET", "/v1/status")
    found: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return found


def workers(pid: int) -> list[int]:
    """The planner's and the extender's processes."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def test_it_lives_through_the_loss_of_its_children_and_of_its_policy(
    world: RemoteWorld, policy: Path, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger.sqlite"
    command = [
        *(sys.executable, "-m", "scheduler.cli.main", "run", "--world", world.url),
        *("--policy", str(policy), "--ledger", str(ledger)),
        *("--port", "0", "--extender-port", "0", "--verbose"),
    ]
    log = tmp_path / "log"
    with log.open("wb") as file, subprocess.Popen(command, cwd=ROOT, stderr=file) as daemon:
        passed(world, 600)
        started = log.read_text().splitlines()[0]
        assert status(started)["worker_failures"] == 0
        mine = workers(daemon.pid)
        assert len(mine) == 2
        for pid in mine:
            os.kill(pid, signal.SIGKILL)
        passed(world, 600)
        placed = world.progress().placed_by_extender
        policy.write_text("version: 1\nmode: wrong\n")
        passed(world, 3 * HOUR)
        seen = status(started)
        daemon.send_signal(signal.SIGTERM)
    assert daemon.returncode == 0
    assert seen["worker_failures"] >= 1
    assert any("mode" in line for line in seen["policy_errors"])
    assert world.progress().placed_by_extender > placed > 0
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events.count("extender_gone") == 1
    assert events[-1] == "stopped"
    assert {"tick", "acted"} <= set(events)
    assert workers_gone(mine)
    with open_ledger(ledger) as stored:
        assert stored.gaps() == ()
        assert len(stored.ticks(0, 10**6)) > 100


def workers_gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--world", "nonsense"], "--world: 'nonsense' is no address"),
        (["--policy", "none.yaml"], "--policy: none.yaml: cannot be read"),
        (["--ledger", "policy.yaml"], "--ledger: policy.yaml is no ledger"),
        (["--port", "65536"], "--port: '65536' is no port"),
        (["--extender-port", "x"], "--extender-port: 'x' is no port"),
        (["--fast"], "--fast: is not known here"),
    ],
)
def test_a_daemon_that_cannot_start_says_why_in_one_line(
    policy: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(policy.parent)
    good = ["--world", "http://127.0.0.1:1", "--policy", "policy.yaml", "--ledger", "ledger"]
    assert main(["run", *good, *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"scalerctl: {sentence}")
    assert len(said.err.splitlines()) == 1
