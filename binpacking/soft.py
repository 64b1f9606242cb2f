"""Tier 2 with tier 1's row as a price, and its points where it is large: coarsely, then in pairs.

One more column counts what is unserved in excess. Its price is above that of stopping every gang,
so that it is paid only where it must be, and no block is ever without a point. A large program is
searched coarsely, each spine pod is settled for its share (see `coarse`), and pairs of pods are
solved anew.
"""

import math
from typing import NamedTuple

import msgspec
import numpy as np

from binpacking import blocks
from binpacking.coarse import Coarse, settle, together
from binpacking.layout import Layout
from binpacking.linear import FREE, HALF, Floats, Integers, Linear
from binpacking.problem import Effort, Problem
from binpacking.rows import Rows
from binpacking.solver import EXACT, Relaxation, Relaxed, Stop, search

_CLOSE = 0.002
"""What the blocks together may miss of a loss by stopping early, as a share of it."""

_COARSELY = 0.01
"""The same for the coarse program."""

_BY_BLOCK, _AT_MOST = 0.002, 0.03
"""The same by block, where there are many, and at most: the search takes longer the more blocks
there are, most of it for the last percent, of which settling and pairs of blocks find much."""

_REACH = 0.5
"""Reduced cost up to which the coarse program looks at columns, as a share of a mean stop's cost:
what whole numbers cost beyond the relaxation is about as much in a fleet of any size."""

_BLOCK_NODES = 200
"""Branch-and-bound nodes for a block or a pair of blocks."""


class Question(NamedTuple):
    """Tier 2's program."""

    problem: Problem
    layout: Layout
    linear: Linear
    unserved: Floats
    """Tier 1's objective."""
    loss: Floats
    """Tier 2's."""
    spines: Integers
    """Spine pod by column; -1 for those of none."""


class Soft:
    """The program while it is searched.

    `classes`: by row, what it is taken together with in the coarse program, -1 for nothing; None:
    there is to be no coarse program.
    """

    def __init__(
        self,
        question: Question,
        unserved: int,
        effort: Effort,
        stop: Stop,
        classes: Integers | None = None,
    ) -> None:
        layout, gangs = question.layout, question.problem.gangs
        unit = max(1, math.gcd(*(int(cost) for cost in question.unserved if cost), unserved))
        scaled = question.unserved / unit
        upper = np.append(question.linear.upper, float(scaled @ question.linear.upper))
        grown = msgspec.structs.replace(question.linear, upper=upper)
        self.linear: Linear = grown.with_row(np.append(scaled, -1.0), -FREE, unserved // unit)
        gpus = sum(gpus for parts in layout.parts for _, gpus in parts)
        stops = sum(gang.cost for gang in gangs)
        price = 50.0 * float(stops + layout.most_saved) / max(1, gpus)
        self.costs = np.append(question.loss, max(1.0, math.ceil(price * unit / 1000)))
        self.parts = blocks.Parts(self.linear, np.append(question.spines, -1), len(layout.spines))
        self.effort, self.stop, self.offset = _limited(effort), stop, layout.most_saved
        self.close = EXACT
        self.reach = EXACT + _REACH * stops / max(1, len(gangs))
        self.tries = np.zeros(self.parts.count)
        self.tried: set[tuple[int, int]] = set()
        self.coarse = None
        if classes is not None:
            self.coarse = together(self.parts, self.costs, np.append(classes, -1))
        self.relaxed = self._relaxed()
        """Of the coarse program where there is one."""

    def _relaxed(self) -> Relaxed | None:
        if self.coarse is None:
            return Relaxation(self.linear).minimise(self.costs)
        return Relaxation(self.coarse.parts.linear).minimise(self.coarse.costs)

    def shares(self, coarse: Coarse, relaxed: Relaxed) -> tuple[Floats | None, float]:
        """A point of the coarse program, and what no point costs less than.

        What is proven goes no further than the search looks. Where that loses much, a full answer
        looks as far as the point's own cost, and so does any that found no point.
        """
        loss, reach = relaxed.objective + self.offset, self.reach
        self.close = max(EXACT, _CLOSE * loss / self.parts.count)
        share = max(_COARSELY, min(_BY_BLOCK * self.parts.count, _AT_MOST))
        close = max(EXACT, share * loss)
        point, bound = self._looked(coarse, relaxed, reach, close)
        best = FREE if point is None else float(coarse.costs @ point)
        lost = min(bound, best) - relaxed.objective - reach
        more = point is None or self.effort.name == "full"
        if more and lost > max(EXACT, _COARSELY * loss) and not self.stop():
            reach = best - relaxed.objective
            other, bound = self._looked(coarse, relaxed, reach, close)
            point, bound = point if other is None else other, min(bound, best)
        return point, min(bound, relaxed.objective + reach)

    def _looked(
        self, coarse: Coarse, relaxed: Relaxed, reach: float, close: float
    ) -> tuple[Floats | None, float]:
        """The coarse program without stops whose reduced cost is above the reach."""
        near = (relaxed.reduced <= reach) | (coarse.costs <= 0) | (coarse.parts.block_of < 0)
        linear = coarse.parts.linear
        linear = msgspec.structs.replace(linear, upper=np.where(near, linear.upper, 0.0))
        return search(linear, coarse.costs, self.effort, self.stop, close=close)

    def settled(self, coarse: Coarse, point: Floats, relaxed: Relaxed) -> Floats | None:
        """The coarse point in every block, the columns of no block last."""
        answer = (point, relaxed.duals)
        values = settle(self.parts, self.costs, coarse, answer, self.effort, self.close)
        if values is None:
            return None
        loose = self.parts.block_of < 0
        return blocks.within(self.linear, self.costs, values, loose, self.effort)

    def spent(self, coarse: Coarse, point: Floats, relaxed: Relaxed) -> blocks.Bound:
        """What each block costs in the coarse point, at the relaxation's prices."""
        prices = relaxed.duals[coarse.row_of]
        prices = np.where(self.parts.coupling(), prices, 0.0)
        of_row = np.zeros(coarse.parts.linear.rows)
        of_row[coarse.row_of] = prices
        reduced = coarse.costs - coarse.parts.linear.activity_of_columns(of_row)
        block_of = coarse.parts.block_of
        each = [float((reduced * point)[block_of == b].sum()) for b in range(self.parts.count)]
        return blocks.Bound(float(coarse.costs @ point), tuple(each), prices)

    def paired(self, values: Floats, known: blocks.Bound, rounds: int) -> Floats:
        """The point improved pair by pair: those blocks first that are far from their bound.

        A block counts less the more often it was tried, and a pair is not tried again before one
        of its blocks has changed.
        """
        for _ in range(rounds):
            pair = None if self.stop() else self._next_pair(values, known)
            if pair is None:
                break
            self.tried.add(pair)
            self.tries[list(pair)] += 1
            better = self._pair(values, *pair)
            if better is not None and self.costs @ better < self.costs @ values - HALF:
                values = better
                self.tried = {other for other in self.tried if not {*pair} & {*other}}
        return values

    def _next_pair(self, values: Floats, known: blocks.Bound) -> tuple[int, int] | None:
        gaps = blocks.gaps(self.parts, self.costs, values, known)
        worth = np.maximum(gaps, 0.0) / (1 + self.tries)
        order = sorted(range(self.parts.count), key=lambda block: (-worth[block], block))
        pairs = ((a, b) for a in order for b in order if a != b)
        return next((pair for pair in pairs if self._untried(pair)), None)

    def _untried(self, pair: tuple[int, int]) -> bool:
        return pair not in self.tried and pair[::-1] not in self.tried

    def _pair(self, values: Floats, first: int, second: int) -> Floats | None:
        block = self.parts.block_of
        mine = (block == first) | (block == second) | (block < 0)
        return blocks.within(
            self.linear, self.costs, values, mine, self.effort, self.stop, close=self.close
        )


def slots_together(rows: Rows, layout: Layout) -> Integers:
    """By row: the slots of one size in a spine pod's leaves of one GPU model; -1 for others."""
    numbers: dict[tuple[int, str, int], int] = {}
    found = np.full(rows.linear.rows, -1)
    for (leaf, size), row in rows.slot_rows.items():
        kind = (layout.spine_of[leaf], layout.models[leaf], size)
        found[row] = numbers.setdefault(kind, len(numbers))
    return found


def _limited(effort: Effort) -> Effort:
    return msgspec.structs.replace(effort, node_limit=min(effort.node_limit, _BLOCK_NODES))
