"""Events that tell users, on the object concerned, what Tidal did or why it did not.

`tell` only puts into a bounded queue; a thread writes. The same words on the same object within
five minutes are one Event with a count. A failure is counted and never raised: correctness does
not read Events.
"""

import queue
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Literal

import msgspec

from scheduler.apiserver import times
from scheduler.apiserver.client import Api, ApiError, ApiUnreachableError
from scheduler.apiserver.objects import Meta

CONTROLLER = "tidal.dev/planner"
ACTION = "Planning"
SAME_SECONDS = 300.0
SERIES_SECONDS = 30.0
"""A count is written at most so often; the second telling at once."""
MOST_WAITING = 1000
MOST_REMEMBERED = 4096
MOST_NOTE = 1024
MOST_NAME = 220
CLUSTER_NAMESPACE = "default"
"""Where the API wants Events of objects without a namespace."""
STOP_SECONDS = 3.0


class Reference(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The object that an Event is about."""

    api_version: str
    kind: str
    name: str
    namespace: str = ""
    uid: str = ""

    @classmethod
    def of(cls, api_version: str, kind: str, meta: Meta) -> "Reference":
        """Return the reference to an object that was read."""
        return cls(
            api_version=api_version,
            kind=kind,
            name=meta.name,
            namespace=meta.namespace,
            uid=meta.uid,
        )


class _Telling(msgspec.Struct, frozen=True):
    about: Reference
    type: Literal["Normal", "Warning"]
    reason: str
    note: str


class _Told(msgspec.Struct):
    """What was said and how often; the thread's own."""

    name: str
    first: float
    count: int
    written: float


class EventRecorder:
    """`tell` never waits and never fails; use `start` and `stop` around it."""

    def __init__(self, api: Api, now_seconds: Callable[[], float], instance: str) -> None:
        """`instance` is the pod that reports; `now_seconds` is Unix time."""
        self._api = api
        self._now_seconds = now_seconds
        self._instance = instance
        self._waiting: queue.Queue[_Telling | None] = queue.Queue(MOST_WAITING)
        self._told: dict[_Telling, _Told] = {}
        self._names = 0
        self._thread = threading.Thread(target=self._run, name="tidal-events", daemon=True)
        self.dropped = 0
        """Tellings lost to a full queue."""
        self.failed = 0
        """Writes that the server did not take."""
        self.error = ""
        """Why the last write failed; empty after one that did not."""

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, as far as a few seconds allow."""
        try:
            self._waiting.put(None, timeout=STOP_SECONDS)
        except queue.Full:
            return
        self._thread.join(STOP_SECONDS)

    def tell(
        self, about: Reference, kind: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        """Say a sentence on an object; `reason` is one word in UpperCamelCase."""
        try:
            self._waiting.put_nowait(_Telling(about, kind, reason, _cut(message)))
        except queue.Full:
            self.dropped += 1

    def _run(self) -> None:
        while (telling := self._waiting.get()) is not None:
            try:
                self._write(telling)
                self.error = ""
            except (ApiError, ApiUnreachableError) as error:
                self.failed += 1
                self.error = f"Events: {error}"

    def _write(self, telling: _Telling) -> None:
        now = self._now_seconds()
        told = self._told.pop(telling, None)
        if told is None or now - told.first >= SAME_SECONDS:
            told = self._create(telling, now)
        else:
            told = self._again(telling, told, now)
        self._told[telling] = told
        if len(self._told) > MOST_REMEMBERED:
            del self._told[next(iter(self._told))]

    def _again(self, telling: _Telling, told: _Told, now: float) -> _Told:
        """Raise the count; an Event that is gone is made anew."""
        told.count += 1
        if told.count > 2 and now - told.written < SERIES_SECONDS:  # noqa: PLR2004 - the first repeat
            return told
        series = {"count": told.count, "lastObservedTime": times.micro_text(now)}
        try:
            path = f"{_events(telling.about)}/{told.name}"
            self._api.patch(path, {"series": series}, "merge")
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return self._create(telling, now)
        told.written = now
        return told

    def _create(self, telling: _Telling, now: float) -> _Told:
        self._names += 1
        about = telling.about
        stem = about.name[:MOST_NAME].rstrip("-.")
        name = f"{stem}.{int(now * 1_000_000):x}.{self._names:x}"
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": about.namespace or CLUSTER_NAMESPACE},
            "eventTime": times.micro_text(now),
            "type": telling.type,
            "reason": telling.reason,
            "action": ACTION,
            "note": telling.note,
            "regarding": about,
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
        }
        self._api.post(_events(about), body)
        return _Told(name, now, 1, now)


def _events(about: Reference) -> str:
    return f"/apis/events.k8s.io/v1/namespaces/{about.namespace or CLUSTER_NAMESPACE}/events"


def _cut(message: str) -> str:
    """Return at most as many bytes as the API takes."""
    body = message.encode()
    return (
        message if len(body) <= MOST_NOTE else body[: MOST_NOTE - 4].decode(errors="ignore") + "…"
    )
