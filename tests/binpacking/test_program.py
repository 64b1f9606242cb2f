"""The exact rung against the heuristic, against exhaustive search, and at its limits."""

from functools import cache
from itertools import chain, combinations, product
from random import Random

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from binpacking import ladder
from binpacking.crews import crews
from binpacking.draft import Draft, Seat, nothing
from binpacking.fragmentation import unusable_milli_gpus
from binpacking.ladder import better, solve
from binpacking.layout import Layout, compile_layout
from binpacking.leftovers import leftovers
from binpacking.linear import FREE, costs_of
from binpacking.problem import Problem, StopLimit, Tiers
from binpacking.program import Bounds, Step
from binpacking.rooms import Capacity
from binpacking.rows import build
from binpacking.solver import minimise
from binpacking.verify import verify
from tests.binpacking.problems import (
    FULL,
    QUICK,
    batch,
    chances,
    gang,
    online,
    random_problem,
    supply,
)


def least(problem: Problem) -> tuple[int, int]:
    """Tiers 1 and 2 by trying every set of stops and every seat."""
    nodes = problem.supplies

    @cache
    def unserved(free: tuple[int, ...], missing: tuple[int, ...], left: tuple[int, ...]) -> int:
        best = sum(
            max(0, milli) * request.shape.size
            for milli, request in zip(missing, problem.online, strict=True)
        )
        for index, request in enumerate(problem.online):
            if missing[index] <= 0 or not left[index]:
                continue
            for seats in product(range(len(nodes)), repeat=request.shape.pieces):
                room = list(free)
                for node in seats:
                    room[node] -= request.shape.gpus
                leaves = {nodes[node].leaf for node in seats}
                gain = request.capacity_milli.get(nodes[seats[0]].gpu_model, 0)
                if len(leaves) > 1 or not gain or min(room) < 0:
                    continue
                fewer = (*missing[:index], missing[index] - gain, *missing[index + 1 :])
                spent = (*left[:index], left[index] - 1, *left[index + 1 :])
                best = min(best, unserved(tuple(room), fewer, spent))
        return best

    found = []
    gangs = problem.gangs
    for stops in chain.from_iterable(combinations(gangs, n) for n in range(len(gangs) + 1)):
        keys = {stop.key for stop in stops}
        if any(len(keys & set(limit.gangs)) > limit.most for limit in problem.stop_limits):
            continue
        free = tuple(
            node.free
            + sum(gpus for stop in stops for name, gpus in stop.parts if name == node.node)
            for node in nodes
        )
        missing = tuple(request.shortage_milli for request in problem.online)
        left = tuple(request.limit for request in problem.online)
        found.append((unserved(free, missing, left), sum(stop.cost for stop in stops)))
    return min(found)


@settings(max_examples=200)
@given(chances)
def test_tiers_one_and_two_equal_exhaustive_search(chance: Random) -> None:
    problem = random_problem(
        chance, sizes=(1, 2, 4), leaves=2, nodes=2, gangs=4, requests=2, jobs=2
    )
    answer = solve(problem, FULL)
    assert (answer.tiers.unserved_milli_gpus, answer.tiers.loss) == least(problem)
    assert answer.gap == 0.0


@settings(max_examples=100)
@given(chances, st.sampled_from([(1, 2, 4, 8), (1, 2, 3, 5, 8)]))
def test_more_effort_is_never_worse_and_always_verified(
    chance: Random, sizes: tuple[int, ...]
) -> None:
    problem = random_problem(chance, sizes=sizes)
    quick, full = solve(problem, QUICK), solve(problem, FULL)
    assert not better(quick.tiers, full.tiers)
    for answer in (quick, full):
        assert answer.rejected == ()
        assert verify(problem, answer) == ()
    assert solve(problem, FULL) == full


def test_the_program_finds_the_loss_that_the_heuristic_misses() -> None:
    problem = Problem(
        supplies=(supply("a", 0), supply("b", 0, leaf="l2")),
        online=(online("small", 4, 1000), online("large", 8, 1000)),
        gangs=(
            gang("a1", 3, ("a", 4)),
            gang("a2", 3, ("a", 4)),
            gang("b", 7, ("b", 8)),
        ),
    )
    quick, full = solve(problem, QUICK), solve(problem, FULL)
    assert (quick.tiers.loss, quick.gap) == (13, None)
    assert (full.tiers.loss, full.rung, full.gap) == (10, "program", 0.0)


def test_the_program_starts_the_batch_that_is_worth_most() -> None:
    jobs = (batch("dense", 3, 34), batch("two", 2, 20), batch("other", 2, 20))
    problem = Problem(supplies=(supply("a", 4),), batch=jobs)
    assert solve(problem, QUICK).tiers.batch_value == 34
    assert solve(problem, FULL).tiers.batch_value == 40


@settings(max_examples=100)
@given(chances)
def test_the_fragmentation_tier_is_exact_for_one_size(chance: Random) -> None:
    """All jobs start in one leaf: the least waste over every way of seating them."""
    free = (4, *(chance.randint(0, 9) for _ in range(chance.randint(0, 2))))
    problem = Problem(
        supplies=tuple(supply(f"n{n}", gpus) for n, gpus in enumerate(free)),
        batch=tuple(batch(f"b{n}", chance.choice([1, 2, 4]), 1) for n in range(3)),
        mix=((chance.choice([2, 4, 8]), 1),),
    )
    layout = compile_layout(problem)
    waiting = crews(problem.batch)
    capacity = Capacity(layout, layout.free, layout.beside, tuple(() for _ in free))
    rows = build(capacity, problem, waiting, sizes=[size for size, _ in problem.mix])
    jobs = costs_of(rows.linear, dict.fromkeys(rows.batch.values(), 1))
    linear, waste, _ = leftovers(rows, rows.linear.with_row(jobs, 3, FREE), problem.mix)
    answer = minimise(linear, costs_of(linear, waste), FULL)
    ways = [
        left
        for seats in product(range(len(free)), repeat=3)
        if min(left := after(free, problem, seats)) >= 0
    ]
    if not ways:
        assert answer is None
        return
    assert answer is not None
    found = sum(free) + sum(weight * answer.values[column] for column, weight in waste.items())
    assert 1000 * found == min(unusable_milli_gpus(left, problem.mix) for left in ways)


def after(free: tuple[int, ...], problem: Problem, seats: tuple[int, ...]) -> list[int]:
    left = list(free)
    for job, node in zip(problem.batch, seats, strict=True):
        left[node] -= job.shape.gpus
    return left


def test_the_program_wastes_less_for_the_same_batch() -> None:
    """An 8, the 2 and the 1 start in any case: 2 and 1 in 5 and 6, where least is wasted."""
    free = (supply("a", 8), supply("b", 6), supply("c", 5, leaf="l2"))
    jobs = (batch("b0", 1, 10), batch("b1", 2, 20), batch("b2", 8, 80), batch("b3", 8, 80))
    problem = Problem(supplies=free, batch=jobs)
    quick, full = solve(problem, QUICK), solve(problem, FULL)
    assert (quick.rung, quick.tiers) == ("greedy", Tiers(0, 0, 110, 2800))
    assert (full.rung, full.tiers) == ("program", Tiers(0, 0, 110, 2000))


def test_jobs_that_rounding_kept_out_are_started_after_all() -> None:
    """The 5 counts as 8 in the rows; the 3 as 4, so that it has no slot until the 5 is seated."""
    free = tuple(supply(name, gpus) for name, gpus in (("a", 2), ("b", 8), ("c", 5)))
    jobs = (batch("b0", 5, 50), batch("b1", 4, 40), batch("b2", 1, 10), batch("b3", 3, 33))
    full = solve(Problem(supplies=free, batch=jobs), FULL)
    assert (full.rung, full.tiers.batch_value) == ("program", 133)


def test_a_stop_limit_binds_the_program() -> None:
    gangs = (gang("a", 1, ("n", 4)), gang("b", 1, ("n", 4)), gang("c", 50, ("m", 8)))
    problem = Problem(
        supplies=(supply("m", 0), supply("n", 0)), online=(online("o", 8, 1000),), gangs=gangs
    )
    assert solve(problem, FULL).killed == ("a", "b")
    limited = msgspec.structs.replace(problem, stop_limits=(StopLimit("t", ("a", "b"), 1),))
    assert solve(limited, FULL).killed == ("c",)


@pytest.mark.parametrize(
    "problem",
    [
        Problem(supplies=(supply("a", 3),)),
        Problem(supplies=(supply("a", 3),), online=(online("m", 2, 900),)),
        Problem(supplies=(supply("a", 3),), batch=(batch("j", 2, 7), batch("k", 8, 9))),
        Problem(supplies=(supply("a", 2),), online=(online("m", 1, 5000, limit=2),)),
        Problem(supplies=(supply("a", 2),), batch=(batch("j", 2, 7), batch("k", 2, 7))),
        Problem(
            supplies=(supply("a", 4),),
            online=(online("m", 2, 900),),
            batch=(batch("j", 2, 7), batch("k", 2, 7)),
        ),
    ],
    ids=["nothing asked", "served", "all can start", "to the limit", "full", "full with online"],
)
def test_what_is_proven_cheaply_asks_no_solver(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unexpected(*_: object) -> None:
        pytest.fail("the solver was asked")

    monkeypatch.setattr(ladder, "program", unexpected)
    answer = solve(problem, FULL)
    assert (answer.rung, answer.gap) == ("greedy", 0.0)


@example(Random(175))  # noqa: S311  the search of near columns ends without any bound
@settings(max_examples=30)
@given(chances)
def test_a_solver_stopped_at_once_is_no_harm(chance: Random) -> None:
    problem = random_problem(chance, leaves=5, nodes=5, gangs=30, requests=5, jobs=20)
    answer = solve(problem, msgspec.structs.replace(FULL, node_limit=0))
    assert answer.rejected == ()
    assert verify(problem, answer) == ()
    assert not better(solve(problem, QUICK).tiers, answer.tiers)


SHORT = Problem(
    supplies=(supply("a", 0),), online=(online("m", 2, 4000),), gangs=(gang("g", 8, ("a", 2)),)
)
"""The heuristic leaves 6000 milli-GPUs unserved, at a loss of 8."""


@pytest.mark.parametrize(
    ("unserved", "loss", "gap"),
    [
        (6000, 8, 0.0),
        (6000, 6, 0.25),
        (3000, 8, 0.5),
        (3000, 6, 0.5),
        (6000, None, None),
        (None, None, None),
    ],
)
def test_the_gap_is_of_the_first_tier_that_has_one(
    unserved: int | None, loss: int | None, gap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Step(None, "program", Bounds(unserved, loss))
    monkeypatch.setattr(ladder, "program", lambda *_: iter([step]))
    answer = solve(SHORT, FULL)
    assert answer.tiers == Tiers(6000, 8, 0, 0)
    assert (answer.rung, answer.gap) == ("greedy", gap)


def test_a_broken_candidate_is_dropped_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def overdrawn(problem: Problem, layout: Layout) -> Draft:
        draft = nothing(problem, layout)
        draft.board.take(0, 2)
        return draft._replace(online=(Seat(0, (0,)),))

    def steps(problem: Problem, layout: Layout, *_: object) -> list[Step]:
        return [Step(overdrawn(problem, layout), "program", Bounds(None, None))]

    monkeypatch.setattr(ladder, "program", steps)
    answer = solve(SHORT, FULL)
    assert answer.rung == "greedy"
    assert answer.rejected == ("program: a: 2 GPUs too many",)
    monkeypatch.setattr(ladder, "greedy", overdrawn)
    answer = solve(SHORT, QUICK)
    assert (answer.rung, answer.online, answer.killed) == ("empty", (), ())
    assert answer.rejected == ("greedy: a: 2 GPUs too many",)
    assert verify(SHORT, answer) == ()


@pytest.mark.parametrize(
    ("left", "right", "wins"),
    [
        (Tiers(0, 9, 0, 9), Tiers(1, 0, 9, 0), True),
        (Tiers(1, 2, 0, 9), Tiers(1, 3, 9, 0), True),
        (Tiers(1, 2, 5, 9), Tiers(1, 2, 4, 0), True),
        (Tiers(1, 2, 5, 8), Tiers(1, 2, 5, 9), True),
        (Tiers(1, 2, 5, 9), Tiers(1, 2, 5, 9), False),
    ],
)
def test_tiers_are_compared_in_order(left: Tiers, right: Tiers, wins: bool) -> None:
    assert better(left, right) is wins
    assert not better(right, left)
