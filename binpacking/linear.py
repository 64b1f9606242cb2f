"""An integer program as arrays: bounded columns and compressed rows. No solver, no packing.

Columns are integers from 0 to `upper`; rows are low <= sum of coefficient x column <= high. One
row never names a column twice: HiGHS refuses such rows, and PuLP keeps only one of the two.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer[Any]]
Flags = npt.NDArray[np.bool_]
Term = tuple[int, int]
"""(column number, coefficient)."""

FREE = float("inf")
"""No limit on this side of a row, with its sign."""
HALF = 0.5
"""Whole numbers that floats hold are different where they are further apart than this."""


class Linear(msgspec.Struct, frozen=True):
    """Columns and rows."""

    upper: Floats
    """By column."""
    starts: Integers
    """Where each row begins in `index` and `value`, and the end."""
    index: Integers
    value: Floats
    low: Floats
    """By row."""
    high: Floats

    @property
    def columns(self) -> int:
        """How many."""
        return len(self.upper)

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.low)

    def terms(self, row: int) -> list[Term]:
        """The row's columns with their coefficients."""
        part = slice(self.starts[row], self.starts[row + 1])
        return [
            (int(column), int(value))
            for column, value in zip(self.index[part], self.value[part], strict=True)
        ]

    def row_of(self) -> Integers:
        """The row of every entry."""
        return np.repeat(np.arange(self.rows, dtype=np.int32), np.diff(self.starts))

    def activity(self, values: Floats) -> Floats:
        """Every row's sum at these values."""
        weights = self.value * values[self.index]
        return np.bincount(self.row_of(), weights, self.rows).astype(float)

    def activity_of_columns(self, prices: Floats) -> Floats:
        """What each column takes of all rows together at these prices of the rows."""
        weights = self.value * prices[self.row_of()]
        return np.bincount(self.index, weights, self.columns).astype(float)

    def joined(self, more: "Linear") -> "Linear":
        """The columns and rows of both; the other's rows name columns by their joint number."""
        return Linear(
            np.concatenate([self.upper, more.upper]),
            np.concatenate([self.starts, more.starts[1:] + self.starts[-1]]),
            np.concatenate([self.index, more.index]),
            np.concatenate([self.value, more.value]),
            np.concatenate([self.low, more.low]),
            np.concatenate([self.high, more.high]),
        )

    def without(self, rows: Sequence[int]) -> "Linear":
        """All rows but these."""
        stays = np.ones(self.rows, bool)
        stays[list(rows)] = False
        entries = stays[self.row_of()]
        return Linear(
            self.upper,
            np.append(0, np.cumsum(np.diff(self.starts)[stays])).astype(np.int32),
            self.index[entries],
            self.value[entries],
            self.low[stays],
            self.high[stays],
        )

    def with_row(self, costs: Floats, low: float, high: float) -> "Linear":
        """One row more: a whole objective, bounded."""
        index = np.flatnonzero(costs).astype(np.int32)
        return Linear(
            self.upper,
            np.append(self.starts, np.int32(self.starts[-1] + len(index))),
            np.append(self.index, index),
            np.append(self.value, costs[index]),
            np.append(self.low, low),
            np.append(self.high, high),
        )


class Draft:
    """A program while it is stated."""

    def __init__(self) -> None:
        self.uppers: list[int] = []
        self.starts: list[int] = [0]
        self.index: list[int] = []
        self.value: list[int] = []
        self.low: list[float] = []
        self.high: list[float] = []

    def column(self, upper: int) -> int:
        """Add an integer from 0 to `upper`; return its number."""
        self.uppers.append(upper)
        return len(self.uppers) - 1

    def row(self, terms: Iterable[Term], low: float, high: float) -> None:
        """Add low <= terms <= high."""
        for column, value in terms:
            self.index.append(column)
            self.value.append(value)
        self.starts.append(len(self.index))
        self.low.append(low)
        self.high.append(high)

    def finished(self) -> Linear:
        """The value."""
        return Linear(
            np.array(self.uppers, float),
            np.array(self.starts, np.int32),
            np.array(self.index, np.int32),
            np.array(self.value, float),
            np.array(self.low, float),
            np.array(self.high, float),
        )


def by_columns(
    uppers: Sequence[float], terms: Sequence[Sequence[Term]], low: Floats, high: Floats
) -> Linear:
    """A program from the (row, coefficient) pairs of each column; those of one row are summed."""
    count = len(uppers)
    cells = [row * count + column for column, some in enumerate(terms) for row, _ in some]
    values = [value for some in terms for _, value in some]
    found, place = np.unique(cells, return_inverse=True)
    return Linear(
        np.array(uppers, float),
        np.searchsorted(found, np.arange(len(low) + 1) * count).astype(np.int32),
        (found % count).astype(np.int32),
        np.bincount(place, values, len(found)).astype(float),
        low,
        high,
    )


def costs_of(linear: Linear, weights: Mapping[int, int]) -> Floats:
    """An objective as an array; columns not named cost nothing."""
    costs = np.zeros(linear.columns)
    if weights:
        costs[list(weights.keys())] = list(weights.values())
    return costs
