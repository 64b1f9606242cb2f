"""Draws a backtest: fan charts of one series a group, calibration, loss by horizon and method.

Takes scored curves, writes PNGs. Every axis has its unit; every colour is named once.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from forecasting.backtest import (
    TIDAL,
    Protocol,
    Scored,
    exceeded,
    judged,
    mean_losses,
    with_better_bands,
)
from forecasting.grid import Floats
from scheduler.cli import words

CALIBRATION, LOSS = "calibration.png", "loss.png"
FAN_SECONDS = (1800.0, 21600.0)
FAN_DAYS = 4
_DAY = 86400.0
_BLUE = "#1f5fa8"
_COLOURS = ("#b03a48", "#7a5aa6", "#6b6b6b", "#c2a02f", "#3a8f4d", "#d98b2b", "#4aa3a2")
_MARKERS = "osD^vPX"
_UNITS = {
    "requests": "requests per second",
    "prompt_tokens": "prompt tokens per second",
    "generated_tokens": "generated tokens per second",
}


def draw(folder: Path, done: Sequence[Scored], protocol: Protocol) -> list[str]:
    """Write all pictures into `folder` and return their names."""
    drawn = [(LOSS, _losses(done, protocol))]
    if any(TIDAL in one.curves for one in done):
        drawn.append((CALIBRATION, _calibration(done, protocol)))
        drawn += [(fan_name(one), _fan(one, protocol)) for one in examples(done)]
    for name, figure in drawn:
        figure.savefig(folder / name, dpi=110, format="png", metadata={"Software": None})
    return [name for name, _ in drawn]


def fan_name(one: Scored) -> str:
    """File name of a group's fan chart."""
    return f"fan-{one.series.group}.png"


def examples(done: Sequence[Scored]) -> list[Scored]:
    """The busiest series of each group, of the first field that was asked for."""
    best: dict[str, Scored] = {}
    for one in done:
        group = one.series.group
        if group not in best or (
            one.series.field == best[group].series.field
            and one.series.rate.mean() > best[group].series.rate.mean()
        ):
            best[group] = one
    return [best[group] for group in sorted(best)]


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _fan(one: Scored, protocol: Protocol) -> Figure:
    """Draw what came over the quantiles that were said for it, near and far ahead."""
    horizons = np.array(protocol.horizons_seconds)
    chosen = sorted({int(np.argmin(np.abs(horizons - seconds))) for seconds in FAN_SECONDS})
    figure = _figure(12, 4.2 * len(chosen) + 0.6)
    figure.suptitle(f"Tidal on {one.series.group}/{one.series.name}, {one.series.field}")
    several = figure.subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0]
    for axes, target in zip(several, chosen, strict=True):
        _draw_fan(axes, one, protocol, target)
    first, last = _days(one, protocol, chosen[-1])[0], _days(one, protocol, chosen[0])[-1]
    several[0].set_xlim(max(first, last - FAN_DAYS), max(first + 1, last))
    several[-1].set_xlabel("days since the start of the file")
    handles, labels = several[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _days(one: Scored, protocol: Protocol, target: int) -> Floats:
    """When each target was over, in days since the start of the file [origin]."""
    ended = (np.array(one.columns) + 1) * one.series.bin_seconds
    days: Floats = (ended + protocol.horizons_seconds[target]) / _DAY
    return days


def _draw_fan(axes: Axes, one: Scored, protocol: Protocol, target: int) -> None:
    days, curves = _days(one, protocol, target), one.curves[TIDAL][target]
    names = [f"P{100 * tau:g}" for tau in protocol.quantiles]
    for index in reversed(range(1, len(names))):
        axes.fill_between(
            days,
            curves[:, index - 1],
            curves[:, index],
            color=_BLUE,
            alpha=0.6 * 0.55 ** (index - 1),
            linewidth=0,
            label=f"{names[index - 1]} to {names[index]}",
        )
    axes.plot(days, curves[:, 0], color=_BLUE, linewidth=1.4, label=names[0])
    axes.plot(days, one.seen[target], color="black", linewidth=1.1, label="what came")
    axes.set_title(f"forecast {words.span(protocol.horizons_seconds[target])} ahead", loc="left")
    axes.set_ylabel(_UNITS[one.series.field])
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.25)


def _groups(done: Sequence[Scored]) -> dict[str, list[Scored]]:
    found: dict[str, list[Scored]] = {}
    for one in sorted(done, key=lambda one: (one.series.group, one.intermittent)):
        title = f"{one.series.group}, mostly zero" if one.intermittent else one.series.group
        found.setdefault(title, []).append(one)
    return found


def _panels(count: int, title: str) -> tuple[Figure, list[Axes]]:
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = _figure(max(5.2 * columns, 7) + 2.2, 4.4 * rows + 0.6)
    figure.suptitle(title)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for spare in axes[count:]:
        spare.set_visible(False)
    return figure, axes[:count]


def _calibration(done: Sequence[Scored], protocol: Protocol) -> Figure:
    """Draw how often a quantile was exceeded over how often it should be, per horizon."""
    groups = _groups([one for one in done if TIDAL in one.curves])
    figure, panels = _panels(
        len(groups), "Calibration of Tidal: how often demand exceeded a quantile"
    )
    asked = 100 * (1 - np.array(protocol.quantiles))
    for axes, (group, several) in zip(panels, groups.items(), strict=True):
        axes.plot(asked, asked, color="black", linewidth=1, linestyle=":", label="as asked")
        for number, ahead in enumerate(protocol.horizons_seconds):
            share = 100 * exceeded(several, number)
            axes.plot(
                asked,
                np.where(share > 0, share, np.nan),
                color=_COLOURS[number % len(_COLOURS)],
                marker=_MARKERS[number % len(_MARKERS)],
                markersize=5,
                linewidth=1.2,
                label=f"{words.span(ahead)} ahead",
            )
        _logarithmic(axes, asked)
        axes.set_title(f"{group} ({len(several)} series)", fontsize="medium")
        axes.set_xlabel("targets above the quantile, asked, %")
        axes.set_ylabel("targets above the quantile, seen, %")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure


def _logarithmic(axes: Axes, asked: Floats) -> None:
    """Both axes alike, ticks where a quantile was asked for."""
    for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        scale("log")
        axis.set_ticks(asked.tolist())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        axis.set_minor_locator(NullLocator())
    axes.grid(visible=True, alpha=0.25)


def _losses(done: Sequence[Scored], protocol: Protocol) -> Figure:
    """Draw the mean loss of each method over the horizons; a rival with its better bands."""
    groups, title = _groups(done), f"P{100 * judged(protocol):g}"
    figure, panels = _panels(
        len(groups), f"{title} loss by horizon; each rival with its better bands"
    )
    for axes, (group, several) in zip(panels, groups.items(), strict=True):
        losses = {method: row for (*_, method), row in mean_losses(several, protocol).items()}
        _draw_losses(axes, with_better_bands(losses), protocol)
        axes.set_title(f"{group} ({len(several)} series)", fontsize="medium")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure


def _draw_losses(axes: Axes, lines: dict[str, list[float | None]], protocol: Protocol) -> None:
    count = len(protocol.horizons_seconds)
    at = np.arange(count)
    if TIDAL in lines:
        row = 100 * np.array(lines[TIDAL][:count], np.float64)
        axes.plot(at, row, color="#0b2f57", marker="o", linewidth=2.6, label=TIDAL, zorder=3)
    rivals = [name for name in lines if name != TIDAL]
    for number, name in enumerate(rivals):
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
        row = 100 * np.array(lines[name][:count], np.float64)
        axes.plot(at, row, color=colour, marker=marker, markersize=4, linewidth=1.1, label=name)
    axes.set_xticks(at, [words.span(seconds) for seconds in protocol.horizons_seconds])
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("mean loss, % of mean demand")
    axes.set_xlabel("ahead")
    axes.grid(visible=True, which="both", alpha=0.2)
