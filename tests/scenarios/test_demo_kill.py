"""The demo's real processes, its daemon killed again and again: nothing is done twice or lost."""

import os
import signal
from collections import defaultdict
from pathlib import Path

import msgspec
import pytest
import yaml

from scheduler.adapters.ledger import open_ledger
from scheduler.planning.actions import StopJob
from scheduler.ports import Outcome
from scheduler.simulation import demo as simulation_demo
from scheduler.simulation.clusterfile import build
from scheduler.simulation.demo import Audience, Demo, Opened, Played, Scene, free_port, play
from scheduler.simulation.events import Event, JobLine, ReplicaLine
from scheduler.simulation.generated import generate
from scheduler.simulation.run import Setup
from scheduler.simulation.worldfile import load_world
from tests.fixtures.calm import calm

pytestmark = pytest.mark.xdist_group("demo_kill")  # one play for all

HOUR = 3600.0
KILL_AT = (-4.5 * HOUR, -1.5 * HOUR)
"""The second kill is followed by one of the daemon that has just been started."""
SETUP = Setup(
    world=load_world(),
    cluster=build(6),
    traces={model: generate(model, 1.0, 3) for model in ("code", "reason")},
    history_seconds=6 * HOUR,
    days=1 / 24,
    peak_share=0.6,
    demand_shares={},
    jobs=None,
)


class Killer:
    """Watches the demo, and kills its daemon at set times."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.killed: list[int] = []
        self.opened: Opened | None = None
        self._due = list(KILL_AT)
        self._again = False

    def shown(self, scene: Scene) -> None:
        pid = scene.daemon_pid
        if pid is None or pid in self.killed:
            return
        now = scene.progress.now_seconds
        if self._again or (self._due and now >= self._due[0]):
            self._again = not self._again and self._due.pop(0) == KILL_AT[1]
            self.killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    def open(self, opened: Opened) -> None:
        self.opened = opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def demo(folder: Path) -> Demo:
    made = Demo(setup=SETUP, seed=1, out=folder, api_port=free_port(0), rivals=())
    made.policy.write_text(yaml.safe_dump(calm(SETUP).model_dump(mode="json")))
    return made


@pytest.fixture(scope="module")
def killer() -> Killer:
    return Killer()


@pytest.fixture(scope="module")
def played(demo: Demo, killer: Killer) -> Played:
    audience = Audience(opened=killer.open, shown=killer.shown, said=killer.said.append)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(simulation_demo, "RESTART_SECONDS", 0.5)
        return play(demo, audience)


@pytest.fixture(scope="module")
def events(played: Played, demo: Demo) -> list[Event]:
    decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
    return [decoder.decode(line) for line in demo.events.read_bytes().splitlines()]


def test_it_goes_on_to_the_end(played: Played, killer: Killer) -> None:
    assert len(killer.killed) == len(KILL_AT) + 1
    assert played.restarts == len(killer.killed)
    assert played.report.violations == ()
    assert played.report.figures.violations == 0
    assert sum("is gone" in line for line in killer.said) == len(killer.killed)
    assert sum("started again" in line for line in killer.said) >= len(killer.killed)


def test_the_forecaster_goes_on_from_what_it_had_learnt(played: Played, demo: Demo) -> None:
    whole = (  # a killed process may leave half a line, or a traceback
        line for line in demo.log.read_bytes().splitlines() if line[:1] + line[-1:] == b"{}"
    )
    events = [msgspec.json.decode(line)["event"] for line in whole]
    assert events.count("forecast_state_restored") >= len(KILL_AT)
    assert "forecast_state_refused" not in events
    assert "forecast_state_not_saved" not in events


def test_no_process_is_left(played: Played, killer: Killer, demo: Demo) -> None:
    for pid in killer.killed:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert free_port(demo.api_port) == demo.api_port


def test_no_run_of_a_job_is_stopped_twice(events: list[Event], demo: Demo, played: Played) -> None:
    states: dict[str, list[str]] = defaultdict(list)
    for event in events:
        if isinstance(event, JobLine) and states[event.id][-1:] != [event.state]:
            states[event.id].append(event.state)
    stops = 0
    for passed in states.values():
        for at, state in enumerate(passed):
            if state == "stopped":
                stops += 1
                assert passed[at - 1] in ("running", "notified")
                assert passed[at + 1 : at + 2] in ([], ["queued"])
    assert stops > 0
    applied = [
        (outcome.action.job, outcome.action.expected_attempt)
        for outcome in outcomes(demo)
        if outcome.applied and isinstance(outcome.action, StopJob)
    ]
    assert len(set(applied)) == len(applied) > 0


def test_no_replica_is_lost(events: list[Event]) -> None:
    last: dict[str, ReplicaLine] = {}
    drained = 0
    for event in events:
        if not isinstance(event, ReplicaLine):
            continue
        if event.state == "gone":
            before = last[event.id]
            assert before.state == "draining" or not before.gpus
            drained += before.state == "draining"
        last[event.id] = event
    assert drained > 0
    assert any(line.state == "ready" for line in last.values())


def test_the_ledger_shows_the_gaps(demo: Demo, played: Played) -> None:
    with open_ledger(demo.ledger) as ledger:
        gaps = ledger.gaps()
        numbers = [line.number for line in ledger.ticks(0, 10**6)]
    # a daemon that was killed before its first tick leaves no trace to end
    assert len(KILL_AT) <= len(gaps) <= len(KILL_AT) + 1
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 300


def outcomes(demo: Demo) -> list[Outcome]:
    with open_ledger(demo.ledger) as ledger:
        acted = [line.number for line in ledger.ticks(0, 10**6) if line.actions]
        return [outcome for number in acted for outcome in ledger.tick(number).outcomes]
