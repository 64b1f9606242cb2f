"""Ticks at the policy's cadence, against the world's clock.

The loop ends when the world says so or when it is told to stop. Where the world cannot be seen,
a tick is left out: nothing is decided, and the extender goes on from the plan it has.
"""

from collections.abc import Callable

from scheduler.daemon.tick import Progress, Shell, first, next_tick_seconds, tick
from scheduler.ports import WorldEndedError, WorldStaleError


def run(
    shell: Shell,
    on_tick: Callable[[Progress], None],
    stopped: Callable[[], bool] = lambda: False,
    on_blind: Callable[[WorldStaleError], None] = lambda _: None,
) -> Progress:
    """Run ticks until the world ends or `stopped` says so; return the last state.

    `on_blind` is told of every tick that was left out.
    """
    progress = first(shell)
    while not stopped():
        try:
            progress = tick(shell, progress)
            on_tick(progress)
        except WorldStaleError as error:
            on_blind(error)
        try:
            shell.clock.wait_until(next_tick_seconds(shell, progress))
        except WorldEndedError:
            break
    return progress
