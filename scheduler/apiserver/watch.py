"""One open watch: the lines of a stream that any thread may end."""

import contextlib
import http.client
from collections.abc import Callable, Iterator

import urllib3

_PIECE_BYTES = 1 << 16
_FAILURES = (
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
    AttributeError,
)
"""The last two come from a connection that was ended in the middle of a read."""


class Watch(Iterator[bytes]):
    """Raw lines, without the line break; ends when the server closes it or after `close()`.

    Raises `broken` where the connection is lost or stays silent for too long. One thread reads.
    """

    def __init__(
        self,
        response: urllib3.BaseHTTPResponse,
        forget: Callable[["Watch"], None],
        broken: type[Exception],
    ) -> None:
        """`forget` is called once, when the stream is over."""
        self._response = response
        self._forget = forget
        self._broken = broken
        self._rest = b""
        self._lines: list[bytes] = []
        self._ended = False

    def __next__(self) -> bytes:
        """Return the next line; wait for it."""
        while not self._ended:
            if self._lines:
                return self._lines.pop()
            self._read()
        self._finish()
        raise StopIteration

    def close(self) -> None:
        """End the stream: a read that waits returns at once."""
        self._ended = True
        with contextlib.suppress(*_FAILURES, RuntimeError):
            self._response.shutdown()
        self._forget(self)

    def release(self) -> None:
        """End the stream and give its connection up; for the thread that reads, which may stop."""
        self._ended = True
        self._finish()

    def _read(self) -> None:
        """Take what has come, at least a byte of it, and cut it into lines."""
        try:
            piece = self._response.read1(_PIECE_BYTES)
        except _FAILURES as error:
            self._finish()
            if self._ended:
                return
            self._ended = True
            raise self._broken(f"the watch broke off: {error}") from error
        if not piece:
            self._ended = True
            return
        *whole, self._rest = (self._rest + piece).split(b"\n")
        self._lines = [line for line in reversed(whole) if line]

    def _finish(self) -> None:
        """Give the connection up; what is left in it is of no use to another call."""
        with contextlib.suppress(*_FAILURES):
            self._response.close()
        self._forget(self)
