"""The exact rung and what stands in for it above its size: five tiers in sequence.

Tiers 1 (unserved) and 2 (loss) decide which gangs stop, with the online replicas alone; the
optimum of the first becomes a row of the second. Their answers come in steps, each one better or
better proven than the last, after the bound of the linear relaxation. Where the program is small
enough it is solved as a whole, near points first (see `nearest`). Of a larger one the coarse
program gives a bound and an answer that is settled block by block (see `coarse`); then pairs of
blocks are solved anew, of which a quick answer tries few. What the tiers below make of given stops
stands in `filling`.
"""

import math
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from binpacking import blocks
from binpacking.coarse import together
from binpacking.draft import Draft, packing
from binpacking.filling import (
    after,
    credits_of,
    fill,
    refilled,
    seated,
    spine_by_column,
    trimmed,
    unserved_costs,
)
from binpacking.layout import Layout
from binpacking.linear import FREE, HALF, Floats, Integers, Linear, costs_of
from binpacking.merged import merged
from binpacking.nearest import FIRST, nearest_first
from binpacking.problem import Effort, Problem, Rung, Tiers
from binpacking.rooms import Capacity
from binpacking.rows import build
from binpacking.soft import Question, Soft, slots_together
from binpacking.solver import READABLE, Relaxation, Relaxed, Stop, minimise

WHOLE_COLUMNS = 5000
"""Up to this many columns a full answer solves the whole program."""

AT_ONCE = 1500
"""The same of a quick answer."""

_UNKNOWN = 1 << 60
"""Above any loss."""

_PAIRS_AT_ONCE = 2
"""Pairs of blocks that a quick answer improves."""

_ROUNDS = 4
"""How often a full answer to a large program improves half as many pairs as there are blocks."""

_NOTHING_PROVEN = -1e15
"""Below every objective."""


class Bounds(NamedTuple):
    """Proven lower bounds of tiers 1 and 2; None: not known."""

    unserved_milli_gpus: int | None
    loss: int | None
    """Of packings that leave no more unserved than the one in hand."""


class Hand(NamedTuple):
    """A packing known before."""

    draft: Draft
    tiers: Tiers
    rung: Rung


class Step(NamedTuple):
    """A packing found on the way, or none, and what is proven so far."""

    draft: Draft | None
    rung: Rung
    bounds: Bounds


def program(
    problem: Problem, layout: Layout, effort: Effort, hand: Hand, least: int, stop: Stop
) -> Iterator[Step]:
    """Packings and bounds, each step's better than those of the step before.

    What cannot be improved in the packing in hand is taken as given; no packing leaves less than
    `least` milli-GPUs unserved.
    """
    known = hand.tiers
    full = effort.name == "full"
    if known.unserved_milli_gpus == least and known.loss == 0:
        yield Step(None, "greedy", Bounds(least, 0))
        if full:
            yield Step(fill(problem, layout, effort, None, least), "program", Bounds(least, 0))
        return
    for step in _Search(problem, layout, effort, stop).steps(known, least):
        if step.draft is not None:
            tiers = packing(problem, step.draft, step.rung).tiers
            hand = min(hand, Hand(step.draft, tiers, step.rung), key=_first_two)
        yield step
    if full and not stop():
        draft = fill(problem, layout, effort, hand.draft, hand.tiers.unserved_milli_gpus)
        yield Step(draft, hand.rung, step.bounds)


def _first_two(hand: Hand) -> tuple[int, int]:
    return (hand.tiers.unserved_milli_gpus, hand.tiers.loss)


class _Search:
    """Tiers 1 and 2 while they are searched."""

    def __init__(self, problem: Problem, layout: Layout, effort: Effort, stop: Stop) -> None:
        self.problem, self.layout, self.effort, self.stop = problem, layout, effort, stop
        self.offset = layout.most_saved
        """Loss less the objective, which counts units woken and not those left asleep."""

    def state(self, dearest: int | None) -> None:
        """State tier 2's program, without gangs that cost more than a whole packing in hand."""
        layout, gangs = self.layout, self.problem.gangs
        gangs_on = layout.gangs_on
        if dearest is not None:
            gangs_on = tuple(
                tuple(pair for pair in some if gangs[pair[0]].cost <= dearest) for some in gangs_on
            )
        capacity = Capacity(layout, layout.free, layout.beside, gangs_on, layout.beds)
        self.rows = build(capacity, self.problem)
        self.unserved = unserved_costs(self.problem, self.rows)
        stops = {
            column: sum(gangs[gang].cost for gang in some)
            for column, some in self.rows.stops.items()
        }
        self.loss = costs_of(self.rows.linear, stops) - credits_of(self.rows)

    def steps(self, known: Tiers, least: int) -> Iterator[Step]:
        """Bounds, then packings."""
        unserved, bound = known.unserved_milli_gpus, least
        if unserved > least:
            bound = max(bound, self._least_unserved())
        self.state(known.loss if unserved == bound else None)
        proof = Bounds(bound, None)
        soft = self._soft(unserved)
        proof = self._proof(proof, soft.relaxed)
        yield Step(None, "greedy", proof)
        ceiling = known.loss - self.offset
        if unserved > bound:
            before, low = unserved, bound
            unserved, bound = self._first_tier(unserved, bound)
            soft = self._soft(unserved, wide=unserved > low)
            proof = self._proof(Bounds(bound, None), soft.relaxed)
            ceiling = ceiling if before == unserved else _UNKNOWN
        if soft.relaxed is not None:
            yield from self._tier_two(soft, soft.relaxed, unserved, ceiling, proof)

    def _soft(self, unserved: int, *, wide: bool = False) -> Soft:
        """Tier 2's program as it is searched: large ones in blocks, small ones as a whole.

        `wide`: the relaxation could leave less unserved, and so says little of the loss.
        """
        most = WHOLE_COLUMNS if self.effort.name == "full" else AT_ONCE
        if len(self.layout.spines) == 1 or self.rows.linear.columns <= most:
            return self._fewer(unserved)
        question = self._question(
            self.rows.linear, self.unserved, self.loss, spine_by_column(self.rows, self.layout)
        )
        classes = slots_together(self.rows, self.layout)
        soft = Soft(question, unserved, self.effort, self.stop, classes)
        soft.reach = FREE if wide else soft.reach
        return soft

    def _fewer(self, unserved: int) -> Soft:
        """The whole program, what is alike counted together."""
        fewer = self.merged = merged(self.rows, self.problem, self.layout)
        question = self._question(
            fewer.linear,
            fewer.costs(self.unserved),
            fewer.costs(self.loss),
            fewer.spines(spine_by_column(self.rows, self.layout)),
        )
        return Soft(question, unserved, self.effort, self.stop)

    def _question(
        self, linear: Linear, unserved: Floats, loss: Floats, spines: Integers
    ) -> Question:
        return Question(self.problem, self.layout, linear, unserved, loss, spines)

    def _least_unserved(self) -> int:
        """Tier 1's bound by the relaxation, all gangs stopped."""
        linear, costs = self._cleared
        relaxed = Relaxation(linear).minimise(costs)
        return max(0, _ceiling(relaxed.objective)) if relaxed else 0

    @cached_property
    def _cleared(self) -> tuple[Linear, Floats]:
        """Tier 1's program: stops cost nothing, so that all are made where no limit binds.

        Of a large one its coarse program, whose optimum may be below what can be reached.
        """
        layout = self.layout
        capacity = (
            Capacity(layout, layout.free, layout.beside, layout.gangs_on)
            if self.problem.stop_limits
            else after(layout, range(len(self.problem.gangs)))
        )
        rows = build(capacity, self.problem)
        costs = unserved_costs(self.problem, rows)
        if rows.linear.columns > WHOLE_COLUMNS:
            parts = blocks.Parts(rows.linear, spine_by_column(rows, layout), len(layout.spines))
            coarse = together(parts, costs, slots_together(rows, layout))
            return coarse.parts.linear, coarse.costs
        fewer = merged(rows, self.problem, layout)
        return fewer.linear, fewer.costs(costs)

    def _first_tier(self, known: int, bound: int) -> tuple[int, int]:
        """Tier 1's optimum, or what was known, and its bound."""
        linear, costs = self._cleared
        answer = minimise(linear, costs, self.effort, self.stop)
        if answer is None:
            return known, bound
        value = round(float(costs @ answer.values))
        return min(known, value), max(bound, _ceiling(answer.bound))

    def _proof(self, proof: Bounds, relaxed: Relaxed | None) -> Bounds:
        return proof if relaxed is None else self._better(proof, relaxed.objective)

    def _better(self, proof: Bounds, objective: float) -> Bounds:
        loss = max(0, self.offset + _ceiling(objective))
        return proof._replace(loss=loss if proof.loss is None else max(loss, proof.loss))

    def _tier_two(
        self, soft: Soft, relaxed: Relaxed, unserved: int, ceiling: int, proof: Bounds
    ) -> Iterator[Step]:
        """Packings whose loss, less the offset, is not above the ceiling, that of one in hand."""
        if soft.coarse is None:
            yield from self._exact(relaxed, unserved, ceiling, proof)
            return
        point, bound = soft.shares(soft.coarse, relaxed)
        proof = self._better(proof, bound)
        yield Step(None, "blocks", proof)
        values = None if point is None else soft.settled(soft.coarse, point, relaxed)
        if values is not None:
            yield Step(self._draft(values[:-1]), "blocks", proof)
            if values[-1] < HALF:  # nothing is unserved in excess
                ceiling = min(ceiling, round(float(soft.costs @ values)))
        if proof.loss is not None and ceiling + self.offset <= proof.loss:
            return
        if point is not None and values is not None:
            yield from self._large(soft, values, soft.spent(soft.coarse, point, relaxed), proof)

    def _exact(
        self, relaxed: Relaxed, unserved: int, ceiling: int, proof: Bounds
    ) -> Iterator[Step]:
        """The whole program; `ceiling` is the loss of a packing in hand, less the offset."""
        yield Step(None, "program", proof)
        fewer, columns = self.merged, self.rows.linear.columns
        linear = fewer.linear.with_row(fewer.costs(self.unserved), -FREE, unserved)
        costs = fewer.costs(self.loss)
        reach = FIRST * max(0.0, relaxed.objective + self.offset) + 1.0
        if len(linear.index) <= READABLE:  # one search takes less than stating several
            reach = _UNKNOWN
        limits = (ceiling, reach)
        for found in nearest_first(linear, costs, relaxed, limits, self.effort, self.stop):
            proof = self._better(proof, found.bound)
            values = None if found.values is None else fewer.opened(found.values, columns)
            yield Step(None if values is None else self._draft(values), "program", proof)

    def _large(
        self, soft: Soft, values: Floats, known: blocks.Bound, proof: Bounds
    ) -> Iterator[Step]:
        """Pairs of blocks."""
        full = self.effort.name == "full"
        pairs = _ROUNDS * (soft.parts.count // 2) if full else _PAIRS_AT_ONCE
        for _ in range(0, pairs, _PAIRS_AT_ONCE):
            values = soft.paired(values, known, _PAIRS_AT_ONCE)
            yield Step(self._draft(values[:-1]), "blocks", proof)
            if self.stop():
                return

    def _draft(self, values: Floats) -> Draft | None:
        """The point on nodes, without needless stops."""
        draft = seated(self.problem, self.layout, self.rows, (), values, ())
        return refilled(self.problem, trimmed(self.problem, draft)) if draft else None


def _ceiling(bound: float) -> int:
    """The least integer objective that the bound allows, solver tolerance granted.

    A search that ends before its first relaxation proves nothing: its bound is minus infinity.
    """
    bound = max(bound, _NOTHING_PROVEN)
    return math.ceil(bound - 1e-6 * max(1.0, abs(bound)))
