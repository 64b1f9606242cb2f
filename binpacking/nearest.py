"""The whole program from its relaxation outwards: first the points that cost little more.

A column's reduced cost is what the relaxation's optimum rises by, at the least, per unit of it.
Points that cost at most some amount more than that optimum therefore keep to the columns whose
reduced cost is at most that amount. Each search looks for such points alone and widens the amount:
one that is in vain is short, because almost everything is ruled out, and proves that no point costs
so little; the first that is not in vain knows from the start what its answer costs at most.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from binpacking.linear import FREE, Floats, Linear
from binpacking.problem import Effort
from binpacking.solver import EXACT, Relaxed, Stop, search

FIRST = 0.005
"""How far the first search looks, as a part of the loss; for a quarter of fleets it is enough."""

WIDER = 4.0
"""How many times as far each further search looks."""


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

    `relaxed` may be that of a program with more columns and rows, as long as no point in whole
    numbers is lost. `limits`: the cost of a point in hand, and how far to look first.
    """
    ceiling, reach = limits
    ceiling = min(ceiling, float(np.maximum(costs, 0.0) @ linear.upper) + 1.0)
    reduced, bound = relaxed.reduced[: linear.columns], relaxed.objective
    while bound < ceiling - EXACT and not stop():
        most = min(ceiling - 1.0, math.floor(relaxed.objective + reach))
        near = reduced <= most - relaxed.objective + EXACT
        part = msgspec.structs.replace(linear, upper=np.where(near, linear.upper, 0.0))
        values, proven = search(part, costs, effort, stop, most=most)
        cost = FREE if values is None else float(costs @ values)
        bound = max(bound, min(proven, most + 1.0))
        yield Found(values, bound)
        if min(cost, ceiling - 1.0) <= most:
            return
        ceiling, reach = min(ceiling, cost), reach * WIDER
