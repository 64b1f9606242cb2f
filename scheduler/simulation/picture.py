"""Draws a run: who held the GPUs over time, and how much of them was productive beside rivals.

The last step of the demo and of `simulate --report`. Takes timelines, writes one PNG.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scheduler.simulation.timeline import Band, Timeline

_HOUR = 3600.0
_SMOOTH_SECONDS = 1800.0
"""Utilisation is drawn as a mean over this span, or lines of several runs hide each other."""

BANDS = (
    ("online, productive", "#1f5fa8"),
    ("online, idle headroom", "#a9cbe8"),
    ("batch, kept", "#3a8f4d"),
    ("batch, lost and overhead", "#d98b2b"),
    ("empty", "#eeeeee"),
)
_MODEL_STYLES = ("-", "--", ":", "-.")
_RIVAL_COLOURS = ("#b03a48", "#7a5aa6", "#6b6b6b", "#c2a02f")


def draw(path: Path, title: str, tidal: Timeline, rivals: Mapping[str, Timeline]) -> None:
    """Write the picture of one run and its rivals' utilisation to `path`, as PNG."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.4))
    figure.suptitle(title)
    _draw_bands(upper, tidal)
    _draw_recalls(upper, tidal)
    right = upper.twinx()
    _draw_demand(right, tidal)
    _draw_utilisation(lower, tidal, rivals)
    for axes in (upper, lower):
        axes.axvspan(min(0.0, tidal.start_seconds / _HOUR), 0.0, color="black", alpha=0.06)
    _explain(figure, (upper, right, lower))
    figure.savefig(path, dpi=110, format="png", metadata={"Software": None})


def _hours(timeline: Timeline) -> list[float]:
    """Return the middle of each bin."""
    start, width = timeline.start_seconds, timeline.bin_seconds
    return [(start + (index + 0.5) * width) / _HOUR for index in range(len(timeline.ready))]


def _draw_bands(axes: Axes, timeline: Timeline) -> None:
    rows = (
        timeline.online_productive,
        timeline.online_idle,
        timeline.batch_kept,
        timeline.batch_lost,
        timeline.empty,
    )
    names, colours = zip(*BANDS, strict=True)
    axes.stackplot(_hours(timeline), *rows, labels=names, colors=colours, linewidth=0)
    axes.set_ylabel("GPUs")
    span = max(1, len(timeline.ready)) * timeline.bin_seconds
    axes.set_xlim(timeline.start_seconds / _HOUR, (timeline.start_seconds + span) / _HOUR)
    axes.set_ylim(0, 1.06 * max(timeline.ready, default=1.0) or 1.0)


def _draw_recalls(axes: Axes, timeline: Timeline) -> None:
    top = 1.03 * max(timeline.ready, default=1.0)
    for late, colour, name in ((False, "#333333", "recall in time"), (True, "#d01c1c", "late")):
        at = [one.at_seconds / _HOUR for one in timeline.recalls if one.late is late]
        if at:
            axes.plot(at, [top] * len(at), "v", color=colour, markersize=4, label=name)


def _draw_demand(right: Axes, timeline: Timeline) -> None:
    """Draw what each model's users asked for, in tokens, on an axis of its own."""
    for number, (model, row) in enumerate(timeline.demand_tokens_per_second.items()):
        style = _MODEL_STYLES[number % len(_MODEL_STYLES)]
        thousands = np.asarray(row) / 1000
        label = f"demand, {model}"
        right.plot(_hours(timeline), thousands, style, color="black", linewidth=1.2, label=label)
    right.set_ylabel("demand, thousand tokens per second")
    right.set_ylim(bottom=0)


def _draw_utilisation(axes: Axes, tidal: Timeline, rivals: Mapping[str, Timeline]) -> None:
    for number, (name, rival) in enumerate(rivals.items()):
        colour = _RIVAL_COLOURS[number % len(_RIVAL_COLOURS)]
        label = f"share, {name}"
        axes.plot(_hours(rival), _smooth(rival), color=colour, linewidth=1.2, label=label)
    axes.plot(_hours(tidal), _smooth(tidal), color="#0b2f57", linewidth=2.0, label="share, tidal")
    axes.set_ylabel("productive share")
    axes.set_xlabel("hours; grey: warm-up, not scored")
    axes.set_ylim(0, 1)
    axes.grid(visible=True, axis="y", alpha=0.3)


def _explain(figure: Figure, all_axes: tuple[Axes, ...]) -> None:
    """Name every colour and line once, beside the axes, so that nothing is covered."""
    pairs = [axes.get_legend_handles_labels() for axes in all_axes]
    handles = [handle for found, _ in pairs for handle in found]
    labels = [label for _, found in pairs for label in found]
    figure.legend(handles, labels, loc="outside right upper", fontsize="small", frameon=False)


def _smooth(timeline: Timeline) -> Band:
    """Return the utilisation as a centred moving mean, shorter at both ends."""
    values = np.asarray(timeline.utilisation)
    half = max(0, round(_SMOOTH_SECONDS / timeline.bin_seconds) // 2)
    return tuple(
        float(values[max(0, at - half) : at + half + 1].mean()) for at in range(len(values))
    )
