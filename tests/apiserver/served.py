"""A small API server for tests: list in pages and watch over real sockets, and trouble on demand.

It keeps objects and a log of events under one counter of resource versions, as the real one does.
`refuse` queues answers for the next lists or watches; `forget` drops the log, so that older
versions and continue tokens expire; `end_watches` and `cut_watches` end streams, politely or not.
"""

import contextlib
import json
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

WAIT_SECONDS = 60.0
Verb = Literal["list", "watch", "write"]


@dataclass(frozen=True)
class Request:
    """What came in."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    """What goes out instead of the usual; no status: the connection is closed without a word."""

    status: int = 0
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def status(code: int, reason: str, message: str = "") -> bytes:
    """A metav1.Status."""
    body = {"kind": "Status", "status": "Failure", "code": code}
    return json.dumps(body | {"reason": reason, "message": message}).encode()


def until(true: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    pause = threading.Event()
    for _ in range(int(WAIT_SECONDS / 0.005)):
        if true():
            return
        pause.wait(0.005)
    raise AssertionError("it did not come true in time")


class Served:
    """The server; a context manager."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.documents: dict[str, Any] = {}
        self.answers: dict[str, Answer] = {}
        self.before_page: Callable[[Request], None] = lambda _: None
        self.watching = 0
        self.connections: set[socket.socket] = set()
        self._objects: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        self._lists: dict[str, list[dict[str, Any]]] = {}
        self._log: list[tuple[str, int, bytes]] = []
        self._version = 100
        self._oldest = 0
        self._ends: dict[str, int] = {"end": 0, "cut": 0}
        self._refusals: dict[Verb, deque[Answer]] = defaultdict(deque)
        self._changed = threading.Condition()
        self._port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Serve, after a stop on the same port."""
        served = self

        class Bound(_Handler):
            world = served

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Bound)
        self._server.daemon_threads = True
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections, and cut those there are."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.cut_watches()
        for one in tuple(self.connections):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    # ---- what the tests do ---------------------------------------------------------------------

    def serve(self, path: str) -> None:
        """Serve a resource that has no object yet."""
        self._objects[path]

    def withdraw(self, path: str) -> None:
        """Serve it no longer."""
        del self._objects[path]
        self.end_watches()

    def put(self, path: str, name: str, **fields: Any) -> None:  # noqa: ANN401
        """Create or change an object; `namespace/name` or `name`."""
        with self._changed:
            kind = "MODIFIED" if name in self._objects[path] else "ADDED"
            self._objects[path][name] = self._stamped(name, fields)
            self._append(path, kind, self._objects[path][name])

    def remove(self, path: str, name: str) -> None:
        """Delete an object."""
        with self._changed:
            del self._objects[path][name]
            self._append(path, "DELETED", self._stamped(name, {}))

    def say(self, path: str, line: object) -> None:
        """Send a line of a watch as it is."""
        with self._changed:
            self._version += 1
            self._log.append((path, self._version, json.dumps(line).encode()))
            self._changed.notify_all()

    def bookmark(self, path: str) -> str:
        """Send a bookmark; return its version."""
        version = str(self._version + 1)
        self.say(path, {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}})
        return version

    def refuse(self, verb: Verb, *answers: Answer) -> None:
        """Give these answers to the next requests."""
        self._refusals[verb].extend(answers)

    def forget(self) -> None:
        """Let all versions so far expire."""
        with self._changed:
            self._version += 1
            self._oldest = self._version
            self._log.clear()
            self._lists.clear()

    def end_watches(self) -> None:
        """Close all streams as a time-out does."""
        self._end("end")

    def cut_watches(self) -> None:
        """Break all streams in the middle of a line."""
        self._end("cut")

    def asked(self, verb: Verb) -> list[Request]:
        """All requests of this kind so far."""
        return [one for one in self.requests if _verb(one) == verb]

    # ---- what the server does ------------------------------------------------------------------

    def _end(self, how: str) -> None:
        with self._changed:
            self._ends[how] += 1
            self._changed.notify_all()

    def _stamped(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        namespace, _, plain = name.rpartition("/")
        meta = {"name": plain, "namespace": namespace, "resourceVersion": str(self._version + 1)}
        return {**fields, "metadata": {**fields.get("metadata", {}), **meta}}

    def _append(self, path: str, kind: str, item: dict[str, Any]) -> None:
        self._version += 1
        line = json.dumps({"type": kind, "object": item}).encode()
        self._log.append((path, self._version, line))
        self._changed.notify_all()

    def answer(self, request: Request) -> Answer:
        """Everything but a watch."""
        self.requests.append(request)
        refusals = self._refusals[_verb(request)]
        if refusals:
            return refusals.popleft()
        if request.path in self.answers:
            return self.answers[request.path]
        if request.method != "GET":
            return Answer(200, b'{"kind": "Status", "status": "Success"}')
        if request.path in self.documents:
            return Answer(200, json.dumps(self.documents[request.path]).encode())
        if request.path not in self._objects:
            return Answer(404, status(404, "NotFound", "the server has no such resource"))
        if _verb(request) == "watch":
            return Answer(200)
        return self._page(request)

    def _page(self, request: Request) -> Answer:
        self.before_page(request)
        limit = int(request.query.get("limit", 0)) or 1_000_000
        token = request.query.get("continue", "")
        with self._changed:
            if token:
                version, start = token.split(":")
                if version not in self._lists:
                    return Answer(410, status(410, "Expired", "the continue token is too old"))
            else:
                version, start = str(self._version), "0"
                items = self._objects[request.path]
                self._lists[version] = [items[name] for name in sorted(items)]
        first, after = int(start), int(start) + limit
        meta = {"resourceVersion": version}
        if after < len(self._lists[version]):
            meta["continue"] = f"{version}:{after}"
        page = {"metadata": meta, "items": self._lists[version][first:after] or None}
        return Answer(200, json.dumps(page).encode())

    def stream(self, request: Request, send: Callable[[bytes], None]) -> bool:
        """Send events until the stream is ended; return whether politely."""
        after, ends = int(request.query["resourceVersion"]), dict(self._ends)
        if after < self._oldest:
            gone = {"type": "ERROR", "object": json.loads(status(410, "Expired", "too old"))}
            send(json.dumps(gone).encode() + b"\n")
            return True
        self.watching += 1
        try:
            while True:
                with self._changed:
                    news = [one for one in self._log if one[0] == request.path and one[1] > after]
                    ended = self._ends != ends
                    if not news and not ended:
                        self._changed.wait(WAIT_SECONDS)
                for _, after, line in news:  # noqa: B007
                    send(line + b"\n")
                if ended:
                    break
        finally:
            self.watching -= 1
        return self._ends["cut"] == ends["cut"]


def _verb(request: Request) -> Verb:
    if request.method != "GET":
        return "write"
    return "watch" if request.query.get("watch") == "true" else "list"


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    world: Served

    def setup(self) -> None:
        super().setup()
        self.world.connections.add(self.connection)

    def finish(self) -> None:
        self.world.connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def _answer(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = dict(parse_qsl(url.query))
        request = Request(self.command, url.path, query, dict(self.headers), body)
        answer = self.world.answer(request)
        if not answer.status:
            self._hang_up()
        elif _verb(request) == "watch" and answer == Answer(200):
            self._stream(request)
        else:
            self._send(answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def _stream(self, request: Request) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.world.stream(request, self._chunk):
            self._chunk(b"")
        else:
            self.wfile.write(b'20\r\n{"type": "MODIF')
            self._hang_up()

    def _chunk(self, piece: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
