"""The extender in a process of its own, fed with standings over a pipe.

The parent takes the port, so that a port in use is its error and not a child's silence. The
child lives as long as the pipe: when the daemon stops, or is killed, the pipe closes and the
child ends. It stops nothing else and reads nothing else.
"""

import asyncio
import gc
import os
import socket
import sys
import threading
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

import msgspec
import uvloop

from scheduler.child import Child
from scheduler.extender.binding import ApiBinder, Connect
from scheduler.extender.server import Extender
from scheduler.https import BACKLOG, Tls, context_of, serve
from scheduler.planning.standing import Standing
from scheduler.view import View

START_SECONDS = 60.0
STOP_SECONDS = 5.0
FIRST = -10
"""Priority on its machine, where it may be set: kube-scheduler's loop waits for each answer."""
SWITCH_SECONDS = 0.0005
"""Longest wait of an answer for the thread that takes a new standing in."""

_READY = b"ready"


class PortInUseError(OSError):
    """The address to listen on is taken."""


class ExtenderGoneError(RuntimeError):
    """The extender's process ended by itself."""


class ExtenderProcess:
    """A running extender; `publish` feeds it, `stop` ends it, and so does dropping this value."""

    def __init__(self, child: Child, port: int, health_port: int | None) -> None:
        self._child = child
        self.port = port
        self.health_port = health_port

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
    host: str,
    port: int,
    binds_through: Connect | None = None,
    clock_rate: float = 1.0,
    tls: Tls | None = None,
    health_port: int | None = None,
) -> ExtenderProcess:
    """Start the extender on `host`:`port`, port 0 for any free one, and wait until it listens.

    `binds_through` connects to the API server at which /bind creates Bindings; without it /bind
    refuses. `clock_rate` is how many seconds of the standing's time line pass in one of the
    wall's. `tls` makes it HTTPS. `health_port` serves what is only read without TLS, for probes
    that hold no certificate. Raises `PortInUseError`, `TlsError`, or `ExtenderGoneError` where
    the process did not come up.
    """
    if tls is not None:
        context_of(tls)
    with ExitStack() as stack:
        listener = stack.enter_context(_listening(host, port))
        health = None
        if health_port is not None:
            health = stack.enter_context(_listening(host, health_port))
        parts = _Parts(listener, health, binds_through, clock_rate, tls)
        bound = listener.getsockname()[1]
        health_bound = None if health is None else health.getsockname()[1]
        child = Child("tidal-extender", _child, parts)
    running = ExtenderProcess(child, bound, health_bound)
    try:
        ready = child.pipe.poll(START_SECONDS) and child.pipe.recv_bytes() == _READY
    except (EOFError, OSError):
        ready = False
    if not ready:
        running.stop()
        raise ExtenderGoneError(f"the extender on port {bound} ended while it started")
    return running


@dataclass(frozen=True)
class _Parts:
    """What the child gets; pickled."""

    listener: socket.socket
    health: socket.socket | None
    binds_through: Connect | None
    clock_rate: float
    tls: Tls | None


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=BACKLOG)
    except OSError as error:
        raise PortInUseError(
            error.errno, f"cannot listen on {host}:{port} ({error.strerror}); choose another port"
        ) from error


def _child(pipe: Connection, parts: _Parts) -> None:
    sys.setswitchinterval(SWITCH_SECONDS)
    with suppress(OSError):  # needs a right that a pod does not have
        os.setpriority(os.PRIO_PROCESS, 0, FIRST)
    uvloop.run(_serve(pipe, parts))


async def _serve(pipe: Connection, parts: _Parts) -> None:
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()
    async with AsyncExitStack() as stack:
        binder = None
        if parts.binds_through is not None:
            binder = ApiBinder(parts.binds_through)
            stack.callback(binder.close)
        extender = Extender(View(), loop.time, parts.clock_rate, binder)
        await serve(stack, extender.app(), parts.listener, parts.tls, extender)
        if parts.health is not None:
            await serve(stack, extender.health_app(), parts.health, None, extender)
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
