"""The whole program in two searches: among the columns that the relaxation finds near, then beyond.

A column's reduced cost is what the relaxation's optimum rises by, at the least, per unit of it.
Every point therefore either keeps to near columns, whose optimum the first search settles, or takes
a far one and costs at least the relaxation's optimum plus that column's reduced cost. The second
search looks for the latter alone, and only below the best point known by then: mostly it has
nothing to find, and says so at once.
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from binpacking.linear import FREE, Flags, Floats, Linear
from binpacking.problem import Effort
from binpacking.solver import Relaxed, Stop, search

_HALF = 0.5
"""Between two whole numbers: costs are integers."""

_LARGEST = 1000.0
"""Largest coefficient of the row that bounds the costs: the solver's tolerances are absolute."""


class Found(NamedTuple):
    """A point, or none; no point costs less than `bound`, unless the one in hand does."""

    values: Floats | None
    bound: float


def nearest_first(
    linear: Linear,
    costs: Floats,
    relaxed: Relaxed,
    limits: tuple[float, float],
    effort: Effort,
    stop: Stop,
) -> Iterator[Found]:
    """Points in whole numbers, and what is proven.

    `relaxed` may be that of a program with more rows, as long as no point in whole numbers is lost.
    `limits`: the cost of a point in hand, and the reduced cost up to which columns are near.
    """
    ceiling, reach = limits
    reduced = relaxed.reduced[: linear.columns]
    near = reduced <= reach
    values, bound = search(_only(linear, near), costs, effort, stop)
    best = ceiling if values is None else min(ceiling, float(costs @ values))
    beyond = min(best, relaxed.objective + reach)
    yield Found(values, max(min(bound, beyond), relaxed.objective))
    if beyond >= best - _HALF or stop():
        return
    live = reduced <= best - relaxed.objective + 1.0
    values, further = search(_better(linear, costs, live, near, best), costs, effort, stop)
    yield Found(values, min(bound, best, max(further, beyond)))


def _only(linear: Linear, columns: Flags) -> Linear:
    return msgspec.structs.replace(linear, upper=np.where(columns, linear.upper, 0.0))


def _better(linear: Linear, costs: Floats, live: Flags, near: Flags, best: float) -> Linear:
    """The live columns, one at least that is not near, at less than the best cost."""
    scale = max(1.0, float(np.abs(costs).max(initial=0.0)) / _LARGEST)
    far = np.where(live & ~near, 1.0, 0.0)
    kept = _only(linear, live).with_row(far, 1.0, FREE)
    return kept.with_row(costs / scale, -FREE, (best - _HALF) / scale)
