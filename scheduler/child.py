"""A process of our own at the other end of a pipe: how every part that needs one gets it.

It runs a function of a module, with its end of the pipe as the first argument, and should return
when the pipe closes: then it ends with its parent, also where the parent is killed.
"""

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection


class Child:
    """A running process; `pipe` leads to it, `stop` ends it."""

    def __init__(self, name: str, target: Callable[..., None], *args: object) -> None:
        """Start `target(pipe, *args)`; the arguments are pickled."""
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_begin, args=(target, theirs, args), name=name, daemon=True
        )
        self._process.start()
        theirs.close()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def stop(self, patience_seconds: float) -> None:
        """Close the pipe, and kill what has not ended by then; a second time does nothing."""
        self.pipe.close()
        self._process.join(patience_seconds)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _begin(target: Callable[..., None], pipe: Connection, args: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the parent's, which closes the pipe
    target(pipe, *args)
