"""Writes the ledger in a thread of its own, so that a tick does not wait for it.

The ledger is evidence, so the newest ticks may be lost with the process; order is kept, and the
queue is short. A write that failed fails the next `record`, and with it the daemon.
"""

import queue
import threading
from types import TracebackType
from typing import Self

from scheduler.ports import Ledger, Tick

MOST_WAITING = 8
"""Ticks; then `record` waits."""


class WriteBehind:
    """`ports.Ledger` before another one; use as a context, whose end waits for the last write."""

    def __init__(self, ledger: Ledger) -> None:
        """Write to `ledger`, whose file stays open until the context has ended."""
        self._ledger = ledger
        self._waiting: queue.Queue[Tick | None] = queue.Queue(MOST_WAITING)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._write, name="tidal-ledger", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waiting.put(None)
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def record(self, tick: Tick) -> None:
        """Queue one tick; raise what an earlier write raised."""
        if self._error is not None:
            raise self._error
        self._waiting.put(tick)

    def next_number(self) -> int:
        """Return the number that the next tick carries; asked once, before the first."""
        return self._ledger.next_number()

    def _write(self) -> None:
        """Write until the end; after an error only empty the queue, so that nobody waits."""
        while (tick := self._waiting.get()) is not None:
            if self._error is not None:
                continue
            try:
                self._ledger.record(tick)
            except Exception as error:  # noqa: BLE001, raised again in the tick's thread
                self._error = error
