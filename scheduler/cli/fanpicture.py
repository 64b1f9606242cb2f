"""The same as `fan` on paper: the last days of each series and the fan of its quantiles, as PNG."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator, StrMethodFormatter

from scheduler.daemon.documents.shapes import Outlook, SeriesOutlook

HOUR = 3600.0
TICK_HOURS = 12
PANEL_INCHES = 3.2
PAST_COLOUR, MIDDLE_COLOUR, BAND_COLOUR, PEAK_COLOUR = "#333333", "#0b2f57", "#1f5fa8", "#b03a48"
SHADES = (0.45, 0.28, 0.15)


def draw(path: Path, outlook: Outlook) -> None:
    """Write one panel for each series to `path`, as PNG; raise OSError where that cannot be."""
    count = len(outlook.series)
    figure = Figure(figsize=(11, 0.6 + PANEL_INCHES * count), layout="constrained")
    FigureCanvasAgg(figure)
    rows = np.atleast_1d(figure.subplots(count, 1, sharex=True))
    figure.suptitle(f"{outlook.model}: what was, and the forecast's quantiles")
    for axes, one in zip(rows, outlook.series, strict=True):
        _panel(axes, outlook, one)
    rows[-1].set_xlabel("hours from the newest closed bin")
    handles, labels = rows[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small", frameon=False)
    figure.savefig(path, dpi=110, format="png", metadata={"Software": None})


def _panel(axes: Axes, outlook: Outlook, one: SeriesOutlook) -> None:
    width = outlook.bin_seconds / HOUR
    past = np.array([np.nan if rate is None else rate for rate in one.past])
    axes.plot(
        (np.arange(past.size) - past.size + 1) * width,
        past,
        color=PAST_COLOUR,
        linewidth=0.8,
        label="measured",
    )
    _fan(axes, outlook, one)
    axes.axvline(0.0, color="black", linewidth=0.8, alpha=0.5)
    axes.set_title(f"{one.forecast.key} ({one.forecast.status})", loc="left", fontsize="medium")
    axes.set_ylabel(one.unit)
    axes.set_xlim(-past.size * width, outlook.horizons_seconds[-1] / HOUR)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MultipleLocator(TICK_HOURS))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
    axes.grid(visible=True, alpha=0.25)


def _fan(axes: Axes, outlook: Outlook, one: SeriesOutlook) -> None:
    names = [f"P{quantile * 100:g}" for quantile in outlook.quantiles]
    hours = np.array(outlook.horizons_seconds) / HOUR
    rates = np.array(one.forecast.at)
    for number, (low, high) in enumerate(pairwise(range(rates.shape[1]))):
        shade = SHADES[min(number, len(SHADES) - 1)]
        label = f"{names[low]} to {names[high]}"
        axes.fill_between(
            hours,
            rates[:, low],
            rates[:, high],
            color=BAND_COLOUR,
            alpha=shade,
            linewidth=0,
            label=label,
        )
    axes.plot(hours, rates[:, 0], color=MIDDLE_COLOUR, linewidth=1.6, label=names[0])
    peaks = np.array(one.forecast.peak)[:, min(1, rates.shape[1] - 1)]
    leads = np.array(outlook.leads_seconds) / HOUR
    axes.step(
        leads,
        peaks,
        where="pre",
        color=PEAK_COLOUR,
        linewidth=1.2,
        label=f"peak until then, {names[min(1, len(names) - 1)]}",
    )
