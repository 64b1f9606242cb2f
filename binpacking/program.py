"""The exact rung and what stands in for it above its size: five tiers in sequence.

Tiers 1 (unserved) and 2 (loss) decide which gangs stop, with the online replicas alone; the
optimum of the first becomes a row of the second. Their answers come in steps, each one better or
better proven than the last: bounds from the linear relaxation; a point block by block (see
`blocks`); the Lagrangian bound; then, where the program is small enough, the whole program, near
columns first (see `nearest`), else pairs of blocks, one after the other. A quick answer to a
program of more than one block ends with the first pairs. What the tiers below make of given stops
stands in `filling`.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from binpacking import blocks
from binpacking.bounds import least_unserved
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
from binpacking.linear import FREE, Floats, Linear, costs_of
from binpacking.merged import merged
from binpacking.nearest import nearest_first
from binpacking.problem import Effort, Problem, Rung, Tiers
from binpacking.rooms import Capacity
from binpacking.rows import build
from binpacking.solver import EXACT, Relaxation, Relaxed, Stop, minimise

WHOLE_COLUMNS = 5000
"""Up to this many columns the whole program is solved."""

_AT_ONCE = 1500
"""Up to this many columns the whole program is solved without a point block by block before."""

_UNKNOWN = 1 << 60
"""Above any loss."""

_NEAR = 0.005
"""Columns whose reduced cost is at most this part of the loss are looked among first."""

_NEAR_WAKING = 0.02
"""The same where units may wake: the relaxation is further off, and a second search is dear."""

_PAIRS_AT_ONCE = 2
"""Pairs of blocks that a quick answer improves."""

_ROUNDS = 4
"""How often a full answer to a large program improves half as many pairs as there are blocks."""

_CLOSE = 0.002
"""What the blocks together may miss of a loss by stopping early, as a share of it."""

_HALF = 0.5
"""Between two whole numbers."""

_NOTHING_PROVEN = -1e15
"""Below every objective."""

_BLOCK_NODES = 200
"""Branch-and-bound nodes for a block or a pair of blocks."""


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
    problem: Problem, layout: Layout, effort: Effort, hand: Hand, stop: Stop
) -> Iterator[Step]:
    """Packings and bounds, each step's better than those of the step before.

    What cannot be improved in the packing in hand is taken as given.
    """
    known, least = hand.tiers, least_unserved(problem, layout)
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
        self.merged = merged(self.rows, self.problem, layout)
        self.unserved = self.merged.costs(unserved_costs(self.problem, self.rows))
        stops = {
            column: sum(gangs[gang].cost for gang in some)
            for column, some in self.rows.stops.items()
        }
        loss = costs_of(self.rows.linear, stops) - credits_of(self.rows)
        self.loss = self.merged.costs(loss)

    def steps(self, known: Tiers, least: int) -> Iterator[Step]:
        """Bounds, then packings."""
        unserved, bound = known.unserved_milli_gpus, least
        if unserved > least:
            bound = max(bound, self._least_unserved())
        self.state(known.loss if unserved == bound else None)
        proof = Bounds(bound, None)
        soft = _Soft(self, unserved)
        proof = self._proof(proof, soft.relaxed)
        yield Step(None, "greedy", proof)
        ceiling = known.loss - self.offset
        if unserved > bound:
            before = unserved
            unserved, bound = self._first_tier(unserved, bound)
            soft = _Soft(self, unserved)
            proof = self._proof(Bounds(bound, None), soft.relaxed)
            ceiling = ceiling if before == unserved else _UNKNOWN
        if soft.relaxed is not None:
            yield from self._tier_two(soft, soft.relaxed, unserved, ceiling, proof)

    def _least_unserved(self) -> int:
        """Tier 1's bound by the relaxation, all gangs stopped."""
        linear, costs = self._cleared()
        relaxed = Relaxation(linear).minimise(costs)
        return max(0, _ceiling(relaxed.objective)) if relaxed else 0

    def _cleared(self) -> tuple[Linear, Floats]:
        """Tier 1's program: stops cost nothing, so that all are made where no limit binds."""
        layout = self.layout
        capacity = (
            Capacity(layout, layout.free, layout.beside, layout.gangs_on)
            if self.problem.stop_limits
            else after(layout, range(len(self.problem.gangs)))
        )
        rows = build(capacity, self.problem)
        fewer = merged(rows, self.problem, layout)
        return fewer.linear, fewer.costs(unserved_costs(self.problem, rows))

    def _first_tier(self, known: int, bound: int) -> tuple[int, int]:
        """Tier 1's optimum, or what was known, and its bound."""
        linear, costs = self._cleared()
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
        self, soft: "_Soft", relaxed: Relaxed, unserved: int, ceiling: int, proof: Bounds
    ) -> Iterator[Step]:
        """Packings whose loss, less the offset, is not above the ceiling, that of one in hand."""
        full, columns = self.effort.name == "full", soft.linear.columns
        if soft.parts.count == 1 or columns <= _AT_ONCE:
            yield from self._exact(relaxed, unserved, ceiling, proof)
            return
        values = soft.descend(relaxed)
        whole = full and columns <= WHOLE_COLUMNS
        if values is not None:
            if not whole:
                prices = _priced(soft.parts, soft.costs, relaxed)
                values = soft.paired(values, prices, _PAIRS_AT_ONCE)
            yield Step(self._draft(values[:-1]), "blocks", proof)
            if values[-1] < _HALF:  # nothing is unserved in excess
                ceiling = min(ceiling, round(float(soft.costs @ values)))
        if whole:
            known = blocks.bound(soft.parts, soft.costs, relaxed, soft.effort, EXACT)
            proof = self._better(proof, known.total)
            yield Step(None, "blocks", proof)
            tight = Relaxation(blocks.held_above(soft.parts, soft.costs, known))
            found = tight.minimise(soft.costs)
            yield from self._exact(found or relaxed, unserved, ceiling, proof)
        elif full and values is not None:
            yield from self._large(soft, relaxed, values, proof)

    def _exact(
        self, relaxed: Relaxed, unserved: int, ceiling: int, proof: Bounds
    ) -> Iterator[Step]:
        """The whole program; `ceiling` is the loss of a packing in hand, less the offset."""
        linear = self.merged.linear.with_row(self.unserved, -FREE, unserved)
        part = _NEAR_WAKING if self.offset else _NEAR
        limits = (ceiling, part * max(0.0, relaxed.objective + self.offset) + EXACT)
        for found in nearest_first(linear, self.loss, relaxed, limits, self.effort, self.stop):
            proof = self._better(proof, found.bound)
            draft = None if found.values is None else self._draft(found.values)
            yield Step(draft, "program", proof)

    def _large(
        self, soft: "_Soft", relaxed: Relaxed, values: Floats, proof: Bounds
    ) -> Iterator[Step]:
        known = blocks.bound(soft.parts, soft.costs, relaxed, soft.effort, soft.close)
        proof = self._better(proof, known.total)
        yield Step(None, "blocks", proof)
        for _ in range(_ROUNDS):
            values = soft.paired(values, known, soft.parts.count // 2)
            yield Step(self._draft(values[:-1]), "blocks", proof)
            if self.stop():
                return

    def _draft(self, values: Floats) -> Draft | None:
        """The point on nodes, without needless stops."""
        values = self.merged.opened(values, self.rows.linear.columns)
        draft = seated(self.problem, self.layout, self.rows, (), values, ())
        return refilled(self.problem, trimmed(self.problem, draft)) if draft else None


class _Soft:
    """Tier 2 with tier 1's row as a price: one more column counts what is unserved in excess.

    The price is above that of stopping every gang, so that it is paid only where it must be.
    """

    def __init__(self, search: _Search, unserved: int) -> None:
        linear, layout = search.merged.linear, search.layout
        unit = max(1, math.gcd(*(int(cost) for cost in search.unserved if cost), unserved))
        scaled = search.unserved / unit
        grown = msgspec.structs.replace(
            linear, upper=np.append(linear.upper, float(scaled @ linear.upper))
        )
        self.linear: Linear = grown.with_row(np.append(scaled, -1.0), -FREE, unserved // unit)
        gpus = sum(gpus for parts in layout.parts for _, gpus in parts)
        stops = sum(gang.cost for gang in search.problem.gangs)
        price = 50.0 * float(stops + layout.most_saved) / max(1, gpus)
        self.costs = np.append(search.loss, max(1.0, math.ceil(price * unit / 1000)))
        spines = search.merged.spines(spine_by_column(search.rows, layout))
        self.parts = blocks.Parts(self.linear, np.append(spines, -1), len(layout.spines))
        self.effort, self.stop, self.offset = _limited(search.effort), search.stop, search.offset
        self.close = EXACT
        self.tries = np.zeros(self.parts.count)
        self.tried: set[tuple[int, int]] = set()
        self.relaxation = Relaxation(self.linear)
        self.relaxed = self.relaxation.minimise(self.costs)

    def descend(self, relaxed: Relaxed) -> Floats | None:
        """A point block by block."""
        loss = relaxed.objective + self.offset
        self.close = max(EXACT, _CLOSE * loss / self.parts.count)
        return blocks.descend(
            self.parts, self.costs, self.effort, self.relaxation, relaxed, self.close
        )

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
            if better is not None and self.costs @ better < self.costs @ values - _HALF:
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


def _priced(parts: blocks.Parts, costs: Floats, relaxed: Relaxed) -> blocks.Bound:
    """The relaxation as a bound block by block."""
    prices = np.where(parts.coupling(), relaxed.duals, 0.0)
    spent = (costs - parts.linear.activity_of_columns(prices)) * relaxed.values
    each = tuple(float(spent[parts.block_of == b].sum()) for b in range(parts.count))
    return blocks.Bound(relaxed.objective, each, prices)


def _limited(effort: Effort) -> Effort:
    return msgspec.structs.replace(effort, node_limit=min(effort.node_limit, _BLOCK_NODES))


def _ceiling(bound: float) -> int:
    """The least integer objective that the bound allows, solver tolerance granted.

    A search that ends before its first relaxation proves nothing: its bound is minus infinity.
    """
    bound = max(bound, _NOTHING_PROVEN)
    return math.ceil(bound - 1e-6 * max(1.0, abs(bound)))
