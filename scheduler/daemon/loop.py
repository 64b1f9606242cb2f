"""Ticks at the policy's cadence, against the world's clock.

The loop ends when the world says so or when it is told to stop; housekeeping runs beside it.
"""

from collections.abc import Callable
from math import floor

from scheduler.daemon.tick import Progress, Shell, first, tick
from scheduler.ports import WorldEndedError


def run(
    shell: Shell,
    on_tick: Callable[[Progress], None],
    stopped: Callable[[], bool] = lambda: False,
) -> Progress:
    """Run ticks until the world ends or `stopped` says so; return the last state."""
    progress = first(shell)
    while not stopped():
        progress = tick(shell, progress)
        on_tick(progress)
        try:
            shell.clock.wait_until(_next(shell, progress))
        except WorldEndedError:
            break
    return progress


def _next(shell: Shell, progress: Progress) -> float:
    """Return the next multiple of the observation period after the last tick."""
    every = shell.policy().cadence.observe_seconds
    now = progress.last.snapshot.now_seconds if progress.last else 0.0
    return (floor(now / every) + 1) * every
