import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import urllib3
from kubernetes.client import Configuration

from scheduler.apiserver.client import Api
from scheduler.apiserver.objects import ConfigMap
from scheduler.apiserver.reflector import PAGE_OBJECTS, Pace, Reflector
from tests.apiserver.served import Answer, Request, Served, status, until

PATH = "/api/v1/configmaps"
PACE = Pace(first_seconds=0.01, longest_seconds=0.02, refused_seconds=0.02)
SLOW = Pace(first_seconds=600.0, longest_seconds=600.0, refused_seconds=600.0)
Start = Callable[..., Reflector[ConfigMap]]


class Kept(Api):
    """A client that keeps the responses of its watches."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        self.responses: list[urllib3.BaseHTTPResponse] = []

    def _send(self, *asked: Any, stream: bool) -> urllib3.BaseHTTPResponse:  # noqa: ANN401
        response = super()._send(*asked, stream=stream)
        if stream:
            self.responses.append(response)
        return response


@pytest.fixture
def served() -> Iterator[Served]:
    with Served() as one:
        one.serve(PATH)
        yield one


@pytest.fixture
def start(served: Served) -> Iterator[Start]:
    api = Api(Configuration(host=served.url))
    started: list[Reflector[ConfigMap]] = []

    def begin(pace: Pace = PACE, **options: Any) -> Reflector[ConfigMap]:  # noqa: ANN401
        one = Reflector(api, PATH, ConfigMap, pace=pace, chance=lambda: 0.0, **options)
        started.append(one)
        one.start()
        return one

    yield begin
    for one in started:
        one.stop()
    api.close()


def names(reflector: Reflector[ConfigMap]) -> list[str]:
    return [f"{one.metadata.namespace}/{one.metadata.name}" for one in reflector.items()]


def value(reflector: Reflector[ConfigMap], name: str) -> str:
    return {one.metadata.name: one.data.get("v", "") for one in reflector.items()}.get(name, "")


def test_lists_then_follows(served: Served, start: Start) -> None:
    served.put(PATH, "b/two")
    served.put(PATH, "a/one", data={"v": "1"})
    reflector = start()
    until(lambda: names(reflector) == ["a/one", "b/two"])
    served.put(PATH, "a/one", data={"v": "2"})
    served.put(PATH, "a/zero")
    served.remove(PATH, "b/two")
    until(lambda: names(reflector) == ["a/one", "a/zero"])
    assert value(reflector, "one") == "2"
    assert (reflector.synced, reflector.relists, reflector.problem) == (True, 0, "")
    assert len(served.asked("list")) == 1


def test_items_are_the_same_tuple_until_something_changes(served: Served, start: Start) -> None:
    served.put(PATH, "a/one")
    reflector = start()
    until(lambda: reflector.synced)
    before = reflector.items()
    assert reflector.items() is before
    served.put(PATH, "a/one")
    until(lambda: reflector.items() is not before)


def test_a_long_list_comes_in_pages(served: Served, start: Start) -> None:
    for number in range(PAGE_OBJECTS + 1):
        served.put(PATH, f"a/{number:04}")
    reflector = start()
    until(lambda: reflector.synced)
    assert len(reflector.items()) == PAGE_OBJECTS + 1
    first, second = served.asked("list")
    assert (first.query["limit"], "continue" in first.query) == (str(PAGE_OBJECTS), False)
    assert "continue" in second.query


def test_an_empty_list_is_in_sync(served: Served, start: Start) -> None:
    reflector = start()
    until(lambda: reflector.synced)
    assert reflector.items() == ()


def test_a_list_that_expires_half_way_starts_over(served: Served, start: Start) -> None:
    for number in range(PAGE_OBJECTS + 1):
        served.put(PATH, f"a/{number:04}")
    seen: list[int] = []
    reflectors: list[Reflector[ConfigMap]] = []

    def expire(request: Request) -> None:
        if reflectors:
            seen.append(len(reflectors[0].items()))
        if "continue" in request.query and len(served.asked("list")) < 6:
            served.forget()

    served.before_page = expire
    reflectors.append(start())
    until(lambda: reflectors[0].synced)
    assert len(reflectors[0].items()) == PAGE_OBJECTS + 1
    # Two paged tries, each of two requests, then all at once; no half list was ever served.
    assert ["limit" in one.query for one in served.asked("list")] == [True] * 4 + [False]
    assert set(seen) <= {0}


def test_what_is_dropped_stays_away_and_leaves_when_it_changes(
    served: Served, start: Start
) -> None:
    served.put(PATH, "a/in", data={"v": "keep"})
    served.put(PATH, "a/out")
    changes: list[None] = []
    keep = lambda item: item if item.data else None  # noqa: E731
    reflector = start(keep=keep, on_change=lambda: changes.append(None))
    until(lambda: names(reflector) == ["a/in"])
    served.put(PATH, "a/out")
    served.remove(PATH, "a/out")
    served.put(PATH, "a/new", data={"v": "keep"})
    until(lambda: names(reflector) == ["a/in", "a/new"])
    until(lambda: len(changes) >= 2)  # told a moment after the item is there
    assert len(changes) == 2  # the list, and a/new: nothing is told of what is not kept
    served.put(PATH, "a/in")
    until(lambda: names(reflector) == ["a/new"])


def test_it_goes_on_where_the_stream_ended(served: Served, start: Start) -> None:
    reflector = start()
    until(lambda: served.watching == 1)
    served.put(PATH, "a/one")
    until(lambda: names(reflector) == ["a/one"])
    for turn, end in enumerate((served.end_watches, served.cut_watches)):
        end()
        until(lambda turn=turn: len(served.asked("watch")) == turn + 2)  # type: ignore[misc]
        served.put(PATH, "a/meanwhile", data={"v": str(turn)})
        until(lambda turn=turn: value(reflector, "meanwhile") == str(turn))  # type: ignore[misc]
    assert len(served.asked("list")) == 1
    assert [one.query["resourceVersion"] for one in served.asked("watch")] == ["100", "101", "102"]


def test_a_bookmark_moves_the_version(served: Served, start: Start) -> None:
    reflector = start()
    until(lambda: served.watching == 1)
    version = served.bookmark(PATH)
    served.put("/api/v1/other", "x")
    served.end_watches()
    until(lambda: len(served.asked("watch")) == 2)
    assert served.asked("watch")[1].query["resourceVersion"] == version
    assert (reflector.items(), reflector.relists) == ((), 0)


@pytest.mark.parametrize(
    "refusal",
    [
        None,
        Answer(410, status(410, "Expired", "too old resource version")),
        Answer(504, status(504, "Timeout", "Too large resource version: 9, current: 1")),
    ],
)
def test_an_expired_version_leads_to_a_new_list(
    served: Served, start: Start, refusal: Answer | None
) -> None:
    served.put(PATH, "a/gone")
    served.put(PATH, "a/stays")
    reflector = start()
    until(lambda: served.watching == 1)
    if refusal:
        served.refuse("watch", refusal)
    served.stop()
    served.remove(PATH, "a/gone")
    served.put(PATH, "a/new")
    served.forget()
    served.start()
    until(lambda: names(reflector) == ["a/new", "a/stays"])
    assert reflector.relists == 1


def test_another_error_in_the_stream_leads_to_a_new_list(served: Served, start: Start) -> None:
    reflector = start()
    until(lambda: served.watching == 1)
    served.say(PATH, {"type": "ERROR", "object": json.loads(status(500, "InternalError", "x"))})
    until(lambda: reflector.relists == 1)
    until(lambda: reflector.problem == "")


def test_a_watch_that_is_left_in_the_middle_gives_its_connection_up(served: Served) -> None:
    api = Kept(Configuration(host=served.url))
    reflector = Reflector(api, PATH, ConfigMap, pace=PACE)
    reflector.start()
    until(lambda: served.watching == 1)
    served.say(PATH, {"type": "ERROR", "object": json.loads(status(500, "InternalError", "x"))})
    until(lambda: len(api.responses) == 2)
    assert api.responses[0].closed
    reflector.stop()
    api.close()


def test_while_the_server_is_away_the_old_items_stay_and_age(served: Served, start: Start) -> None:
    served.put(PATH, "a/one")
    reflector = start()
    assert reflector.age_seconds > 0
    until(lambda: served.watching == 1)
    until(lambda: reflector.age_seconds == 0)
    served.stop()
    until(lambda: reflector.age_seconds > 0 and "refused" in reflector.problem)
    assert names(reflector) == ["a/one"]
    served.start()
    until(lambda: reflector.age_seconds == 0 and reflector.problem == "")
    assert reflector.relists == 0


@pytest.mark.parametrize(("code", "reason"), [(403, "Forbidden"), (404, "NotFound")])
def test_a_refusal_is_told_and_tried_again(
    served: Served, start: Start, code: int, reason: str
) -> None:
    answer = Answer(code, status(code, reason, "not for you"))
    served.refuse("list", answer)
    reflector = start(pace=SLOW)
    until(lambda: f"{code} {reason}: not for you" in reflector.problem)
    assert PATH in reflector.problem
    assert not reflector.synced
    served.refuse("list", answer)
    other = start()
    until(lambda: other.synced and other.problem == "")


def test_too_many_requests_wait_and_keep_the_pages(served: Served, start: Start) -> None:
    for number in range(PAGE_OBJECTS + 1):
        served.put(PATH, f"a/{number:04}")

    def later(request: Request) -> None:
        if "continue" not in request.query:
            served.refuse("list", Answer(429, status(429, "TooManyRequests"), {"Retry-After": "0"}))

    served.before_page = later
    reflector = start()
    until(lambda: reflector.synced)
    assert ["continue" in one.query for one in served.asked("list")] == [False, True, True]


def test_waits_grow_to_a_bound_and_honour_retry_after(
    served: Served, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(Reflector, "_wait", lambda _, seconds: waits.append(seconds))
    busy = Answer(429, status(429, "TooManyRequests"), {"Retry-After": "600"})
    served.refuse("list", *[Answer()] * 3, *[Answer(403, status(403, "Forbidden"))] * 3, busy)
    reflector = start(pace=Pace(first_seconds=1.0, longest_seconds=4.0, refused_seconds=40.0))
    until(lambda: reflector.synced)
    # chance() is 0: half of 1, 2, 4, 4, 4 seconds, then three quarters of 40, then what was asked.
    assert waits == [0.5, 1.0, 2.0, 2.0, 2.0, 30.0, 600.0]


def test_an_object_that_cannot_be_read_costs_only_itself(served: Served, start: Start) -> None:
    served.put(PATH, "a/bad", data=7)
    served.put(PATH, "a/good", data={"v": "1"})
    reflector = start()
    until(lambda: names(reflector) == ["a/good"])
    assert "a/bad cannot be read" in reflector.problem
    served.put(PATH, "a/bad", data={"v": "mended"})
    until(lambda: value(reflector, "bad") == "mended" and reflector.problem == "")
    served.put(PATH, "a/bad", data=7)
    until(lambda: "a/bad" in reflector.problem)
    assert value(reflector, "bad") == "mended"  # the newest state that could be read
    served.remove(PATH, "a/bad")
    until(lambda: names(reflector) == ["a/good"] and reflector.problem == "")


def test_lines_that_are_no_events_lead_to_a_new_list(served: Served, start: Start) -> None:
    reflector = start()
    until(lambda: served.watching == 1)
    served.say(PATH, {"type": "ADDED", "object": {"metadata": 3}})
    until(lambda: reflector.relists == 1)


def test_the_query_narrows_list_and_watch(served: Served, start: Start) -> None:
    start(query={"labelSelector": "a=b"})
    until(lambda: served.watching == 1)
    assert {one.query["labelSelector"] for one in served.requests} == {"a=b"}


def test_stop_ends_the_thread_wherever_it_is(served: Served, start: Start) -> None:
    watching = start()
    until(lambda: served.watching == 1)
    served.refuse("list", Answer(403, status(403, "Forbidden")))
    waiting = start(pace=SLOW)
    until(lambda: waiting.problem != "")
    watching.stop()
    waiting.stop()
    assert not [one.name for one in threading.enumerate() if one.name.startswith("reflector")]
