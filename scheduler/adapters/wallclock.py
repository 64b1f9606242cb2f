"""Time of the machine behind the ports: the one place where the daemon meets it."""

import threading
import time
from math import isfinite

from scheduler.ports import WorldEndedError

SLICE_SECONDS = 1.0
"""Longest wait before the clock is read again, since somebody may set it."""
SPACING_SECONDS = 1.0
"""Shortest span between two returns of `wait_until` that a wake brought forward."""
REST = 4.0
"""After a tick at least so many times what it took is rest, whatever changes meanwhile."""

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_seconds() -> float:
    """Return seconds that nobody sets, and that pass also while the machine sleeps."""
    return time.clock_gettime(_STEADY)


class WallClock:
    """`ports.Clock` in Unix seconds; with a rate other than 1, time runs faster from an origin."""

    def __init__(self, rate: float = 1.0, origin: float | None = None) -> None:
        """`origin` is the instant of the wall at which this clock agrees with it; default now."""
        self._rate = rate
        self._origin = time.time() if origin is None else origin
        self._changed = threading.Condition()
        self._woken = self._stopped = False
        self._returned = float("-inf")
        self._spacing = SPACING_SECONDS

    def now_seconds(self) -> float:
        """Return the time."""
        return self.of_wall(time.time())

    def of_wall(self, seconds: float) -> float:
        """Return this clock's time at an instant of the wall, in Unix seconds both."""
        return self._origin + (seconds - self._origin) * self._rate

    def wait_until(self, seconds: float) -> None:
        """Return at `seconds`, or before after a `wake`; raise WorldEndedError after `stop`."""
        with self._changed:
            took = steady_seconds() - self._returned
            self._spacing = max(SPACING_SECONDS, REST * took) if isfinite(took) else SPACING_SECONDS
            while not self._stopped and (left := self._left(seconds)) > 0:
                self._changed.wait(min(left / self._rate, SLICE_SECONDS))
            if self._stopped:
                raise WorldEndedError
            self._woken = False
            self._returned = steady_seconds()

    def wake(self) -> None:
        """Something happened that a tick should see soon; may be called from any thread."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def stop(self) -> None:
        """End all waits; may be called from a signal's handler and from any thread."""
        self._stopped = True
        # a handler runs in the thread that may hold the lock, so it cannot wait for it
        if self._changed.acquire(blocking=False):
            self._changed.notify_all()
            self._changed.release()

    def charge_planning(self, effort: str) -> None:
        """Planning takes the time it takes."""

    def _left(self, seconds: float) -> float:
        """Return how long to wait still, in this clock's seconds."""
        left = seconds - self.now_seconds()
        if not self._woken:
            return left
        rest = self._spacing - (steady_seconds() - self._returned)
        return min(left, rest * self._rate)
