"""Events: written once, then counted, never in the way of who tells them."""

from typing import Any

import pytest

from scheduler.adapters.cluster.events import MOST_WAITING, EventRecorder, Reference
from tests.fixtures.memoryapi import MemoryApi, refusal

JOB = Reference(api_version="batch/v1", kind="Job", namespace="team", name="train", uid="1-2-3")
NODE = Reference(api_version="v1", kind="Node", name="n0", uid="4")


class World:
    """A recorder, and what came of its tellings."""

    def __init__(self) -> None:
        self.api = MemoryApi()
        self.now = 1.7e9
        self.recorder = EventRecorder(self.api, self.time, "tidal-0")
        self._times = [0.0]

    def time(self) -> float:
        """Each write asks once."""
        self.now = 1.7e9 + (self._times.pop(0) if self._times else 0.0)
        return self.now

    def told(self, *tellings: tuple[float, Reference, str]) -> list[dict[str, Any]]:
        """Tell each at its time, and return the Events that came of it."""
        self._times = [at for at, _, _ in tellings]
        for _, about, message in tellings:
            self.recorder.tell(about, "Normal", "Lent", message)
        self.recorder.start()
        self.recorder.stop()
        return [one for path, one in self.api.objects.items() if "/events/" in path]


def fresh() -> World:
    return World()


def test_an_event_says_what_about_whom_by_whom() -> None:
    world = fresh()
    world.recorder.start()
    world.recorder.tell(JOB, "Warning", "Recalled", "its GPUs are needed at 12:00")
    world.recorder.stop()
    ((path, event),) = world.api.objects.items()
    assert path.startswith("/apis/events.k8s.io/v1/namespaces/team/events/train.")
    assert event["regarding"] == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "namespace": "team",
        "name": "train",
        "uid": "1-2-3",
    }
    assert (event["type"], event["reason"]) == ("Warning", "Recalled")
    assert event["note"] == "its GPUs are needed at 12:00"
    assert event["eventTime"] == "2023-11-14T22:13:20.000000Z"
    assert event["reportingInstance"] == "tidal-0"


def test_the_same_words_are_one_event_with_a_count() -> None:
    world = fresh()
    (event,) = world.told(*((at, JOB, "waits") for at in (0, 10, 41, 299)))
    assert event["series"] == {"count": 4, "lastObservedTime": "2023-11-14T22:18:19.000000Z"}


def test_a_count_is_not_written_more_often_than_people_read() -> None:
    world = fresh()
    world.told(*((float(at), JOB, "waits") for at in range(60)))
    assert len([1 for method, _ in world.api.calls if method == "PATCH"]) == 2


@pytest.mark.parametrize(
    "second",
    [(300.0, JOB, "waits"), (1.0, NODE, "waits"), (1.0, JOB, "runs")],
    ids=["after five minutes", "another object", "other words"],
)
def test_what_differs_is_an_event_of_its_own(second: tuple[float, Reference, str]) -> None:
    assert len(fresh().told((0.0, JOB, "waits"), second)) == 2


def test_objects_without_a_namespace_have_theirs_in_default() -> None:
    (event,) = fresh().told((0.0, NODE, "cordoned"))
    assert event["metadata"]["namespace"] == "default"


def test_an_event_that_the_server_forgot_is_made_anew() -> None:
    world = fresh()

    def forget(method: str, _path: str) -> None:
        if method == "PATCH":
            world.api.objects.clear()

    world.api.before = forget
    (event,) = world.told((0.0, JOB, "waits"), (1.0, JOB, "waits"))
    assert "series" not in event


def test_two_events_of_one_instant_have_two_names() -> None:
    assert len(fresh().told((0.0, JOB, "a"), (0.0, JOB, "b"))) == 2


def test_a_refusal_is_counted_and_the_next_is_written() -> None:
    world = fresh()
    refused: list[bool] = []

    def refuse_first(_method: str, _path: str) -> None:
        if not refused:
            refused.append(True)
            raise refusal(403, "events is forbidden")

    world.api.before = refuse_first
    world.recorder.start()
    world.recorder.tell(JOB, "Normal", "Lent", "one")
    world.recorder.tell(JOB, "Normal", "Lent", "two")
    world.recorder.stop()
    assert world.recorder.failed == 1
    assert len(world.api.objects) == 1


def test_who_tells_never_waits() -> None:
    world = fresh()
    for number in range(MOST_WAITING + 5):
        world.recorder.tell(JOB, "Normal", "Lent", str(number))
    assert world.recorder.dropped == 5


def test_a_long_message_is_cut_where_the_api_wants_it() -> None:
    world = fresh()
    world.recorder.start()
    world.recorder.tell(JOB, "Normal", "Lent", "ü" * 2000)
    world.recorder.stop()
    (event,) = world.api.objects.values()
    assert len(event["note"].encode()) <= 1024
    assert event["note"].endswith("…")
