"""Keeps the forecaster's newest state on disk, in a thread of its own.

The tick hands states over and waits for nothing. Of states that come faster than they are worth
writing only the newest is written, and the last one at the end. A write that fails is told once,
the next state is tried again, and what was written before stays.
"""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from forecasting import State

SPACING_SECONDS = 60.0
"""Shortest span of the wall between two writes; a crash loses no more than this and a forecast."""


class Keeper:
    """Use as a context, whose end waits for the last write."""

    def __init__(
        self,
        write: Callable[[State], None],
        tell: Callable[[OSError], None],
        spacing_seconds: float = SPACING_SECONDS,
    ) -> None:
        """`write` raises OSError where it cannot; `tell` hears the first of a row of them."""
        self._write, self._tell, self._spacing = write, tell, spacing_seconds
        self._changed = threading.Condition()
        self._newest: State | None = None
        self._ended = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="tidal-forecast", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join()

    def keep(self, state: State) -> None:
        """Have this state written soon, unless a newer one comes before."""
        with self._changed:
            self._newest = state
            self._changed.notify_all()

    def _run(self) -> None:
        while (state := self._next()) is not None:
            try:
                self._write(state)
                self._failing = False
            except OSError as error:
                if not self._failing:
                    self._tell(error)
                self._failing = True
            with self._changed:
                self._changed.wait_for(lambda: self._ended, self._spacing)

    def _next(self) -> State | None:
        """Wait for a state that is not written; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended)
            state, self._newest = self._newest, None
            return state
