"""The world over HTTP: time waits, calls may be repeated, the extender binds, the end is told."""

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from scheduler.apiserver.client import Api
from scheduler.extender import process as extender_process
from scheduler.planning.memory import Memory
from scheduler.planning.planner import plan
from scheduler.planning.snapshot import Snapshot
from scheduler.planning.standing import standing_of
from scheduler.ports import WorldEndedError
from scheduler.simulation import remote, worldserver
from scheduler.simulation import worldwire as wire
from scheduler.simulation.clusterfile import build
from scheduler.simulation.events import Event, Load
from scheduler.simulation.generated import generate
from scheduler.simulation.remote import RemoteWorld, WorldRefusedError, WorldUnreachableError
from scheduler.simulation.run import Setup
from scheduler.simulation.score import Score
from scheduler.simulation.worldfile import load_world
from scheduler.simulation.worldservice import WorldService
from tests.simulation import virtual

WARM_UP = 21600.0
HOUR = 3600.0
SETUP = Setup(
    world=load_world(),
    cluster=build(4),
    traces={"code": generate("code", 1.0, 1)},
    history_seconds=12 * HOUR,
    days=1 / 24,
    peak_share=0.5,
    demand_shares={},
    jobs=(virtual.job("one"), virtual.job("gang", pods=2, min_pods=2, max_pods=2)),
)
POLICY = SETUP.policy_for(1)


class Served:
    """A world served by threads of this process."""

    def __init__(self, quiet_seconds: float) -> None:
        self.service = WorldService(SETUP, 1, (), quiet_seconds)
        self.closing = threading.Event()
        opened: list[str] = []
        listening = threading.Event()

        def tell(url: str) -> None:
            opened.append(url)
            listening.set()

        self._thread = threading.Thread(
            target=worldserver.serve, args=(self.service, tell, self.closing)
        )
        self._thread.start()
        listening.wait()
        self.url = opened[0]
        self.world = RemoteWorld(self.url)

    def stop(self) -> None:
        self.world.close()
        self.closing.set()
        self._thread.join()


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served(quiet_seconds=600.0)
    yield made
    made.stop()


@pytest.fixture
def impatient() -> Iterator[Served]:
    made = Served(quiet_seconds=0.1)
    yield made
    made.stop()


def one_tick(world: RemoteWorld, extender: extender_process.ExtenderProcess | None) -> None:
    """Plan, publish where there is an extender, act."""
    seen = world.observe()
    planned, _ = plan(seen, Memory(), POLICY, "full")
    if extender is not None:
        extender.publish(standing_of(seen, planned, POLICY))
    world.reserve(planned.reservations, seen.epoch)
    outcomes = world.apply(planned.actions, seen.epoch)
    assert planned.actions
    assert all(outcome.applied for outcome in outcomes)


def test_time_moves_only_when_asked(served: Served) -> None:
    world = served.world
    assert world.observe() == world.observe()
    assert world.observe().now_seconds == -WARM_UP
    world.wait_until(-WARM_UP + 15)
    assert world.observe().now_seconds == -WARM_UP + 15
    world.wait_until(-WARM_UP)
    assert world.observe().now_seconds == -WARM_UP + 15


def test_a_plan_is_charged_once_however_often_it_is_said(served: Served) -> None:
    ask = wire.Advance(seconds=-WARM_UP, effort="full")
    first = served.service.advance(ask)
    assert first.now_seconds > -WARM_UP
    assert served.service.advance(ask) == first


def test_demand_is_asked_for_by_cursor_and_a_new_planner_gets_all(served: Served) -> None:
    world = served.world
    known = world.history()
    assert known
    assert all(s.start_seconds + s.width_seconds <= -WARM_UP for s in known)
    assert world.samples() == ()
    world.wait_until(-WARM_UP + 600)
    live = world.samples()
    assert {s.start_seconds for s in live} == {-WARM_UP, -WARM_UP + 300}
    assert world.samples() == ()
    other = RemoteWorld(served.url)
    assert other.history() == (*known, *live)
    other.close()


def test_an_action_applied_twice_is_dropped_the_second_time(served: Served) -> None:
    action = virtual.scale(1, 0)
    first, second = (served.world.apply((action,), 0) for _ in range(2))
    assert first[0].applied
    assert not second[0].applied
    assert second[0].action == action


def test_the_end_is_told_and_reported() -> None:
    made = Served(quiet_seconds=600.0)
    try:
        world = made.world
        with pytest.raises(WorldRefusedError, match="ask at its end"):
            world.report()
        one_tick(world, None)
        with pytest.raises(WorldEndedError):
            world.wait_until(HOUR + 1)
        report = world.report()
        assert world.progress().ended
        assert 0 < report.figures.tokens_served < report.figures.tokens_demanded
        assert report.unplanned_seconds == 0
        outcomes = world.apply((virtual.scale(9, 1),), 0)
        assert not outcomes[0].applied
        assert len(report.timeline.ready) == (WARM_UP + HOUR) / report.timeline.bin_seconds
    finally:
        made.stop()


def test_without_a_planner_time_runs_on_until_it_calls_again(impatient: Served) -> None:
    world = impatient.world
    assert impatient.service.progress().now_seconds == -WARM_UP  # nobody has called yet
    world.observe()
    while not world.progress().unplanned:
        pass
    while world.progress().now_seconds < -WARM_UP + 60:
        pass
    world.observe()
    assert not world.progress().unplanned


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("/nowhere", b"", "there is no /nowhere"),
        (wire.APPLY, b"\xc1", "/apply"),
        (wire.APPLY, msgspec.msgpack.encode({"actions": []}), "epoch"),
    ],
)
def test_a_wrong_call_is_refused_and_the_world_goes_on(
    served: Served, path: str, body: bytes, sentence: str
) -> None:
    status, content = served.world._exchange(path, body)  # noqa: SLF001, no typed call is wrong
    assert status in (400, 404)
    assert sentence in msgspec.msgpack.decode(content, type=wire.Refused).error
    assert not served.closing.is_set()
    served.world.observe()


@pytest.mark.parametrize("url", ["", "nonsense", "http://", "http://a", "ftp://a:1", "http://a:b"])
def test_a_wrong_address_is_named(url: str) -> None:
    with pytest.raises(ValueError, match=r"--world: .*give one like"):
        RemoteWorld(url)


def test_nobody_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "TRIES", 2)
    monkeypatch.setattr(remote, "PAUSE_SECONDS", 0.0)
    made = Served(quiet_seconds=600.0)
    made.stop()
    with pytest.raises(WorldUnreachableError, match="start the world"):
        RemoteWorld(made.url).observe()


def test_the_extender_places_pods_and_their_absence_is_ignored(served: Served) -> None:
    world = served.world
    extender = extender_process.start("127.0.0.1", 0, partial(Api.plain, served.url))
    try:
        world.register_extender(f"http://127.0.0.1:{extender.port}")
        one_tick(world, extender)
        world.wait_until(-WARM_UP + 15)
        seen = world.observe()
        before = world.progress()
        pods = [pod for replica in seen.replicas for pod in replica.pods if pod.node]
        pods += [pod for job in seen.jobs for pod in job.placed if pod.node]
        # an answer that a slow machine gives too late counts as none
        assert before.placed_by_extender + before.placed_by_default == len(pods)
        assert before.placed_by_extender > 0
        reserved = plan(served_at_start(), Memory(), POLICY, "full")[0].reservations
        nodes = {node for r in reserved for node, _ in r.parts}
        assert sum(pod.node in nodes for pod in pods) >= before.placed_by_extender
    finally:
        extender.stop()
    role = next(role for role in seen.roles if role.key == virtual.DECODE)
    world.apply((virtual.scale(role.replicas + 1, role.replicas),), seen.epoch)
    world.wait_until(-WARM_UP + 30)
    after = world.progress()
    assert after.placed_by_default == before.placed_by_default + 1
    assert after.placed_by_extender == before.placed_by_extender


def served_at_start() -> Snapshot:
    """What a world of the same seed shows first."""
    return WorldService(SETUP, 1).observe()


def test_without_an_extender_a_gang_stays_gated(served: Served) -> None:
    world = served.world
    world.apply((virtual.start("one"), virtual.start("gang", pods=2)), 0)
    world.wait_until(-WARM_UP + 60)
    jobs = {job.id: job for job in world.observe().jobs}
    assert all(pod.node for pod in jobs["one"].placed)
    assert not any(pod.node for pod in jobs["gang"].placed)
    assert jobs["gang"].placed


def test_a_world_in_a_process_writes_the_events_that_its_report_sums(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    running = worldserver.start(SETUP, 1, events)
    try:
        world = RemoteWorld(running.url)
        one_tick(world, None)
        with pytest.raises(WorldEndedError):
            world.wait_until(HOUR + 1)
        report = world.report()
        world.close()
    finally:
        running.stop()
    assert not running.alive
    decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
    stream = [decoder.decode(line) for line in events.read_bytes().splitlines()]
    again = Score(SETUP.world.step_seconds, HOUR)
    for event in stream:
        again(event)
    assert again.figures() == report.figures
    arrived = sum(event.arrived for event in stream if isinstance(event, Load))
    width = report.timeline.bin_seconds
    assert sum(report.timeline.demand_tokens_per_second["code"]) * width == pytest.approx(arrived)
