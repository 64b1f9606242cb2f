"""From a problem to the best verified packing within an effort, step by step.

The heuristic answers first. Where cheap bounds prove that nothing can be gained the solver is
not asked; else `program` gives bounds and better candidates one after the other. Every candidate
passes the independent checker or is dropped with its reason; the lexicographically best one is
held here, outside the solver, and leaves with what is proven of it and the rung that found it.
Efforts count branch-and-bound nodes and rounds, never seconds, so that the same problem always
has the same answer; a shell in a hurry gives a `stop`.
"""

from collections.abc import Iterator

import msgspec

from binpacking.bounds import least_unserved, most_batch_value
from binpacking.draft import Draft, nothing, packing
from binpacking.greedy import greedy
from binpacking.layout import compile_layout
from binpacking.problem import Effort, Packing, Problem, Rung, Tiers
from binpacking.program import Bounds, Hand, program
from binpacking.solver import Stop
from binpacking.verify import verify


def solve(problem: Problem, effort: Effort) -> Packing:
    """The best verified packing found.

    Raises ValueError where the problem contradicts itself (see `layout`). `gap` is 0.0 where
    tiers 1 and 2 are proven, None where nothing is.
    """
    *_, last = climb(problem, effort)
    return last


def climb(problem: Problem, effort: Effort, stop: Stop = lambda: False) -> Iterator[Packing]:
    """The best packing so far, each time it or what is proven of it gets better.

    `stop` is asked between steps and inside long solves; once it says true the climb ends.
    Raises ValueError where the problem contradicts itself.
    """
    layout = compile_layout(problem)
    rung: Rung = "greedy"
    draft = greedy(problem, layout)
    best, rejected = _checked(problem, draft, rung)
    if best is None:
        draft, rung = nothing(problem, layout), "empty"
        best = packing(problem, draft, rung)
    least = least_unserved(problem, layout)
    proven = best.tiers.loss == 0 and best.tiers.unserved_milli_gpus == least
    enough = proven and best.tiers.batch_value == most_batch_value(problem, layout)
    enough = enough and not best.tiers.apart
    bounds = Bounds(least, 0 if proven else None)
    yield _with(best, bounds, rejected)
    if enough or not effort.program:
        return
    hand = Hand(draft, best.tiers, rung)
    for step in program(problem, layout, effort, hand, least, stop):
        if step.draft is not None:
            other, reasons = _checked(problem, step.draft, step.rung)
            rejected += reasons
            if other is not None and better(other.tiers, best.tiers):
                best = other
        bounds = step.bounds
        yield _with(best, bounds, rejected)
        if stop():
            return


def _with(best: Packing, bounds: Bounds, rejected: tuple[str, ...]) -> Packing:
    return msgspec.structs.replace(
        best,
        gap=_gap(best.tiers, bounds),
        bound_unserved_milli_gpus=bounds.unserved_milli_gpus,
        bound_loss=bounds.loss,
        rejected=rejected,
    )


def _gap(tiers: Tiers, bounds: Bounds) -> float | None:
    """Tier 1's relative gap where it is above 0, else tier 2's; None without a bound."""
    for value, bound in (
        (tiers.unserved_milli_gpus, bounds.unserved_milli_gpus),
        (tiers.loss, bounds.loss),
    ):
        if bound is None:
            return None
        if value > bound:
            return (value - bound) / value
    return 0.0


def better(left: Tiers, right: Tiers) -> bool:
    """True when `left` beats `right` in the first tier where they differ."""
    return _order(left) < _order(right)


def _order(tiers: Tiers) -> tuple[int, int, int, int, int, int]:
    return (
        tiers.unserved_milli_gpus,
        tiers.loss,
        -tiers.batch_value,
        tiers.apart,
        tiers.fragmentation_milli_gpus,
        tiers.split,
    )


def _checked(problem: Problem, draft: Draft, rung: Rung) -> tuple[Packing | None, tuple[str, ...]]:
    """The draft as a packing if it passes the checker, else None and the checker's sentences."""
    answer = packing(problem, draft, rung)
    wrong = verify(problem, answer)
    return (None if wrong else answer), tuple(f"{rung}: {sentence}" for sentence in wrong)
