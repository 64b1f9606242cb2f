"""The virtual world as a process of its own, behind HTTP on loopback.

`start` makes the process and waits until it listens; it lives as long as the pipe to its parent.
Bodies are msgpack (`worldwire`), but for the one path that the extender knows as the API
server's: a pod's binding subresource. That one is answered while a call that lets time pass is
still running, because this call waits for the extender.
"""

import re
import sys
import threading
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from scheduler.child import Child
from scheduler.simulation import worldwire as wire
from scheduler.simulation.events import FileSink
from scheduler.simulation.extenderplacer import Binding
from scheduler.simulation.run import Setup
from scheduler.simulation.worldservice import QUIET_SECONDS, NotEndedError, WorldService

LOOPBACK = "127.0.0.1"
START_SECONDS = 120.0
STOP_SECONDS = 10.0
STOP_LOOK_SECONDS = 0.05
EVENT_BUFFER_BYTES = 1 << 20

_BINDING_PATH = re.compile(r"/api/v1/namespaces/[^/]+/pods/[^/]+/binding")
_BINDING_STATUS: dict[Binding, int] = {"made": 201, "other": 409, "unknown": 404}

Call = Callable[[bytes], object]


class WorldGoneError(RuntimeError):
    """The world's process ended by itself."""


class _Meta(msgspec.Struct):
    uid: str


class _Target(msgspec.Struct):
    name: str


class _Binding(msgspec.Struct):
    """What of a v1.Binding matters here."""

    metadata: _Meta
    target: _Target


class WorldProcess:
    """A running world; `stop` ends it."""

    def __init__(self, child: Child, url: str) -> None:
        self._child = child
        self.url = url

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child.alive

    def stop(self) -> None:
        """End the process and wait until its files are whole; a second time does nothing."""
        self._child.stop(STOP_SECONDS)


def start(
    setup: Setup, seed: int, events: Path, quiet_seconds: float = QUIET_SECONDS
) -> WorldProcess:
    """Start a world and wait until it listens; its events go to the file `events`.

    Raises `WorldGoneError` where it did not come up.
    """
    child = Child("tidal-world", _child, setup, seed, events, quiet_seconds)
    url = _told_url(child.pipe)
    world = WorldProcess(child, url)
    if not url:
        world.stop()
        raise WorldGoneError("the world did not start; see its output above")
    return world


def _told_url(pipe: Connection) -> str:
    """Return where the child listens, or nothing where it does not."""
    try:
        return pipe.recv_bytes().decode() if pipe.poll(START_SECONDS) else ""
    except (EOFError, OSError):
        return ""


def serve(service: WorldService, opened: Callable[[str], None], closing: threading.Event) -> None:
    """Serve until `closing`, which is set too when a call fails inside; tell `opened` the URL."""
    server = _Server((LOOPBACK, 0), _handler(service, closing))
    url = f"http://{LOOPBACK}:{server.server_address[1]}"
    threading.Thread(
        target=server.serve_forever, args=(STOP_LOOK_SECONDS,), name="world-http", daemon=True
    ).start()
    opened(url)
    try:
        service.run_on(closing)
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    """One thread a connection; the planner keeps one, and so does whoever watches."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent where a client hangs up, as a killed daemon does."""
        if not isinstance(sys.exception(), ConnectionError):
            traceback.print_exc()


def _child(pipe: Connection, setup: Setup, seed: int, events: Path, quiet_seconds: float) -> None:
    closing = threading.Event()

    def watch_parent() -> None:
        try:
            pipe.recv_bytes()
        except (EOFError, OSError):
            closing.set()

    with events.open("wb", buffering=EVENT_BUFFER_BYTES) as file:
        service = WorldService(setup, seed, (FileSink(file),), quiet_seconds)
        threading.Thread(target=watch_parent, name="parent", daemon=True).start()
        serve(service, lambda url: pipe.send_bytes(url.encode()), closing)


def _handler(service: WorldService, closing: threading.Event) -> type[BaseHTTPRequestHandler]:
    """Return the class whose instances answer one connection each."""
    calls = _calls(service)

    class Handler(BaseHTTPRequestHandler):
        """Looks the path up, decodes, calls, encodes."""

        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            """Answer calls without a body."""
            self._answer(b"")

        def do_POST(self) -> None:
            """Answer calls with one."""
            self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing: there are tens of thousands of calls."""

        def _answer(self, body: bytes) -> None:
            if _BINDING_PATH.fullmatch(self.path):
                self._send(*_bind(service, body))
                return
            status, content = _told(calls, self.path, body)
            self._send(status, content)
            if status == 500:  # noqa: PLR2004, a fault of the world's own
                closing.set()

        def _send(self, status: int, content: bytes) -> None:
            self.send_response_only(status)
            self.send_header("Content-Type", wire.MEDIA_TYPE)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return Handler


def _told(calls: dict[str, Call], path: str, body: bytes) -> tuple[int, bytes]:
    """Return status and body of the answer to one call."""
    call = calls.get(path)
    if call is None:
        return 404, _refused(f"path: there is no {path}")
    try:
        return 200, msgspec.msgpack.encode(call(body))
    except msgspec.DecodeError as error:
        return 400, _refused(f"{path}: {error}")
    except NotEndedError as error:
        return 409, _refused(str(error))
    except Exception:  # noqa: BLE001, the caller gets an answer, and the world ends
        traceback.print_exc()
        return 500, _refused(f"{path}: the world failed; its traceback is on standard error")


def _calls(service: WorldService) -> dict[str, Call]:
    """Return path -> bytes in, value out."""
    unpack = msgspec.msgpack.Decoder
    after, reserve, apply = unpack(wire.After), unpack(wire.Reserve), unpack(wire.Apply)
    planned, advance = unpack(wire.Planned), unpack(wire.Advance)
    extender = unpack(wire.ExtenderAt)
    return {
        wire.OBSERVE: lambda _: service.observe(),
        wire.SAMPLES: lambda body: service.samples(after.decode(body)),
        wire.RESERVE: lambda body: service.reserve(reserve.decode(body)),
        wire.APPLY: lambda body: service.apply(apply.decode(body)),
        wire.PLANNED: lambda body: service.planned(planned.decode(body)),
        wire.ADVANCE: lambda body: service.advance(advance.decode(body)),
        wire.EXTENDER: lambda body: service.register(extender.decode(body)),
        wire.PROGRESS: lambda _: service.progress(),
        wire.REPORT: lambda _: service.report(),
    }


def _bind(service: WorldService, body: bytes) -> tuple[int, bytes]:
    """Answer as an API server does; the extender reads no more than the status."""
    try:
        binding = msgspec.json.decode(body, type=_Binding)
    except msgspec.DecodeError as error:
        return 400, msgspec.json.encode({"message": str(error)})
    made = service.offer_binding(binding.metadata.uid, binding.target.name)
    return _BINDING_STATUS[made], msgspec.json.encode({"message": made})


def _refused(sentence: str) -> bytes:
    return msgspec.msgpack.encode(wire.Refused(sentence))
