"""The API over real HTTP on loopback, fed with a tick of the real planner."""

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scheduler.adapters.ledger import open_ledger
from scheduler.daemon.api import Api, ApiPortError, ApiServer
from scheduler.daemon.documents.shapes import Facts
from scheduler.daemon.tick import Progress
from scheduler.ports import Tick
from tests.fixtures.ticks import busy_tick, tampered

LOOPBACK = "127.0.0.1"


class Hand:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Running:
    """A served API with its parts."""

    def __init__(self, api: Api, server: ApiServer, clock: Hand) -> None:
        self.api, self.server, self.clock = api, server, clock

    def get(self, path: str) -> tuple[int, str]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://{LOOPBACK}:{self.server.port}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def document(self, path: str) -> Any:  # noqa: ANN401
        code, body = self.get(path)
        assert code == 200, body
        return json.loads(body)

    def failure(self, path: str) -> tuple[int, str]:
        code, body = self.get(path)
        (message,) = json.loads(body).values()
        return code, message


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Running]:
    """An API before its first tick."""
    clock = Hand()
    with open_ledger(tmp_path / "ledger") as ledger:
        tick = busy_tick()
        ledger.record(tick)
        ledger.record(tampered(busy_tick_of(8), lendable_gpus=5))
        api = Api(ledger, lambda: Facts(extender_port=9331), clock=clock)
        server = ApiServer(api, LOOPBACK, 0)
        yield Running(api, server, clock)
        server.stop()


def busy_tick_of(number: int) -> Tick:
    return msgspec.structs.replace(busy_tick(), number=number)


@pytest.fixture
def running(silent: Running) -> Running:
    """An API after tick 7."""
    silent.api.publish(Progress(number=8, last=busy_tick(), full_seconds=9_940.0))
    return silent


def test_before_the_first_tick_there_is_nothing_to_tell(silent: Running) -> None:
    for path in ("/v1/status", "/v1/plan", "/v1/forecast/chat", "/v1/explain/n0", "/metrics"):
        assert silent.failure(path) == (503, "tick: the first is not done yet; ask again shortly")
    assert silent.get("/healthz") == (200, "ok\n")


def test_the_status_joins_the_tick_and_the_process(running: Running) -> None:
    running.clock.seconds = 4.0
    shown = running.document("/v1/status")
    assert (shown["schema"], shown["tick"]) == ("tidal.status/1", 7)
    assert (shown["plan_age_seconds"], shown["full_plan_age_seconds"]) == (4.0, 60.0)
    assert shown["extender_port"] == 9331


def test_the_newest_progress_is_answered(running: Running) -> None:
    running.api.publish(Progress(number=9, last=busy_tick_of(8)))
    assert running.document("/v1/status")["tick"] == 8


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/v1/forecast/chat", "tidal.forecast/2"),
        ("/v1/plan", "tidal.plan/1"),
        ("/v1/explain/chat/decode", "tidal.explain/1"),
        ("/v1/explain/chat%2Fdecode", "tidal.explain/1"),
        ("/v1/explain/job/a-0", "tidal.explain/1"),
        ("/v1/ledger/ticks", "tidal.ticks/1"),
        ("/v1/replay/7", "tidal.replay/1"),
    ],
)
def test_every_document_names_its_schema(running: Running, path: str, schema: str) -> None:
    assert running.document(path)["schema"] == schema


def test_metrics_have_their_own_type(running: Running) -> None:
    code, body = running.get("/metrics")
    assert code == 200
    assert body.startswith("# TYPE tidal_")


@pytest.mark.parametrize(
    ("query", "numbers"),
    [("", [7]), ("?last=8", [7, 8]), ("?first=8&last=9", [8])],
)
def test_the_ledger_lists_its_ticks(running: Running, query: str, numbers: list[int]) -> None:
    ticks = running.document(f"/v1/ledger/ticks{query}")["ticks"]
    assert [tick["number"] for tick in ticks] == numbers
    assert ticks[0]["applied"] == ticks[0]["actions"] == 3


def test_a_replay_finds_what_was_changed_in_the_ledger(running: Running) -> None:
    assert running.document("/v1/replay/7")["differences"] == []
    (difference,) = running.document("/v1/replay/8")["differences"]
    assert difference["path"] == "plan.lendable_gpus"


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("/v1/forecast/chut", 404, "known models: chat"),
        ("/v1/explain/chat/decod", 404, "near: chat/decode"),
        ("/v1/replay/99", 404, "tick 99 is not in the ledger; it holds 7 to 8"),
        ("/v1/replay/seven", 400, "tick: 'seven' is no whole number; give one"),
        ("/v1/replay/-1", 400, "tick: '-1' is no whole number; give one"),
        ("/v1/replay/" + "9" * 40, 400, "is no whole number"),
        ("/v1/ledger/ticks?last=x", 400, "last: 'x' is no whole number; give one"),
        ("/v1/ledger/ticks?first=9&last=8", 400, "first: 9 to last 8; give 1 to 1000 ticks"),
        ("/v1/ledger/ticks?first=0&last=1000", 400, "give 1 to 1000 ticks"),
        ("/v2/status", 404, "path: /v2/status: Not Found"),
    ],
)
def test_errors_are_one_line_that_names_the_field(
    running: Running, path: str, code: int, words: str
) -> None:
    found, message = running.failure(path)
    assert found == code
    assert words in message
    assert "\n" not in message


def test_a_daemon_without_ticks_is_not_healthy(running: Running) -> None:
    running.clock.seconds = 300.0
    assert running.get("/healthz") == (200, "ok\n")
    running.clock.seconds = 301.0
    assert running.failure("/healthz") == (503, "tick: none for 301 s; restart the daemon")


def test_a_port_in_use_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    with (
        open_ledger(tmp_path / "ledger") as ledger,
        socket.create_server((LOOPBACK, 0)) as taken,
    ):
        port = taken.getsockname()[1]
        before = threading.active_count()
        with pytest.raises(ApiPortError, match=f"--port: cannot listen on {LOOPBACK}:{port} "):
            ApiServer(Api(ledger), LOOPBACK, port)
        assert threading.active_count() == before


def test_after_stop_nobody_answers(running: Running) -> None:
    running.server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOOPBACK, running.server.port), timeout=60)
