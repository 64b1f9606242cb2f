"""Tiers 3 to 5 once it is settled which gangs stop: batch value, fragmentation, split replicas.

Known free GPUs are packed, online and batch together. A program of moderate size is solved whole,
with tier 1's value as a row; only split replicas, the last tier, are settled pod by pod. A larger
one keeps in each spine pod as many replicas of each request as stand there; then only the waiting
jobs couple the pods, which are dealt out by `blocks.descend`, and each pod's fragmentation and
split replicas are settled by itself.
"""

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from binpacking import blocks
from binpacking.awake import awake, saved
from binpacking.beds import cleared
from binpacking.board import Board
from binpacking.crews import Crew, crews
from binpacking.draft import Draft, capacity, nothing
from binpacking.greedy import fill_batch
from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.layout import Layout
from binpacking.leftovers import leftovers
from binpacking.linear import FREE, Floats, Integers, Linear, costs_of
from binpacking.linear import Draft as Statement
from binpacking.materialise import Counts, materialise
from binpacking.nearness import nearness
from binpacking.problem import Effort, Problem
from binpacking.prune import drop_needless_kills, drop_superfluous
from binpacking.rooms import Capacity
from binpacking.rows import Rows, build
from binpacking.solver import EXACT, Relaxation, minimise

_WHOLE_COLUMNS = 1800
"""Up to this many columns the tiers are solved whole."""

_CLOSE = 0.001
"""Relative gap at which a pod's fragmentation is good enough, where pods are settled one by one."""


def fill(
    problem: Problem, layout: Layout, effort: Effort, draft: Draft | None, unserved: int
) -> Draft | None:
    """The best use of what is free beside the stops of `draft`; None where no solve gives one.

    `unserved`: milli-GPUs that may stay unserved. None for a draft: nothing is stopped, and no
    unit that could wake is left asleep.
    """
    gangs = tuple(draft.board.stopped()) if draft else ()
    waiting = crews(problem.batch)
    capacity = msgspec.structs.replace(after(layout, gangs), beds=cleared(layout.beds, gangs))
    rows = build(capacity, problem, waiting, sizes=[size for size, _ in problem.mix])
    lower = _Lower(problem, layout, effort, rows, waiting)
    if rows.linear.columns <= _WHOLE_COLUMNS or draft is None:
        held = saved(draft.board, draft.online) if draft else layout.most_saved
        values = lower.whole(unserved, held)
    else:
        values = lower.by_pods(draft)
    found = seated(problem, layout, rows, waiting, values, gangs) if values is not None else None
    return refilled(problem, trimmed(problem, found)) if found else None


class _Lower:
    """The program of the lower tiers."""

    def __init__(
        self,
        problem: Problem,
        layout: Layout,
        effort: Effort,
        rows: Rows,
        waiting: Sequence[Crew],
    ) -> None:
        self.problem, self.layout, self.effort = problem, layout, effort
        self.rows, self.waiting = rows, waiting
        self.value = costs_of(
            rows.linear, {c: -waiting[crew].value for (crew, _), c in rows.batch.items()}
        )
        self.split = costs_of(rows.linear, dict.fromkeys(rows.split.values(), 1))

    def whole(self, unserved: int, held: int) -> Floats | None:
        """All pods in one program; units woken save as much as is `held`."""
        linear = self.rows.linear.with_row(credits_of(self.rows), held, FREE)
        costs = unserved_costs(self.problem, self.rows)
        linear = linear.with_row(costs, -FREE, unserved)
        third = minimise(linear, self.value, self.effort)
        if third is None:
            return None
        linear = linear.with_row(self.value, -FREE, float(self.value @ third.values))
        linear, (*tiers, split), leaves = self._last(linear)
        found = _in_turn(linear, tiers, self.effort)
        if found is None:
            found = _in_turn(linear, (split,), self.effort)
        else:
            for costs in tiers:
                linear = linear.with_row(costs, -FREE, float(costs @ found))
            found = self._fewest_split(linear, split, found, leaves)
        return third.values if found is None else found[: self.rows.linear.columns]

    def _fewest_split(
        self, linear: Linear, split: Floats, values: Floats, leaves: Sequence[int]
    ) -> Floats:
        """The last tier pod by pod while the others are held: at once it takes far the longest."""
        where = self._spines(leaves)
        for block in range(len(self.layout.spines)):
            mine = where == block
            if split[mine] @ values[mine]:
                better = blocks.within(linear, split, values, mine, self.effort)
                values = values if better is None else better
        return values

    def _spines(self, leaves: Sequence[int]) -> Integers:
        """The spine pod by column, of the rows' columns and of those added for these leaves."""
        more = np.array([self.layout.spine_of[leaf] for leaf in leaves], np.int32)
        return np.append(spine_by_column(self.rows, self.layout), more)

    def _last(self, linear: Linear) -> tuple[Linear, tuple[Floats, ...], list[int]]:
        """The program with columns of the last tiers, these tiers, and a leaf of each column."""
        linear, differ, where = nearness(self.rows, linear, self.layout)
        mix, card_mix = self.problem.mix, self.problem.card_mix
        linear, waste, leaves = leftovers(self.rows, linear, mix, card_mix)
        split = np.append(self.split, np.zeros(linear.columns - len(self.split)))
        tiers = (costs_of(linear, differ), costs_of(linear, waste), split)
        return linear, tiers, [*where, *leaves]

    def by_pods(self, draft: Draft) -> Floats | None:
        """Pod by pod, each with the replicas that it has."""
        count, block_of = len(self.layout.spines), spine_by_column(self.rows, self.layout)
        linear = self._with_replicas(draft)
        parts = blocks.Parts(linear, block_of, count)
        values = self._deal(parts)
        if values is None:
            return None
        linear = linear.joined(self._crews_held(values, block_of))
        linear, tiers, leaves = self._last(linear)
        parts = blocks.Parts(linear, self._spines(leaves), count)
        close = msgspec.structs.replace(self.effort, gap=_CLOSE)
        for block in range(count):
            mine = parts.block_of == block
            found = _in_turn(parts.alone(block), [tier[mine] for tier in tiers], close)
            if found is not None:
                values[np.flatnonzero(mine[: len(values)])] = found[: mine[: len(values)].sum()]
        return values

    def _deal(self, parts: blocks.Parts) -> Floats | None:
        """Tier 3: the waiting jobs dealt to the pods."""
        relaxation = Relaxation(parts.linear)
        relaxed = relaxation.minimise(self.value)
        if relaxed is None:
            return None
        close = max(EXACT, _CLOSE * abs(relaxed.objective) / parts.count)
        return blocks.descend(parts, self.value, self.effort, relaxation, relaxed, close)

    def _with_replicas(self, draft: Draft) -> Linear:
        """The rows, with every pod's replicas held at those of the draft."""
        layout, rows, linear = self.layout, self.rows, self.rows.linear
        there: dict[tuple[int, int], int] = {}
        for seat in draft.online:
            spine = layout.spine_of[layout.leaf_of[seat.nodes[0]]]
            key = (seat.request, spine)
            there[key] = there.get(key, 0) + capacity(self.problem, draft.board, seat)
        mine: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for (request, leaf), column in rows.online.items():
            gain = self.problem.online[request].capacity_milli[layout.models[leaf]]
            mine.setdefault((request, layout.spine_of[leaf]), []).append((column, gain))
        for (request, spine), column in rows.split.items():
            models = {layout.models[leaf] for leaf in layout.spines[spine]}
            capacities = self.problem.online[request].capacity_milli
            gain = min(capacities[model] for model in models & capacities.keys())
            mine.setdefault((request, spine), []).append((column, gain))
        statement = Statement()
        for key, terms in mine.items():
            statement.row(terms, there.get(key, 0), there.get(key, 0))
        self._hold_saved(draft, statement)
        return linear.joined(statement.finished())

    def _hold_saved(self, draft: Draft, statement: Statement) -> None:
        """Units woken in every pod save no less than those of the draft."""
        layout = self.layout
        held: dict[int, int] = {}
        for wake in awake(draft.board, draft.online):
            spine = layout.spine_of[layout.leaf_of[wake.bed.node]]
            held[spine] = held.get(spine, 0) + wake.bed.credit
        terms: dict[int, list[tuple[int, int]]] = {spine: [] for spine in held}
        for column, bed in self.rows.wakes.items():
            spine = layout.spine_of[layout.leaf_of[bed.node]]
            if spine in held:
                terms[spine].append((column, bed.credit))
        for spine, credit in held.items():
            statement.row(terms[spine], credit, FREE)

    def _crews_held(self, values: Floats, block_of: Integers) -> Linear:
        """Every pod starts as many jobs of each crew as it was dealt."""
        dealt: dict[tuple[int, int], list[int]] = {}
        for (crew, _), column in self.rows.batch.items():
            dealt.setdefault((crew, int(block_of[column])), []).append(column)
        statement = Statement()
        for columns in dealt.values():
            count = float(values[columns].sum())
            statement.row(((column, 1) for column in columns), count, count)
        return statement.finished()


def _in_turn(linear: Linear, tiers: Sequence[Floats], effort: Effort) -> Floats | None:
    """Every tier at its least beside those before it; None where the first finds nothing."""
    values: Floats | None = None
    for costs in tiers:
        if not costs.any():
            continue
        least = float(np.minimum(costs, 0.0) @ linear.upper)
        if values is None or float(costs @ values) > least:
            answer = minimise(linear, costs, effort)
            if answer is None:
                return values
            values = answer.values
        linear = linear.with_row(costs, -FREE, float(costs @ values))
    return values


def after(layout: Layout, gangs: Iterable[int]) -> Capacity:
    """The capacity once these gangs are stopped, with no further stop allowed."""
    free, beside, decks = list(layout.free), list(layout.beside), list(layout.decks)
    for gang in gangs:
        for node, card, share in layout.held[gang]:
            room = decks[node].cards[card].plus(share)
            decks[node] = decks[node].changed(card, room)
            free[node] += room.milli == WHOLE_GPU_MILLI
        for node, gpus in layout.parts[gang]:
            free[node] += gpus
        for node, (cpu, memory) in layout.freed[gang].items():
            beside[node] = (beside[node][0] + cpu, beside[node][1] + memory)
    nobody = tuple(() for _ in free)
    return Capacity(layout, tuple(free), tuple(beside), nobody, decks=tuple(decks))


def spine_by_column(rows: Rows, layout: Layout) -> Integers:
    """The spine pod of each column; -1 for those of none."""
    return np.array(
        [
            layout.spine_of[leaf] if leaf >= 0 else rows.spine_of.get(column, -1)
            for column, leaf in enumerate(rows.leaf_of)
        ],
        np.int32,
    )


def seated(
    problem: Problem,
    layout: Layout,
    rows: Rows,
    waiting: Sequence[Crew],
    values: Floats,
    gangs: Sequence[int],
) -> Draft | None:
    """The answer on nodes, these gangs and those that it stops being stopped."""
    board: Board = nothing(problem, layout).board
    chosen = {gang for column, some in rows.stops.items() if values[column] for gang in some}
    for gang in (*gangs, *sorted(chosen)):
        board.stop(gang)
    return materialise(problem, board, _counts(rows, waiting, values))


def _counts(rows: Rows, waiting: Sequence[Crew], values: Floats) -> Counts:
    """Counts per leaf; the jobs of a crew are named in their order."""
    many = values.astype(int).tolist()
    members = [iter(crew.members) for crew in waiting]
    return Counts(
        online=tuple(key for key, column in rows.online.items() for _ in range(many[column])),
        beds=tuple(bed for column, bed in rows.wakes.items() if many[column]),
        split=tuple(key for key, column in rows.split.items() for _ in range(many[column])),
        pods=tuple(key for key, column in rows.pods.items() for _ in range(many[column])),
        batch=tuple(
            (next(members[crew]), leaf)
            for (crew, leaf), column in rows.batch.items()
            for _ in range(many[column])
        ),
    )


def trimmed(problem: Problem, draft: Draft) -> Draft:
    """Without superfluous replicas and needless stops, judged with no batch job seated.

    Batch jobs keep their seats where no stop is taken back, and lose them all otherwise.
    """
    board = draft.board
    stopped = board.stopped()
    for seat in draft.batch:
        for node in seat.nodes:
            board.lift(node, *problem.batch[seat.request].shape.piece)
    online = drop_superfluous(problem, board, list(draft.online))
    online = drop_needless_kills(problem, board, online)
    kept = draft.batch if board.stopped() == stopped else ()
    for seat in kept:
        for node in seat.nodes:
            board.take(node, *problem.batch[seat.request].shape.piece)
    return Draft(board, tuple(online), kept)


def refilled(problem: Problem, draft: Draft) -> Draft:
    """With every further batch job that still fits: a solve may have stopped early."""
    return draft._replace(batch=fill_batch(problem, draft.board, draft.batch))


def credits_of(rows: Rows) -> Floats:
    """What the units woken save."""
    return costs_of(rows.linear, {column: bed.credit for column, bed in rows.wakes.items()})


def unserved_costs(problem: Problem, rows: Rows) -> Floats:
    """Tier 1: milli-GPUs per unit of shortage."""
    costs = {
        column: problem.online[request].size_milli * rows.units[request] // WHOLE_GPU_MILLI
        for request, column in rows.unserved.items()
        if request not in rows.rounded
    }
    return costs_of(rows.linear, costs | dict.fromkeys(rows.rounded.values(), 1))
