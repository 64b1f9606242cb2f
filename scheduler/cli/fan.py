"""A fan chart in plain characters: the last day as it was, the next as it may become.

80 columns wide, without colour. To the left of `now` Braille dots span what was measured in each
stretch of time; to the right a line is the lowest quantile (P50) and each shade reaches up to the
next quantile. The middle of a row of characters stands for the value that its label says.
"""

from collections.abc import Sequence
from math import floor, isfinite, log10
from typing import NamedTuple

INTERVALS = 12
"""Between the lowest and the highest row."""
LABEL = 9
PAST, COMING = 34, 34
"""Columns on either side of `now`."""
DOTS_UP, DOTS_ACROSS = 4, 2
BRAILLE = 0x2800
LEFT_DOTS, RIGHT_DOTS = (0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08)
"""From the lowest dot of a character up."""
LINE, SHADES = "─", "▓▒░"
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
TICKS = (3, 4, 6)
HOUR = 3600.0
QUARTERS = (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)
Rows = list[list[str]]


class Scale(NamedTuple):
    """From 0 to `top`, a label at every `every`-th row."""

    top: float
    every: int

    def row(self, value: float) -> int:
        """Return the row that a value lies in, 0 the lowest."""
        return min(INTERVALS, round(max(value, 0.0) / self.top * INTERVALS))

    def dot(self, value: float) -> int:
        """Return the dot of a value, 0 the lowest of the lowest row."""
        half = (DOTS_UP - 1) / 2
        above = max(value, 0.0) / self.top * INTERVALS * DOTS_UP
        return min(round(above + half), (INTERVALS + 1) * DOTS_UP - 1)


def fan(
    past: Sequence[float | None],
    horizons_seconds: Sequence[float],
    at: Sequence[Sequence[float]],
    quantiles: Sequence[float],
    bin_seconds: float,
) -> str:
    """Return the chart; `past` ends now, `at[horizon][quantile]` as a forecast has it.

    As much of the past is drawn as the longest horizon reaches ahead. Quantiles beyond the
    shades there are characters for share the last shade.
    """
    span = horizons_seconds[-1]
    shown = list(past)[-max(1, round(span / bin_seconds)) :]
    known = [value for value in shown if value is not None]
    highest = max([*known, *(max(row) for row in at)], default=0.0)
    scale = scale_of(highest)
    width = PAST + COMING
    rows: Rows = [[" "] * width for _ in range(INTERVALS + 1)]
    _draw_past(rows, shown, round(span / bin_seconds), scale)
    _draw_fan(rows, horizons_seconds, at, scale)
    lines = [_label(number, scale) + "".join(rows[number]) for number in reversed(range(len(rows)))]
    return "\n".join([*lines, *_axis(span), "", _legend(quantiles)])


def scale_of(highest: float) -> Scale:
    """Return the lowest scale of round steps that holds a value."""
    if not isfinite(highest) or highest <= 0:
        return Scale(1.0, INTERVALS // TICKS[1])
    found = []
    for count in TICKS:
        unit = 10.0 ** floor(log10(highest / count))
        step = next(unit * step for step in STEPS if unit * step * count >= highest * (1 - 1e-9))
        found.append(Scale(step * count, INTERVALS // count))
    return min(found)


def _label(row: int, scale: Scale) -> str:
    if row % scale.every:
        return " " * LABEL + "│"
    value = scale.top * row / INTERVALS
    return f"{f'{value:,.8g}':>{LABEL}}┤"


def _draw_past(rows: Rows, shown: Sequence[float | None], bins: int, scale: Scale) -> None:
    """Draw each stretch from its least to its greatest value, joined to the one before."""
    cells: dict[tuple[int, int], int] = {}
    stretches = PAST * DOTS_ACROSS
    before: tuple[int, int] | None = None
    for number in range(stretches):
        first = len(shown) - bins + number * bins // stretches
        stop = len(shown) - bins + max((number + 1) * bins // stretches, 1)
        inside = [shown[at] for at in range(max(first, 0), max(stop, 0))]
        dots = [scale.dot(value) for value in inside if value is not None]
        if not dots:
            before = None if inside else before
            continue
        low, high = min(dots), max(dots)
        joined = (low, high) if before is None else (min(low, before[1]), max(high, before[0]))
        for dot in range(joined[0], joined[1] + 1):
            bits = (LEFT_DOTS, RIGHT_DOTS)[number % DOTS_ACROSS][dot % DOTS_UP]
            cell = (dot // DOTS_UP, number // DOTS_ACROSS)
            cells[cell] = cells.get(cell, 0) | bits
        before = (low, high)
    for (row, column), bits in cells.items():
        rows[row][column] = chr(BRAILLE + bits)


def _draw_fan(
    rows: Rows, horizons: Sequence[float], at: Sequence[Sequence[float]], scale: Scale
) -> None:
    for column in range(COMING):
        ahead = (column + 0.5) / COMING * horizons[-1]
        reached = [scale.row(value) for value in between(horizons, at, ahead)]
        for number in reversed(range(1, len(reached))):
            shade = SHADES[min(number - 1, len(SHADES) - 1)]
            for row in range(reached[number - 1] + 1, reached[number] + 1):
                rows[row][PAST + column] = shade
        rows[reached[0]][PAST + column] = LINE


def between(
    horizons: Sequence[float], at: Sequence[Sequence[float]], ahead: float
) -> tuple[float, ...]:
    """Return the quantiles at a time ahead, on straight lines between the horizons."""
    later = next((one for one, end in enumerate(horizons) if end >= ahead), len(horizons) - 1)
    sooner = max(later - 1, 0)
    gap = horizons[later] - horizons[sooner]
    share = min(1.0, max(0.0, (ahead - horizons[sooner]) / gap)) if gap > 0 else 1.0
    pairs = zip(at[sooner], at[later], strict=True)
    return tuple(low + share * (high - low) for low, high in pairs)


def _axis(span_seconds: float) -> tuple[str, str]:
    """Return the line below, with its ticks, and the times from now that they stand for."""
    line, names = ["─"] * (PAST + COMING), [" "] * (LABEL + 1 + PAST + COMING + LABEL)
    for share in QUARTERS:
        column = PAST + round(share * (PAST if share < 0 else COMING - 1))
        line[column] = "┬"
        hours = share * span_seconds / HOUR
        name = f"{hours:+g}h" if share else "now"
        start = LABEL + 1 + column - len(name) // 2
        names[start : start + len(name)] = name
    return " " * LABEL + "└" + "".join(line), "".join(names).rstrip()


def _legend(quantiles: Sequence[float]) -> str:
    parts = ["⣿ measured", f"{LINE} P{quantiles[0] * 100:g}"]
    for number, quantile in enumerate(quantiles[1:]):
        shade = SHADES[min(number, len(SHADES) - 1)]
        parts.append(f"{shade} up to P{quantile * 100:g}")
    return " " * (LABEL + 1) + "   ".join(parts)
