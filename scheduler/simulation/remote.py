"""The world behind HTTP, as the ports: what the daemon holds of a world in another process.

One connection, kept open. A call whose connection breaks is sent again until `RETRY_SECONDS`
have passed; every call of `worldwire` may be sent twice. A world that cannot be reached at all
raises `WorldUnreachableError`, one that refuses a call raises `WorldRefusedError`.
"""

import threading
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from forecasting import Sample
from scheduler.planning.actions import Action, Plan
from scheduler.planning.snapshot import Reservation, Snapshot
from scheduler.ports import Outcome, WorldEndedError
from scheduler.simulation import worldwire as wire

CALL_SECONDS = 60.0
"""Longest wait for one answer; a step in which pods wait for a dead extender takes seconds."""
TRIES = 25
PAUSE_SECONDS = 0.2
OK = 200

_SLACK = 1e-9
_T = TypeVar("_T")


class WorldUnreachableError(OSError):
    """Nothing answers at the world's address; the message names it and the fix."""


class WorldRefusedError(RuntimeError):
    """The world answered that a call was wrong, or failed."""


class RemoteWorld:
    """`Observer`, `Actuator` and `Clock` over one connection; for one thread."""

    def __init__(self, url: str) -> None:
        """Take the address; raises ValueError where it is no http URL with a port."""
        self._host, self._port = _address(url)
        self.url = url
        self._connection: HTTPConnection | None = None
        self._cursor = 0
        self._now_seconds = 0.0
        self._ended = False
        self._encode = msgspec.msgpack.Encoder().encode
        self._snapshot = msgspec.msgpack.Decoder(Snapshot)
        self._bins = msgspec.msgpack.Decoder(wire.Bins)
        self._applied = msgspec.msgpack.Decoder(wire.Applied)
        self._moved = msgspec.msgpack.Decoder(wire.Moved)
        self._progress = msgspec.msgpack.Decoder(wire.WorldProgress)
        self._report = msgspec.msgpack.Decoder(wire.WorldReport)
        self._nothing = msgspec.msgpack.Decoder(None)

    # ---- Observer --------------------------------------------------------------------------

    def observe(self) -> Snapshot:
        """Return the newest state, without forecasts."""
        seen = self._call(wire.OBSERVE, None, self._snapshot)
        self._now_seconds = seen.now_seconds
        return seen

    def history(self) -> Sequence[Sample]:
        """Return all demand known so far, also what another planner has asked for before."""
        self._cursor = 0
        return self.samples()

    def samples(self) -> Sequence[Sample]:
        """Return the demand bins that closed since the last call."""
        bins = self._call(wire.SAMPLES, wire.After(self._cursor), self._bins)
        self._cursor = bins.cursor
        return bins.samples

    # ---- Actuator --------------------------------------------------------------------------

    def reserve(self, reservations: tuple[Reservation, ...], epoch: int) -> None:
        """Replace the held reservations by these."""
        self._call(wire.RESERVE, wire.Reserve(reservations, epoch), self._nothing)

    def apply(self, actions: tuple[Action, ...], epoch: int) -> tuple[Outcome, ...]:
        """Apply in order, or learn why an action was dropped."""
        if not actions:
            return ()
        return self._call(wire.APPLY, wire.Apply(actions, epoch), self._applied).outcomes

    # ---- Clock -----------------------------------------------------------------------------

    def wait_until(self, seconds: float) -> None:
        """Let the world's time pass; raise `WorldEndedError` where it ends before `seconds`."""
        self._advance(wire.Advance(seconds=seconds))
        if self._ended and self._now_seconds < seconds - _SLACK:
            raise WorldEndedError

    def charge_planning(self, effort: str) -> None:
        """Let the time pass that a plan of this effort takes, counted from what was seen last."""
        self._advance(wire.Advance(seconds=self._now_seconds, effort=effort))

    # ---- what only a virtual world takes ----------------------------------------------------

    def register_extender(self, url: str) -> None:
        """Have pods placed by the extender at `url`."""
        self._call(wire.EXTENDER, wire.ExtenderAt(url), self._nothing)

    def planned(self, plan: Plan, violations: tuple[str, ...]) -> None:
        """Say for the event stream that a plan was made, and what it found broken."""
        said = wire.Planned(source=plan.source, actions=len(plan.actions), violations=violations)
        self._call(wire.PLANNED, said, self._nothing)

    def progress(self) -> wire.WorldProgress:
        """Return how far the world is; does not count as a planner's call."""
        return self._call(wire.PROGRESS, None, self._progress)

    def report(self) -> wire.WorldReport:
        """Return what the run came to; raise `WorldRefusedError` before its end."""
        return self._call(wire.REPORT, None, self._report)

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # ---- inside ----------------------------------------------------------------------------

    def _advance(self, ask: wire.Advance) -> None:
        moved = self._call(wire.ADVANCE, ask, self._moved)
        self._now_seconds, self._ended = moved.now_seconds, moved.ended

    def _call(self, path: str, ask: object, decoder: msgspec.msgpack.Decoder[_T]) -> _T:
        body = b"" if ask is None else self._encode(ask)
        status, content = self._exchanged(path, body)
        if status != OK:
            said = msgspec.msgpack.decode(content, type=wire.Refused)
            raise WorldRefusedError(said.error)
        return decoder.decode(content)

    def _exchanged(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Send until an answer comes; raise `WorldUnreachableError` after the last try."""
        for _ in range(TRIES - 1):
            try:
                return self._exchange(path, body)
            except (OSError, HTTPException):
                self.close()
                threading.Event().wait(PAUSE_SECONDS)
        try:
            return self._exchange(path, body)
        except (OSError, HTTPException) as error:
            raise WorldUnreachableError(
                f"--world: nothing answers at {self.url} ({_why(error)}); "
                "start the world, or name another address"
            ) from error

    def _exchange(self, path: str, body: bytes) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = HTTPConnection(self._host, self._port, timeout=CALL_SECONDS)
        self._connection.request("POST", path, body, {"Content-Type": wire.MEDIA_TYPE})
        answer = self._connection.getresponse()
        return answer.status, answer.read()


def _why(error: OSError | HTTPException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _address(url: str) -> tuple[str, int]:
    """Return host and port; raise ValueError with the fix."""
    wrong = ValueError(f"--world: {url!r} is no address; give one like http://127.0.0.1:8080")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme != "http" or not host or not port:
        raise wrong
    return host, port
