"""The extender in a process of its own, fed with standings over a pipe.

The parent takes the port, so that a port in use is its error and not a child's silence. The
child lives as long as the pipe: when the daemon stops, or is killed, the pipe closes and the
child ends. It stops nothing else and reads nothing else.
"""

import asyncio
import gc
import socket
import sys
import threading
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection

import msgspec
from aiohttp import web

from scheduler.child import Child
from scheduler.extender.binding import ApiBinder
from scheduler.extender.server import Extender
from scheduler.planning.standing import Standing
from scheduler.view import View

START_SECONDS = 60.0
STOP_SECONDS = 5.0
BACKLOG = 1024
SWITCH_SECONDS = 0.0005
"""Longest wait of an answer for the thread that takes a new standing in."""

_READY = b"ready"


class PortInUseError(OSError):
    """The address to listen on is taken."""


class ExtenderGoneError(RuntimeError):
    """The extender's process ended by itself."""


class ExtenderProcess:
    """A running extender; `publish` feeds it, `stop` ends it, and so does dropping this value."""

    def __init__(self, child: Child, port: int) -> None:
        self._child = child
        self.port = port

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child.alive

    def publish(self, standing: Standing) -> None:
        """Send a standing, or raise `ExtenderGoneError`."""
        try:
            self._child.pipe.send_bytes(msgspec.msgpack.encode(standing))
        except OSError as error:
            raise ExtenderGoneError(
                f"the extender on port {self.port} has ended: {error}"
            ) from error

    def stop(self) -> None:
        """End the process; does nothing the second time."""
        self._child.stop(STOP_SECONDS)


def start(
    host: str, port: int, bind_url: str | None = None, clock_rate: float = 1.0
) -> ExtenderProcess:
    """Start the extender on `host`:`port`, port 0 for any free one, and wait until it listens.

    `bind_url` is the API server through which /bind creates Bindings; without it /bind refuses.
    `clock_rate` is how many seconds of the standing's time line pass in one of the wall's.
    Raises `PortInUseError`, or `ExtenderGoneError` where the process did not come up.
    """
    with _listening(host, port) as listener:
        bound = listener.getsockname()[1]
        child = Child("tidal-extender", _child, listener, bind_url, clock_rate)
    running = ExtenderProcess(child, bound)
    try:
        ready = child.pipe.poll(START_SECONDS) and child.pipe.recv_bytes() == _READY
    except (EOFError, OSError):
        ready = False
    if not ready:
        running.stop()
        raise ExtenderGoneError(f"the extender on port {bound} ended while it started")
    return running


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=BACKLOG)
    except OSError as error:
        raise PortInUseError(
            error.errno, f"cannot listen on {host}:{port} ({error.strerror}); choose another port"
        ) from error


def _child(pipe: Connection, listener: socket.socket, bind_url: str | None, rate: float) -> None:
    sys.setswitchinterval(SWITCH_SECONDS)
    asyncio.run(_serve(pipe, listener, bind_url, rate))


async def _serve(
    pipe: Connection, listener: socket.socket, bind_url: str | None, rate: float
) -> None:
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()
    async with AsyncExitStack() as stack:
        binder = await stack.enter_async_context(ApiBinder(bind_url)) if bind_url else None
        extender = Extender(View(), loop.time, rate, binder)
        runner = web.AppRunner(extender.app(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, listener, backlog=BACKLOG).start()
        _calm_garbage()

        def read() -> None:
            _read_standings(pipe, extender)
            loop.call_soon_threadsafe(closed.set)

        threading.Thread(target=read, name="standings", daemon=True).start()
        pipe.send_bytes(_READY)
        await closed.wait()


def _read_standings(pipe: Connection, extender: Extender) -> None:
    """Take standings in until the pipe closes."""
    decoder = msgspec.msgpack.Decoder(Standing)
    while True:
        try:
            body = pipe.recv_bytes()
        except (EOFError, OSError):
            return
        extender.publish(decoder.decode(body))


def _calm_garbage() -> None:
    """Leave what start-up made out of collections, and collect the young less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1000)
