"""Shows the demo while it plays: a panel on a terminal, else a line every few seconds.

All of it goes to standard error, which leaves standard output to the result.
"""

import sys
from collections.abc import Sequence
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from scheduler.cli import words
from scheduler.simulation.demo import Opened, Scene
from scheduler.simulation.timeline import Timeline
from scheduler.simulation.worldwire import WorldProgress

LINE_SECONDS = 5.0
SPARK_COLUMNS = 60
SPARKS = "▁▂▃▄▅▆▇█"
BAR_COLUMNS = 40


class Screen:
    """Where the demo is shown; use as a context around the play."""

    def __init__(self) -> None:
        """Find out whether standard error is a terminal."""
        self._console = Console(file=sys.stderr, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._line_due = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def opened(self, opened: Opened) -> None:
        """Say where everything is."""
        self.said(f"world   {opened.world_url}")
        self.said(f"daemon  process {opened.daemon_pid}; it is started again when it is killed")
        self.said(f"look    scalerctl status --server {opened.api_url}")

    def said(self, line: str) -> None:
        """Show a line that stays."""
        self._console.print(line, soft_wrap=True)

    def shown(self, scene: Scene) -> None:
        """Show the play at this moment."""
        if self._console.is_terminal:
            self._live.update(panel(scene), refresh=True)
        elif scene.wall_seconds >= self._line_due:
            self._line_due = scene.wall_seconds + LINE_SECONDS
            self.said(line(scene))


def share_done(progress: WorldProgress) -> float:
    """Return how much of the run is over, 0 to 1."""
    length = progress.end_seconds - progress.start_seconds
    return (progress.now_seconds - progress.start_seconds) / length


def seconds_left(scene: Scene) -> float | None:
    """Return the wall time that the rest takes at the mean pace so far; None before any."""
    done = share_done(scene.progress)
    return scene.wall_seconds * (1 - done) / done if done > 0 else None


def useful_share(timeline: Timeline) -> float | None:
    """Return the productive share of all GPU time so far."""
    ready = sum(timeline.ready)
    useful = sum(timeline.online_productive) + sum(timeline.batch_kept)
    return useful / ready if ready else None


def line(scene: Scene) -> str:
    """Return one compact line."""
    progress, timeline = scene.progress, scene.progress.timeline
    online = _last(timeline.online_productive) + _last(timeline.online_idle)
    batch = _last(timeline.batch_kept) + _last(timeline.batch_lost)
    return (
        f"{clock(progress.now_seconds)} {share_done(progress):4.0%}  "
        f"online {online:.0f} GPUs, batch {batch:.0f} on {progress.loans} loans, "
        f"recalls {len(timeline.recalls)}, stops {progress.stops}, "
        f"utilisation {words.share(useful_share(timeline))}, "
        f"SLO {_percent(progress.slo_attainment)}, "
        f"{words.span(seconds_left(scene))} left"
    ) + (f"; {missing}" if (missing := _missing(scene).plain) else "")


def panel(scene: Scene) -> Panel:
    """Return the whole display."""
    progress = scene.progress
    parts = Group(
        _head(scene), _tide(progress.timeline), _roles(progress), _batch(progress), _missing(scene)
    )
    title = f"Tidal at {clock(progress.now_seconds)} of {clock(progress.end_seconds)}"
    return Panel(parts, title=title, title_align="left")


def clock(seconds: float) -> str:
    """Return scored time as `+07:35`, the warm-up before it as `-02:10`."""
    minutes = int(abs(seconds)) // 60
    sign = "-" if seconds < 0 else "+"
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}"


def spark(values: Sequence[float], columns: int = SPARK_COLUMNS) -> str:
    """Return the newest values as bars of eight heights, 0 to the highest."""
    if not values:
        return ""
    per = max(1, -(-len(values) // columns))
    cuts = [values[start : start + per] for start in range(0, len(values), per)]
    means = [sum(cut) / len(cut) for cut in cuts]
    top = max(means) or 1.0
    return "".join(SPARKS[min(7, int(8 * value / top))] for value in means)


def _head(scene: Scene) -> Table:
    row = Table.grid(padding=(0, 2))
    done = share_done(scene.progress)
    row.add_row(
        ProgressBar(total=1.0, completed=done, width=BAR_COLUMNS),
        f"{done:.0%}",
        f"{words.span(seconds_left(scene))} left",
    )
    return row


def _missing(scene: Scene) -> Text:
    """Return what is said while there is no daemon."""
    if scene.progress.unplanned:
        return Text("no daemon: the world runs on without a planner", "yellow")
    return Text("no daemon: the world waits" if scene.daemon_pid is None else "", "yellow")


def _tide(timeline: Timeline) -> Table:
    made = Table.grid(padding=(0, 2))
    for model, row in timeline.demand_tokens_per_second.items():
        made.add_row(model, Text(spark(row), "cyan"), f"{_last(row):,.0f} tokens/s")
    return made


def _roles(progress: WorldProgress) -> Table:
    made = Table.grid(padding=(0, 2))
    for one in progress.roles:
        coming = f"+{one.coming} coming" if one.coming else ""
        going = f"-{one.draining} draining" if one.draining else ""
        made.add_row(one.role, f"{one.ready} ready", Text(coming, "green"), Text(going, "yellow"))
    return made


def _batch(progress: WorldProgress) -> Text:
    timeline = progress.timeline
    late = sum(one.late for one in timeline.recalls)
    return Text(
        f"loans {progress.loans}   preemptions {progress.stops}   "
        f"recalls {len(timeline.recalls)}, late {late}\n"
        f"so far: productive utilisation {words.share(useful_share(timeline))}, "
        f"SLO attainment {_percent(progress.slo_attainment)}"
    )


def _percent(share: float | None) -> str:
    """Return a share near 1 with the decimals that matter."""
    return words.UNKNOWN if share is None else f"{share:.2%}"


def _last(values: Sequence[float]) -> float:
    return values[-1] if values else 0.0
