"""Ticks at the policy's cadence, against the world's clock.

The loop ends when the world says so or when it is told to stop.
"""

from collections.abc import Callable

from scheduler.daemon.tick import Progress, Shell, first, next_tick_seconds, tick
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
            shell.clock.wait_until(next_tick_seconds(shell, progress))
        except WorldEndedError:
            break
    return progress
