"""One kind of objects, kept as the server has it: list in pages, then watch from there.

A page is decoded as it comes and reduced by `keep`, so that memory holds what somebody reads. A
list replaces the items in one step when it is whole; until then, and while the server cannot be
reached, the old items are served and their age grows. A resource version that the server has
forgotten (410) leads to a new list, a connection that ends to a new watch from the last version.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from http import HTTPStatus
from typing import Generic, Protocol, TypeVar

import msgspec

from scheduler.apiserver import answers
from scheduler.apiserver.client import Api, ApiError, ApiUnreachableError, Refusal
from scheduler.apiserver.objects import Meta
from scheduler.apiserver.unkept import Key, Nobody, Unkept
from scheduler.apiserver.watch import Watch

PAGE_OBJECTS = 500
PAGED_TRIES = 2
"""Paged lists that may expire half-way before one is asked for in one piece."""
STOP_SECONDS = 2.0
SHORT_SECONDS = 1.0
"""A stream that ends sooner and brought nothing counts as a failure."""


class Object(Protocol):
    """Anything with metadata."""

    @property
    def metadata(self) -> Meta: ...


T = TypeVar("T", bound=Object)
_EVENT = msgspec.json.Decoder(answers.Event)
_HEAD = msgspec.json.Decoder(answers.Head)
_NAMED = msgspec.json.Decoder(answers.Named)
_REFUSAL = msgspec.json.Decoder(Refusal)
_RAW_PAGE = msgspec.json.Decoder(answers.Page[msgspec.Raw])


class Pace(msgspec.Struct, frozen=True):
    """Waits in seconds; after each failure twice as long, and between half and the whole of it."""

    first_seconds: float = 0.2
    longest_seconds: float = 4.0
    refused_seconds: float = 30.0
    """After 403 or 404, which somebody has to mend."""
    doubted: int = 5
    """After fewer failures in a row than this they are failures like others: a server that has
    just started refuses everybody until it has read its roles and definitions."""


class _ExpiredError(Exception):
    """The resource version is too old, or unknown to this server: list again."""


class Reflector(Generic[T]):
    """The objects below `path` that `keep` keeps, ordered by namespace and name.

    `on_change` is called from the reflector's thread. `synced` is true after the first whole list,
    `relists` counts the further ones.
    """

    def __init__(  # noqa: PLR0913
        self,
        api: Api,
        path: str,
        type_: type[T],
        keep: Callable[[T], T | None] = lambda item: item,
        on_change: Callable[[], None] = lambda: None,
        query: dict[str, str] | None = None,
        *,
        unkept: Unkept[T] | None = None,
        pace: Pace | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`query` narrows list and watch; `chance` returns floats in [0, 1) and spreads waits.

        `unkept` hears of objects that are not kept; of these `on_change` is told nothing.
        """
        self.path = path
        self.synced = False
        self.relists = 0
        self._api = api
        self._keep = keep
        self._unkept: Unkept[T] = unkept or Nobody()
        self._on_change = on_change
        self._query = query or {}
        self._pace = pace or Pace()
        self._chance = chance
        self._page = msgspec.json.Decoder(answers.Page[type_])  # type: ignore[valid-type]
        self._object = msgspec.json.Decoder(type_)
        self._items: dict[Key, T] = {}
        self._sorted: tuple[T, ...] | None = ()
        self._version = ""
        self._trouble = ""
        self._unreadable: dict[Key, str] = {}
        self._failures = 0
        self._contact = float("-inf")
        self._opened = 0.0
        self._watch: Watch | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"reflector {path}", daemon=True)

    # ---- what others see -------------------------------------------------------------------

    def start(self) -> None:
        """Begin to list and watch."""
        self._thread.start()

    def halt(self) -> None:
        """End the watch, without waiting for the thread."""
        self._stopping.set()
        with self._lock:
            watch = self._watch
        if watch is not None:
            watch.close()

    def stop(self) -> None:
        """End the watch; returns after at most two seconds, whatever the server does."""
        self.halt()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(STOP_SECONDS)

    def items(self) -> tuple[T, ...]:
        """Return all objects; the same tuple until one of them changes."""
        with self._lock:
            if self._sorted is None:
                self._sorted = tuple(self._items[key] for key in sorted(self._items))
            return self._sorted

    @property
    def problem(self) -> str:
        """Why there is nothing newer, or an object that cannot be read; empty: all is well."""
        return self._trouble or next(iter(tuple(self._unreadable.values())), "")

    @property
    def age_seconds(self) -> float:
        """Seconds since the items were last known to be all; 0 while a watch is open, inf before
        the first list.

        An open watch counts because its connection is probed and its length bounded; when it
        turns out to be dead, the age counts from the last byte that came.
        """
        with self._lock:
            watching = self.synced and self._watch is not None
            return 0.0 if watching else max(0.0, time.monotonic() - self._contact)

    # ---- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if not self._version:
                    self._list()
                self._follow()
            except _ExpiredError:
                self._version = ""
                # A list that expires again and again must not become a busy loop.
                self._wait(self._backoff() if self._failures else 0.0)
                self._failures += 1
            except ApiError as error:
                self._refused(error)
            except ApiUnreachableError as error:
                self._trouble = str(error)
                self._wait(self._backoff())
            except msgspec.MsgspecError as error:
                self._trouble = f"{self.path}: the server's answer cannot be read: {error}"
                self._version = ""
                self._wait(self._backoff())

    def _refused(self, error: ApiError) -> None:
        """Wait as long as the refusal asks for; it makes the items no fresher."""
        self._trouble = f"{self.path}: {error}"
        if error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
            self._version = ""
            doubted = self._failures < self._pace.doubted
            patient = self._pace.refused_seconds * (0.75 + 0.5 * self._chance())
            self._wait(self._backoff() if doubted else patient)
        else:
            self._wait(max(self._backoff(), error.retry_after_seconds))

    def _backoff(self) -> float:
        """Return the next wait, and remember that it was needed."""
        longest = self._pace.longest_seconds
        whole = min(longest, self._pace.first_seconds * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return whole * (0.5 + 0.5 * self._chance())

    def _wait(self, seconds: float) -> None:
        self._stopping.wait(seconds)

    def _heard(self) -> None:
        self._contact = time.monotonic()

    # ---- list ------------------------------------------------------------------------------

    def _list(self) -> None:
        """Replace all items by what the server has now."""
        for attempt in range(PAGED_TRIES + 1):
            try:
                items, version = self._pages(PAGE_OBJECTS if attempt < PAGED_TRIES else 0)
                break
            except ApiError as error:
                if error.status != HTTPStatus.GONE:
                    raise
        else:
            raise _ExpiredError
        with self._lock:
            self._items, self._sorted = items, None
            self.relists += self.synced
            self.synced = True
        self._heard()
        self._version = version
        self._on_change()

    def _pages(self, limit: int) -> tuple[dict[Key, T], str]:
        """Return all kept objects and the version of the list; 0 is no limit."""
        found: dict[Key, T] = {}
        unkept: set[Key] = set()
        query = {**self._query, "limit": str(limit)} if limit else self._query
        self._unreadable = {}
        body: bytes | None = self._fetch(query)
        while body is not None:
            head = _HEAD.decode(body).metadata
            # The server makes the next page while this one is decoded.
            ahead = self._ahead({**query, "continue": head.continue_}) if head.continue_ else None
            for item in self._decoded(body):
                kept = self._keep(item)
                if kept is not None:
                    found[_key(item)] = kept
                else:
                    self._unkept.put(_key(item), item)
                    unkept.add(_key(item))
            body = ahead.result() if ahead else None
        self._unkept.only(unkept)
        return found, head.resource_version

    def _ahead(self, query: dict[str, str]) -> Future[bytes]:
        """Fetch a page in a thread of its own."""
        page: Future[bytes] = Future()

        def fetch() -> None:
            try:
                page.set_result(self._fetch(query))
            except (ApiError, ApiUnreachableError) as error:
                page.set_exception(error)

        threading.Thread(target=fetch, name=f"page {self.path}", daemon=True).start()
        return page

    def _fetch(self, query: dict[str, str]) -> bytes:
        """Return one page; a server that asks for patience gets it without losing the others."""
        while not self._stopping.is_set():
            try:
                body = self._api.get(self.path, **query)
            except ApiError as error:
                if error.status != HTTPStatus.TOO_MANY_REQUESTS:
                    raise
                self._refused(error)
            else:
                return body
        raise ApiUnreachableError(f"{self.path}: stopped while listing")

    def _decoded(self, body: bytes) -> Iterable[T]:
        """Decode a page's items; one that cannot be read costs only itself."""
        try:
            return self._page.decode(body).items or ()
        except msgspec.ValidationError:
            every = [self._readable(one) for one in _RAW_PAGE.decode(body).items or ()]
        return [one for one in every if one is not None]

    def _readable(self, raw: msgspec.Raw) -> T | None:
        """Decode an object, or remember that it cannot be."""
        try:
            return self._object.decode(raw)
        except msgspec.ValidationError as error:
            key = _key(_NAMED.decode(raw))
            self._unreadable[key] = f"{self.path}: {'/'.join(key)} cannot be read: {error}"
            return None

    # ---- watch -----------------------------------------------------------------------------

    def _follow(self) -> None:
        """Watch from the last version until the stream ends."""
        query = {
            **self._query,
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
        }
        try:
            watch = self._api.watch(self.path, **query)
        except ApiError as error:
            if _forgotten(error):
                raise _ExpiredError from error
            raise
        with self._open(watch):
            for line in watch:
                self._heard()
                self._take(line)
        self._ended(query["resourceVersion"])

    @contextlib.contextmanager
    def _open(self, watch: Watch) -> Iterator[None]:
        """Make the watch known to `stop` and to `age_seconds` while it is read."""
        self._heard()
        self._trouble = ""
        self._opened = time.monotonic()
        with self._lock:
            self._watch = watch
        if self._stopping.is_set():
            watch.close()
        try:
            yield
        finally:
            with self._lock:
                self._watch = None
            watch.release()

    def _ended(self, began: str) -> None:
        """The server closed the stream, as it does now and then."""
        self._heard()
        if time.monotonic() - self._opened < SHORT_SECONDS and self._version == began:
            self._wait(self._backoff())
        else:
            self._failures = 0

    def _take(self, line: bytes) -> None:
        """Apply one event."""
        event = _EVENT.decode(line)
        match event.type:
            case "ADDED" | "MODIFIED":
                self._put(event.object)
            case "DELETED":
                gone = _NAMED.decode(event.object)
                self._replace(_key(gone), None)
                self._unkept.drop(_key(gone))
                self._version = gone.metadata.resource_version
            case "BOOKMARK":
                self._version = _HEAD.decode(event.object).metadata.resource_version
            case "ERROR":
                self._failed(_REFUSAL.decode(event.object), bytes(event.object))
            case _:
                pass
        self._failures = 0

    def _put(self, raw: msgspec.Raw) -> None:
        """Take the object's new state; of one that cannot be read the old state stays."""
        item = self._readable(raw)
        if item is None:
            self._version = _NAMED.decode(raw).metadata.resource_version
            return
        kept = self._keep(item)
        self._replace(_key(item), kept)
        if kept is None:
            self._unkept.put(_key(item), item)
        self._version = item.metadata.resource_version

    def _replace(self, key: Key, kept: T | None) -> None:
        """Set or remove one object, and tell if that changes anything."""
        self._unreadable.pop(key, None)
        with self._lock:
            changed = kept is not None or key in self._items
            if kept is None:
                self._items.pop(key, None)
            else:
                self._items[key] = kept
            if changed:
                self._sorted = None
        if changed:
            self._on_change()

    def _failed(self, said: Refusal, body: bytes) -> None:
        """Leave the watch: list again, at once where the version has expired."""
        self._version = ""
        if said.code == HTTPStatus.GONE:
            raise _ExpiredError
        raise ApiError(said.code or HTTPStatus.INTERNAL_SERVER_ERROR, body)


def _key(item: Object) -> tuple[str, str]:
    return item.metadata.namespace, item.metadata.name


def _forgotten(error: ApiError) -> bool:
    """Return whether the server cannot watch from the version asked for: too old or, after its
    data were restored, from a future it does not know.
    """
    return error.status == HTTPStatus.GONE or "Too large resource version" in error.message
