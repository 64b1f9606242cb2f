"""The API that answers `scalerctl`: JSON over HTTP, in a thread of the daemon.

Every answer is a pure function of the newest tick; the loop hands each one over with `publish`,
and readers take the reference. The ledger comes in as an object that lists and returns ticks.
Errors are `{"error": "field: what is wrong; fix"}`: 400 for what cannot be understood, 404 for
what does not exist, 503 before the first tick. A guard checks who asks (401, 403); without one
the server listens on loopback only.
"""

import asyncio
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Protocol

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from forecasting import State, initial_state
from scheduler.daemon.documents.decision import decision
from scheduler.daemon.documents.explain import explain
from scheduler.daemon.documents.metrics import CONTENT_TYPE, metrics
from scheduler.daemon.documents.outlook import outlook
from scheduler.daemon.documents.shapes import Facts, Failure, NoSuchError, Ticks
from scheduler.daemon.documents.status import status
from scheduler.daemon.guard import NoAnswerError, NotAllowedError, UnknownUserError
from scheduler.daemon.tick import Progress
from scheduler.https import Tls, context_of, serve
from scheduler.planning.policy import Policy
from scheduler.planning.replaying import Replay, replay
from scheduler.ports import Tick, TickLine

STOP_SECONDS = 5.0
LIST_TICKS = 20
MOST_TICKS = 1000
MOST_DIGITS = 18
"""So that a number fits the 64 bits of a ledger's."""
STALL_SECONDS = 300.0
"""Before the first tick; after it the policy's `extender.plan_stale_seconds` counts."""


class ApiPortError(OSError):
    """The address to listen on cannot be had; the message names it and the fix."""


class BadRequestError(ValueError):
    """A request that cannot be understood; the message names the field and the fix."""


class NotYetError(RuntimeError):
    """The first tick is not done."""


class StoredTicks(Protocol):
    """The part of a ledger that people read; called from other threads than the loop's."""

    def ticks(self, first: int, last: int) -> tuple[TickLine, ...]:
        """Return the ticks from `first` to `last`, both included, as far as they are there."""
        ...

    def tick(self, number: int) -> Tick:
        """Return one tick as it was recorded, or raise LookupError saying what is there."""
        ...


def replay_tick(stored: Tick) -> Replay:
    """Verify a stored tick's packings and compute it again."""
    policy = Policy.model_validate_json(stored.policy)
    inputs = (stored.snapshot, stored.memory_before, policy, stored.effort)
    return replay(stored.number, inputs, stored.plan, stored.memory_after)


class Api:
    """The newest progress behind one reference, and the routes that read it."""

    def __init__(
        self,
        ledger: StoredTicks,
        facts: Callable[[], Facts] = Facts,
        series: Callable[[], State] = initial_state,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`facts` tells what the process knows; `age_seconds` and `full_plan_seconds` are ours.

        `series` tells the forecaster's newest state.
        """
        self._ledger = ledger
        self._series = series
        self._process_facts = facts
        self._clock = clock
        self._lock = threading.Lock()
        self._state: tuple[Progress | None, float] = (None, clock())
        self._replaying, self._diagnosing = asyncio.Lock(), asyncio.Lock()

    def publish(self, progress: Progress) -> None:
        """Answer from this progress from now on; may be called from any thread."""
        with self._lock:
            self._state = (progress, self._clock())

    def app(self, guard: Middleware | None = None) -> web.Application:
        """Return the application with its routes, each behind the guard."""
        guards = () if guard is None else (guard,)
        app = web.Application(middlewares=[_errors_as_json, *guards])
        app.router.add_get("/v1/status", self._status)
        app.router.add_get("/v1/forecast/{name:.+}", self._forecast)
        app.router.add_get("/v1/plan", self._plan)
        app.router.add_get("/v1/explain/{object:.+}", self._explain)
        app.router.add_get("/v1/ledger/ticks", self._ticks)
        app.router.add_get("/v1/replay/{tick}", self._replay)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._alive)
        app.router.add_get("/readyz", self._ready)
        return app

    async def _status(self, _: web.Request) -> web.Response:
        return _json(status(self._tick(), self._facts()))

    async def _forecast(self, request: web.Request) -> web.Response:
        """One diagnosis at a time, for the same reason as replays."""
        name, tick = request.match_info["name"], self._tick()
        async with self._diagnosing:
            return _json(await asyncio.to_thread(outlook, tick, name, self._series()))

    async def _plan(self, _: web.Request) -> web.Response:
        return _json(decision(self._tick()))

    async def _explain(self, request: web.Request) -> web.Response:
        return _json(explain(self._tick(), request.match_info["object"]))

    async def _ticks(self, request: web.Request) -> web.Response:
        last = _whole("last", request.query.get("last", str(self._tick().number)))
        first = _whole("first", request.query.get("first", str(max(0, last - LIST_TICKS + 1))))
        if not 0 <= last - first < MOST_TICKS:
            raise BadRequestError(f"first: {first} to last {last}; give 1 to {MOST_TICKS} ticks")
        return _json(Ticks(ticks=await asyncio.to_thread(self._ledger.ticks, first, last)))

    async def _replay(self, request: web.Request) -> web.Response:
        """One replay at a time: it plans in full, and the daemon's tick wants the same cores."""
        number = _whole("tick", request.match_info["tick"])
        async with self._replaying:
            try:
                stored = await asyncio.to_thread(self._ledger.tick, number)
            except LookupError as error:
                raise NoSuchError(str(error)) from error
            return _json(await asyncio.to_thread(replay_tick, stored))

    async def _metrics(self, _: web.Request) -> web.Response:
        text = metrics(status(self._tick(), self._facts()))
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _alive(self, _: web.Request) -> web.Response:
        """Say whether ticks still come; one that hangs must be restarted from outside."""
        progress, at = self._state
        limit = STALL_SECONDS
        if progress is not None and progress.last is not None:
            policy = Policy.model_validate_json(progress.last.policy)
            limit = policy.extender.plan_stale_seconds
        age = self._clock() - at
        if age > limit:
            return _json(Failure(f"tick: none for {age:.0f} s; restart the daemon"), 503)
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        """Say whether there is something to answer from."""
        self._tick()
        return web.Response(text="ok\n")

    def _tick(self) -> Tick:
        progress, _ = self._state
        if progress is None or progress.last is None:
            raise NotYetError
        return progress.last

    def _facts(self) -> Facts:
        progress, at = self._state
        return msgspec.structs.replace(
            self._process_facts(),
            age_seconds=self._clock() - at,
            full_plan_seconds=progress.full_seconds if progress else None,
        )


class ApiServer:
    """A running API; `stop` ends it."""

    def __init__(
        self,
        api: Api,
        host: str,
        port: int,
        guard: Middleware | None = None,
        tls: Tls | None = None,
    ) -> None:
        """Take the port and serve, over TLS where there are files for it. 0: any port.

        Raises `ApiPortError` where the address cannot be had, `TlsError`, and ValueError for an
        address that others can reach where there is no guard.
        """
        if guard is None and not _loopback(host):
            raise ValueError(f"host: {host} is not loopback and nobody is checked; give a guard")
        if tls is not None:
            context_of(tls)
        self._listener = _listening(host, port)
        self.host, self.port = host, self._listener.getsockname()[1]
        self._app = api.app(guard)
        self._tls = tls
        self.tls_error = ""
        """Why renewed certificates are not in use; the extender, with the same files, tells it."""
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="tidal-api", daemon=True)
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """Stop serving and wait for the thread."""
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with AsyncExitStack() as stack:
                await serve(stack, self._app, self._listener, self._tls, self)
                self._started.set()
                await self._stop.wait()
        finally:
            self._started.set()


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)  # create_server puts more into strerror
        why = os.strerror(number) if number else str(error)
        raise ApiPortError(
            f"--port: cannot listen on {host}:{port} ({why}); choose another port"
        ) from error


def _whole(field: str, text: str) -> int:
    if not text.isdecimal() or len(text) > MOST_DIGITS:
        raise BadRequestError(f"{field}: {text!r} is no whole number; give one")
    return int(text)


def _json(document: object, code: int = 200) -> web.Response:
    body = msgspec.json.encode(document)
    return web.Response(body=body, status=code, content_type="application/json")


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except NotYetError:
        return _json(Failure("tick: the first is not done yet; ask again shortly"), 503)
    except UnknownUserError as error:
        answer = _json(Failure(str(error)), 401)
        answer.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
        return answer
    except NotAllowedError as error:
        return _json(Failure(str(error)), 403)
    except NoAnswerError as error:
        return _json(Failure(str(error)), 503)
    except NoSuchError as error:
        return _json(Failure(str(error)), 404)
    except BadRequestError as error:
        return _json(Failure(str(error)), 400)
    except web.HTTPException as error:
        return _json(Failure(f"path: {request.path}: {error.reason}; see /v1/status"), error.status)
