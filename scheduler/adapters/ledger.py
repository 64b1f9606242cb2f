"""The ledger: every tick in one SQLite file, enough to compute it again.

Evidence, not state: the daemon never reads it to decide. A tick's snapshot is stored as the
change from the tick before; every `KEY_EVERY` ticks begin a new group with a whole snapshot,
and retention drops whole groups. Writes are ordered but not forced to disk one by one: after a
power cut the newest ticks may be missing, the file stays whole.
"""

import hashlib
import sqlite3
import threading
import zlib
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from scheduler.adapters import deltas
from scheduler.planning.actions import Plan
from scheduler.planning.memory import Memory
from scheduler.ports import Outcome, Tick, TickLine

APPLICATION_ID = 0x7469646C
VERSION = 1
KEY_EVERY = 60
FIRST_NUMBER = 1

_TABLES = f"""
BEGIN;
CREATE TABLE policies (hash TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE sessions (
  first INTEGER PRIMARY KEY, after_unclean INTEGER NOT NULL, clean INTEGER NOT NULL
);
CREATE TABLE ticks (
  number INTEGER PRIMARY KEY, key_number INTEGER NOT NULL, at_seconds REAL NOT NULL,
  effort TEXT NOT NULL, source TEXT NOT NULL, actions INTEGER NOT NULL,
  applied INTEGER NOT NULL, violations INTEGER NOT NULL, summary TEXT NOT NULL,
  policy TEXT NOT NULL, snapshot BLOB NOT NULL, body BLOB NOT NULL
);
CREATE INDEX ticks_by_key ON ticks (key_number);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
COMMIT;
"""
_LINE = "number, at_seconds, effort, source, actions, applied, violations, summary"


class LedgerFormatError(ValueError):
    """The file is no ledger, or one of another version."""


class UnknownTickError(LookupError):
    """A tick that the ledger does not hold."""


class Gap(msgspec.Struct, frozen=True):
    """A place where ticks may be missing, between two that are there."""

    after_number: int
    next_number: int


class _Body(msgspec.Struct, frozen=True, array_like=True):
    """The part of a tick that is stored whole."""

    memory_before: Memory | None
    """None where it is the memory after the tick before."""
    memory_after: Memory
    plan: Plan
    outcomes: tuple[Outcome, ...]
    violations: tuple[str, ...]


_ENCODE = msgspec.msgpack.Encoder().encode
_BODY = msgspec.msgpack.Decoder(_Body)


class SqliteLedger:
    """`ports.Ledger` over one file; safe to use from several threads."""

    def __init__(self, connection: sqlite3.Connection, retain_ticks: int | None) -> None:
        """Take over an open connection whose format has been checked."""
        self._db = connection
        self._retain_ticks = retain_ticks
        self._lock = threading.Lock()
        self._session: int | None = None
        self._key_number: int | None = None
        self._frame: deltas.Frame = {}
        self._memory_after = b""

    def record(self, tick: Tick) -> None:
        """Store one tick.

        Raises ValueError where its number is not above all stored ones, sqlite3.Error where the
        file cannot be written; then nothing of the tick is stored.
        """
        with self._lock:
            last = self._last()
            if last is not None and tick.number <= last:
                raise ValueError(
                    f"tick.number is {tick.number}; the ledger goes to {last}, "
                    f"so the next is at least {last + 1}"
                )
            self._store(tick, last)

    def next_number(self) -> int:
        """Return the number that the next tick carries."""
        with self._lock:
            last = self._last()
        return FIRST_NUMBER if last is None else last + 1

    def tick(self, number: int) -> Tick:
        """Return one tick as it was recorded, or raise `UnknownTickError`."""
        with self._lock:
            row = self._db.execute(
                "SELECT key_number, effort, policies.body, ticks.body FROM ticks"
                " JOIN policies ON policies.hash = policy WHERE number = ?",
                (number,),
            ).fetchone()
            if row is None:
                raise UnknownTickError(self._unknown(number))
            key_number, effort, policy, packed = row
            group = self._db.execute(
                "SELECT snapshot, body FROM ticks"
                " WHERE key_number = ? AND number <= ? ORDER BY number",
                (key_number, number),
            ).fetchall()
        bodies: dict[str, dict[str, bytes]] = {}
        for snapshot, _ in group:
            bodies = deltas.applied(bodies, snapshot)
        body = _unpacked(packed)
        before = body.memory_before
        return Tick(
            number=number,
            snapshot=deltas.snapshot_of(bodies),
            memory_before=_unpacked(group[-2][1]).memory_after if before is None else before,
            memory_after=body.memory_after,
            policy=policy,
            effort=effort,
            plan=body.plan,
            outcomes=body.outcomes,
            violations=body.violations,
        )

    def ticks(self, first: int, last: int) -> tuple[TickLine, ...]:
        """Return the ticks from `first` to `last`, both included, as far as they are there."""
        query = f"SELECT {_LINE} FROM ticks WHERE number BETWEEN ? AND ? ORDER BY number"  # noqa: S608
        with self._lock:
            return tuple(TickLine(*row) for row in self._db.execute(query, (first, last)))

    def gaps(self) -> tuple[Gap, ...]:
        """Return where ticks are missing, or may be: the daemon before had no clean end."""
        query = """
            WITH pairs AS (SELECT number, LAG(number) OVER (ORDER BY number) AS before FROM ticks)
            SELECT before, number FROM pairs LEFT JOIN sessions ON first = number
            WHERE before IS NOT NULL AND (number > before + 1 OR after_unclean) ORDER BY number
        """
        with self._lock:
            return tuple(Gap(*row) for row in self._db.execute(query))

    def close(self) -> None:
        """Mark a clean end and close the file."""
        with self._lock:
            if self._session is not None:
                with self._db:
                    self._db.execute(
                        "UPDATE sessions SET clean = 1 WHERE first = ?", (self._session,)
                    )
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _store(self, tick: Tick, last: int | None) -> None:
        """Write all rows of a tick in one transaction, then remember what the next builds on."""
        begins = self._key_number is None or tick.number - self._key_number >= KEY_EVERY
        key_number = tick.number if begins or self._key_number is None else self._key_number
        frame = deltas.frame_of(tick.snapshot, self._frame)
        memory_after = _ENCODE(tick.memory_after)
        follows = not begins and _ENCODE(tick.memory_before) == self._memory_after
        with self._db:
            if self._session is None:
                self._open_session(tick.number, last)
            self._db.execute(
                "INSERT INTO ticks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    tick.number,
                    key_number,
                    tick.snapshot.now_seconds,
                    tick.effort,
                    tick.plan.source,
                    len(tick.plan.actions),
                    sum(outcome.applied for outcome in tick.outcomes),
                    len(tick.violations),
                    tick.plan.summary,
                    self._policy_hash(tick.policy),
                    deltas.delta({} if begins else self._frame, frame),
                    _packed(tick, follows),
                ),
            )
            if begins:
                self._forget(tick.number)
        self._session = tick.number if self._session is None else self._session
        self._key_number, self._frame, self._memory_after = key_number, frame, memory_after

    def _open_session(self, first: int, last: int | None) -> None:
        row = self._db.execute("SELECT clean FROM sessions ORDER BY first DESC LIMIT 1").fetchone()
        unclean = last is not None and (row is None or not row[0])
        self._db.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?, 0)", (first, unclean))

    def _policy_hash(self, body: bytes) -> str:
        name = hashlib.sha256(body).hexdigest()
        self._db.execute("INSERT OR IGNORE INTO policies VALUES (?, ?)", (name, body))
        return name

    def _forget(self, newest: int) -> None:
        """Drop the groups that lie wholly beyond retention, and policies that none names."""
        if self._retain_ticks is None:
            return
        self._db.execute(
            "DELETE FROM ticks WHERE key_number IN"
            " (SELECT key_number FROM ticks GROUP BY key_number HAVING MAX(number) <= ?)",
            (newest - self._retain_ticks,),
        )
        self._db.execute("DELETE FROM policies WHERE hash NOT IN (SELECT policy FROM ticks)")
        self._db.execute(
            "DELETE FROM sessions WHERE first < (SELECT MIN(number) FROM ticks)"
            " AND first < (SELECT MAX(first) FROM sessions)"
        )

    def _last(self) -> int | None:
        last: int | None = self._db.execute("SELECT MAX(number) FROM ticks").fetchone()[0]
        return last

    def _unknown(self, number: int) -> str:
        first, last = self._db.execute("SELECT MIN(number), MAX(number) FROM ticks").fetchone()
        there = "it holds none" if first is None else f"it holds {first} to {last}"
        return f"tick {number} is not in the ledger; {there}"


def open_ledger(path: Path, retain_ticks: int | None = None) -> SqliteLedger:
    """Open the ledger at `path`, or make it; `retain_ticks` are kept at least, None keeps all.

    Raises `LedgerFormatError` where the file is something else, sqlite3.Error where it cannot
    be opened.
    """
    connection = sqlite3.connect(path, check_same_thread=False)
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return SqliteLedger(connection, retain_ticks)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    try:
        application, version, tables = (
            connection.execute(query).fetchone()[0]
            for query in (
                "PRAGMA application_id",
                "PRAGMA user_version",
                "SELECT COUNT(*) FROM sqlite_master",
            )
        )
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        raise LedgerFormatError(f"{path} is no ledger ({error}); name another file") from None
    if tables and application != APPLICATION_ID:
        raise LedgerFormatError(f"{path} is a database of something else; name another file")
    if tables and version != VERSION:
        raise LedgerFormatError(
            f"{path} has ledger version {version}, this Tidal reads version {VERSION}; "
            "move the file away, or read it with the Tidal that wrote it"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    if not tables:
        connection.executescript(_TABLES)


def _packed(tick: Tick, follows: bool) -> bytes:  # noqa: FBT001
    body = _Body(
        memory_before=None if follows else tick.memory_before,
        memory_after=tick.memory_after,
        plan=tick.plan,
        outcomes=tick.outcomes,
        violations=tick.violations,
    )
    return zlib.compress(_ENCODE(body), 1)


def _unpacked(packed: bytes) -> _Body:
    return _BODY.decode(zlib.decompress(packed))
