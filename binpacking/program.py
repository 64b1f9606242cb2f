"""The exact rung: four tiers in sequence over the nested-capacity rows.

Tiers 1 (unserved) and 2 (loss) decide which gangs stop, with the online replicas alone; the
optimum of the first becomes a row of the second. The stops are then given, so tiers 3 (batch
value) and 4 (fragmentation) pack known free GPUs, online and batch together, under a row for
tier 1 and one for tier 3. A fifth tier (groups of replicas spread over several leaves) would
follow here. A tier without an answer within the node limit leaves the one before it standing.
Stops that turn out needless, where a solve ended early or sizes were rounded up, are taken back
last.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from binpacking.board import Board
from binpacking.bounds import least_unserved
from binpacking.draft import Draft, nothing
from binpacking.greedy import fill_batch
from binpacking.layout import Layout
from binpacking.materialise import Counts, materialise
from binpacking.problem import Effort, Problem, Tiers
from binpacking.prune import drop_needless_kills, drop_superfluous
from binpacking.rows import Capacity, Crew, Row, Rows, build, crews, leftovers
from binpacking.slots import power_of_two
from binpacking.solver import Answer, minimise


class Bounds(NamedTuple):
    """Proven lower bounds of tiers 1 and 2; None: not known."""

    unserved_milli_gpus: int | None
    loss: int | None


class _Stops(NamedTuple):
    """What tiers 1 and 2 settled."""

    unserved_milli_gpus: int
    draft: Draft | None
    """The replicas seated and the gangs stopped; None where a known packing stops none."""
    bounds: Bounds


def program(
    problem: Problem, layout: Layout, effort: Effort, known: Tiers
) -> tuple[Draft | None, Bounds]:
    """The best packing the solver finds within the effort, and what it proved on the way.

    `known` are the tiers of a packing in hand: what cannot be improved there is taken as given.
    The draft is None where no solve gives a packing that can be seated.
    """
    stops = _decide_stops(problem, layout, effort, known)
    if stops is None:
        return None, Bounds(None, None)
    return _fill(problem, layout, effort, stops), stops.bounds


def _decide_stops(problem: Problem, layout: Layout, effort: Effort, known: Tiers) -> _Stops | None:
    """Tiers 1 and 2; None where the solver has no answer."""
    least = least_unserved(problem, layout)
    served = known.unserved_milli_gpus == least
    if served and known.loss == 0:
        return _Stops(least, None, Bounds(least, 0))
    capacity = Capacity(layout, layout.free, layout.gangs_on)
    rows = build(capacity, problem.online, (), problem.stop_limits)
    weights = _unserved_weights(problem, rows)
    first = None if served else minimise(rows, weights, effort)
    if not served and first is None:
        return None
    unserved = _total(first, weights) if first else least
    costs = {column: problem.gangs[gang].cost for gang, column in rows.stopped.items()}
    second = minimise(_capped(rows, "unserved", weights, unserved), costs, effort)
    answer = second or first
    draft = _seated(problem, layout, rows, (), answer, ()) if answer else None
    if draft is None:
        return None
    if not _divisible(problem):
        return _Stops(unserved, draft, Bounds(least if served else None, None))
    bound = _ceiling(first.bound) if first else least
    return _Stops(unserved, draft, Bounds(bound, _ceiling(second.bound) if second else None))


def _fill(problem: Problem, layout: Layout, effort: Effort, stops: _Stops) -> Draft | None:
    """Tiers 3 and 4; where they fail, the replicas of tier 2 and batch by the heuristic."""
    gangs = tuple(stops.draft.board.stopped()) if stops.draft else ()
    waiting = crews(problem.batch)
    capacity = _after(layout, gangs)
    rows = build(capacity, problem.online, waiting, ())
    rows = _capped(rows, "unserved", _unserved_weights(problem, rows), stops.unserved_milli_gpus)
    answer = _batch_then_fragmentation(problem, effort, rows, capacity, waiting)
    whole = _seated(problem, layout, rows, waiting, answer, gangs) if answer else None
    draft = whole or stops.draft
    return _refilled(problem, _trimmed(problem, draft)) if draft else None


def _batch_then_fragmentation(
    problem: Problem, effort: Effort, rows: Rows, capacity: Capacity, waiting: Sequence[Crew]
) -> Answer | None:
    worth = {column: -waiting[crew].value for (crew, _), column in rows.batch.items()}
    third = minimise(rows, worth, effort)
    if third is None:
        return None
    rows, waste = leftovers(
        _capped(rows, "value", worth, _total(third, worth)), capacity, problem.mix
    )
    return minimise(rows, waste, effort) or third


def _after(layout: Layout, gangs: Sequence[int]) -> Capacity:
    """The capacity once these gangs are stopped, with no further stop allowed."""
    free = list(layout.free)
    for gang in gangs:
        for node, gpus in layout.parts[gang]:
            free[node] += gpus
    return Capacity(layout, tuple(free), tuple(() for _ in free))


def _seated(
    problem: Problem,
    layout: Layout,
    rows: Rows,
    waiting: Sequence[Crew],
    answer: Answer,
    gangs: Sequence[int],
) -> Draft | None:
    """The answer on nodes, these gangs and those that it stops being stopped."""
    board: Board = nothing(problem, layout).board
    chosen = [gang for gang, column in rows.stopped.items() if answer.values[column]]
    for gang in (*gangs, *chosen):
        board.stop(gang)
    return materialise(problem, board, _counts(rows, waiting, answer))


def _counts(rows: Rows, waiting: Sequence[Crew], answer: Answer) -> Counts:
    """Counts per leaf; the jobs of a crew are named in their order."""
    online = tuple(
        (request, leaf)
        for (request, leaf), column in rows.online.items()
        for _ in range(answer.values[column])
    )
    members = [iter(crew.members) for crew in waiting]
    batch = tuple(
        (next(members[crew]), leaf)
        for (crew, leaf), column in rows.batch.items()
        for _ in range(answer.values[column])
    )
    return Counts(online, batch)


def _trimmed(problem: Problem, draft: Draft) -> Draft:
    """Without superfluous replicas and needless stops, judged with no batch job seated.

    Batch jobs keep their seats where no stop is taken back, and lose them all otherwise.
    """
    board = draft.board
    stopped = board.stopped()
    for seat in draft.batch:
        for node in seat.nodes:
            board.take(node, -problem.batch[seat.request].shape.gpus)
    online = drop_superfluous(problem, board, list(draft.online))
    online = drop_needless_kills(problem, board, online)
    kept = draft.batch if board.stopped() == stopped else ()
    for seat in kept:
        for node in seat.nodes:
            board.take(node, problem.batch[seat.request].shape.gpus)
    return Draft(board, tuple(online), kept)


def _refilled(problem: Problem, draft: Draft) -> Draft:
    """With every further batch job that still fits: sizes were rounded up, solves may stop."""
    return draft._replace(batch=fill_batch(problem, draft.board, draft.batch))


def _unserved_weights(problem: Problem, rows: Rows) -> dict[int, int]:
    """Tier 1: GPUs of a reference replica per milli-replica of shortage."""
    return {column: problem.online[request].shape.size for request, column in rows.unserved.items()}


def _capped(rows: Rows, name: str, weights: Mapping[int, int], most: int) -> Rows:
    """The rows and an earlier tier's optimum as one more."""
    row = Row(name, tuple(weights.items()), None, most)
    return msgspec.structs.replace(rows, rows=(*rows.rows, row))


def _total(answer: Answer, weights: Mapping[int, int]) -> int:
    return sum(weight * answer.values[column] for column, weight in weights.items())


def _ceiling(bound: float) -> int:
    """The least integer objective that the bound allows, solver tolerance granted."""
    return max(0, math.ceil(bound - 1e-6 * max(1.0, abs(bound))))


def _divisible(problem: Problem) -> bool:
    """True when no online piece was rounded up, so that bounds hold for the true sizes."""
    return all(request.shape.gpus == power_of_two(request.shape.gpus) for request in problem.online)
