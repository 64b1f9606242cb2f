"""The job's sidecar: files to annotations and back, with the rights of its own pod only."""

import os
import threading
from pathlib import Path

import pytest

from scheduler.cli.jobagent import JobAgent, run
from scheduler.cli.main import main
from tests.fixtures.memoryapi import MemoryApi, refusal

PODS = "/api/v1/namespaces/team/pods"
CHECKPOINT = "tidal.dev/last-checkpoint"
STARTED = "tidal.dev/checkpoint-started"
DEADLINE = "tidal.dev/notice-deadline"
ACKNOWLEDGED = "tidal.dev/notice-acknowledged"
NOON, LATER = "2026-01-01T12:00:00Z", "2026-01-01T18:00:00Z"


class World:
    def __init__(self, folder: Path) -> None:
        self.api = MemoryApi()
        self.api.post(PODS, {"metadata": {"name": "train-0", "annotations": {"mine": "x"}}})
        self.api.calls.clear()
        self.folder = folder
        self.agent = JobAgent(self.api, "team", "train-0", folder)

    def annotations(self) -> dict[str, str]:
        return dict(self.api.objects[f"{PODS}/train-0"]["metadata"]["annotations"])

    def notify(self, deadline: str | None) -> None:
        body = {"metadata": {"annotations": {DEADLINE: deadline}}}
        self.api.patch(f"{PODS}/train-0", body, "merge")

    def touch(self, name: str, at: float | None = None) -> None:
        file = self.folder / name
        file.touch()
        if at is not None:
            os.utime(file, (at, at))

    def shown(self) -> str | None:
        file = self.folder / "notice"
        return file.read_text() if file.exists() else None


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_checkpoint_is_told_once(world: World) -> None:
    assert world.agent.step(read_pod=True) == ""
    assert world.annotations() == {"mine": "x"}
    world.touch("checkpoint", 1_700_000_000.75)
    for _ in range(3):
        world.agent.step(read_pod=False)
    assert world.annotations() == {"mine": "x", CHECKPOINT: "2023-11-14T22:13:20Z"}
    world.touch("checkpoint", 1_700_000_060.0)
    world.agent.step(read_pod=True)
    assert world.annotations()[CHECKPOINT] == "2023-11-14T22:14:20Z"
    assert [method for method, _ in world.api.calls] == ["GET", "PATCH", "GET", "PATCH"]


def test_a_checkpoint_that_begins_is_told_too(world: World) -> None:
    world.touch("checkpoint-started", 1_700_000_000.0)
    world.agent.step(read_pod=True)
    assert world.annotations() == {"mine": "x", STARTED: "2023-11-14T22:13:20Z"}
    world.touch("checkpoint", 1_700_000_030.0)
    world.agent.step(read_pod=False)
    assert world.annotations()[CHECKPOINT] == "2023-11-14T22:13:50Z"


def test_a_notice_is_shown_and_its_acknowledgement_told(world: World) -> None:
    world.notify(NOON)
    world.agent.step(read_pod=True)
    assert world.shown() == f"{NOON}\n"
    assert ACKNOWLEDGED not in world.annotations()
    world.touch("acknowledged")
    world.agent.step(read_pod=False)
    assert world.annotations()[ACKNOWLEDGED] == NOON


def test_an_old_acknowledgement_is_none_of_a_new_notice(world: World) -> None:
    world.touch("acknowledged", 1_700_000_000.0)
    world.notify(NOON)
    world.agent.step(read_pod=True)
    assert ACKNOWLEDGED not in world.annotations()


def test_a_later_notice_is_acknowledged_anew(world: World) -> None:
    world.notify(NOON)
    world.agent.step(read_pod=True)
    world.touch("acknowledged")
    world.agent.step(read_pod=True)
    os.utime(world.folder / "acknowledged", (1_700_000_000, 1_700_000_000))
    world.notify(LATER)
    world.agent.step(read_pod=True)
    assert world.shown() == f"{LATER}\n"
    assert world.annotations()[ACKNOWLEDGED] == NOON
    world.touch("acknowledged")
    world.agent.step(read_pod=True)
    assert world.annotations()[ACKNOWLEDGED] == LATER


def test_a_notice_that_is_withdrawn_goes(world: World) -> None:
    world.notify(NOON)
    world.agent.step(read_pod=True)
    world.notify(None)
    world.agent.step(read_pod=True)
    assert world.shown() is None
    assert list(world.folder.iterdir()) == []


def test_an_agent_that_starts_again_shows_the_same_notice(world: World) -> None:
    world.notify(NOON)
    world.agent.step(read_pod=True)
    before = (world.folder / "notice").stat().st_mtime_ns
    world.touch("acknowledged")
    JobAgent(world.api, "team", "train-0", world.folder).step(read_pod=True)
    assert (world.folder / "notice").stat().st_mtime_ns == before
    assert world.annotations()[ACKNOWLEDGED] == NOON


def test_what_fails_is_said_and_done_later(world: World) -> None:
    def forbid(method: str, _path: str) -> None:
        if method == "PATCH":
            raise refusal(403, "pods is forbidden")

    world.agent.step(read_pod=True)
    world.touch("checkpoint", 1_700_000_000.0)
    world.api.before = forbid
    assert "pods is forbidden" in world.agent.step(read_pod=False)
    world.api.away()
    assert world.agent.step(read_pod=False) == ""
    assert CHECKPOINT in world.annotations()


def test_a_pod_that_cannot_be_read_at_first_is_read_later(world: World) -> None:
    world.api.away("GET")
    assert "refused" in world.agent.step(read_pod=True)
    world.api.away()
    world.touch("checkpoint", 1_700_000_000.0)
    world.agent.step(read_pod=False)
    assert CHECKPOINT in world.annotations()


def test_an_agent_whose_pod_is_gone_ends(world: World) -> None:
    def gone(_method: str, _path: str) -> None:
        raise refusal(404, "pods train-0 not found")

    world.api.before = gone
    run(world.agent, threading.Event())
    assert world.agent.gone


def test_a_stop_looks_once_more(world: World) -> None:
    stopped = threading.Event()
    stopped.set()
    world.touch("checkpoint", 1_700_000_000.0)
    run(world.agent, stopped)
    assert CHECKPOINT in world.annotations()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "--namespace: is missing; set POD_NAMESPACE from the downward API"),
        (("--namespace", "team"), "--pod: is missing; set POD_NAME from the downward API"),
        (
            ("--namespace", "team", "--pod", "p", "--directory", "/nowhere"),
            "--directory: /nowhere is no folder; mount an emptyDir there",
        ),
    ],
)
def test_wrong_use_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    argv: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.delenv("POD_NAMESPACE", raising=False)
    monkeypatch.delenv("POD_NAME", raising=False)
    assert main(("job-agent", *argv)) == 2
    assert words in capsys.readouterr().err
