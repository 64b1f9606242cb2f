"""The program with alike columns counted together says what the whole program says."""

from collections.abc import Sequence
from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binpacking.alike import WHOLE
from binpacking.filling import credits_of, unserved_costs
from binpacking.layout import Layout, compile_layout
from binpacking.linear import Floats, Linear, costs_of
from binpacking.merged import Merged, merged
from binpacking.problem import Member, OnlineRequest, Problem, Shape
from binpacking.rooms import Capacity
from binpacking.rows import Rows, build
from binpacking.solver import minimise
from binpacking.standby import Standby
from tests.binpacking.floors import floored
from tests.binpacking.groups import grouped
from tests.binpacking.pooled import pooled
from tests.binpacking.problems import FULL, chances, gang, online, random_problem, supply
from tests.binpacking.sleeping import with_sleepers

SIZES = [(1, 2), (1, 2, 4, 8), (1, 3)]


def stated(problem: Problem) -> tuple[Rows, Merged, Layout]:
    layout = compile_layout(problem)
    capacity = Capacity(layout, layout.free, layout.beside, layout.gangs_on, layout.beds)
    rows = build(capacity, problem)
    return rows, merged(rows, problem, layout), layout


def price(problem: Problem, rows: Rows) -> Floats:
    """Tiers 1 and 2 as one sum."""
    stops = {c: sum(problem.gangs[gang].cost for gang in some) for c, some in rows.stops.items()}
    lost = costs_of(rows.linear, stops) - credits_of(rows)
    return unserved_costs(problem, rows) + lost


def holds(linear: Linear, point: Floats) -> bool:
    sums = linear.activity(point)
    inside = (point >= 0) & (point <= linear.upper)
    return bool(inside.all() and (sums >= linear.low).all() and (sums <= linear.high).all())


def likely(chance: Random, sizes: tuple[int, ...]) -> Problem:
    """Up to six leaves, mostly of one model, and up to eight requests of few shapes."""
    problem = random_problem(chance, sizes=sizes, leaves=6, nodes=2, requests=8, jobs=0)
    if chance.random() < 0.8:
        supplies = tuple(
            msgspec.structs.replace(one, gpu_model="h100", leaf=(*one.leaf[:-1], "h100"))
            for one in problem.supplies
        )
        problem = msgspec.structs.replace(problem, supplies=supplies)
    return grouped(chance, problem, sizes) if chance.random() < 0.7 else problem


@settings(max_examples=250, deadline=None)
@given(chances, st.sampled_from(SIZES))
def test_both_programs_have_the_same_optimum(chance: Random, sizes: tuple[int, ...]) -> None:
    problem = likely(chance, sizes)
    problem = floored(chance, problem) if chance.random() < 0.3 else problem
    problem = pooled(chance, problem) if chance.random() < 0.3 else problem
    problem = with_sleepers(chance, problem, 9) if chance.random() < 0.5 else problem
    rows, fewer, _ = stated(problem)
    costs = price(problem, rows)
    whole, found = (
        minimise(linear, each, FULL)
        for linear, each in ((rows.linear, costs), (fewer.linear, fewer.costs(costs)))
    )
    assert whole is not None
    assert found is not None
    point = fewer.opened(found.values, rows.linear.columns)
    assert holds(rows.linear, point)
    assert costs @ point == costs @ whole.values


def pool(*requests: OnlineRequest, standby: Sequence[Standby] = ()) -> Problem:
    """Two leaves of one model, and one of another."""
    return Problem(
        supplies=(
            supply("a", 2),
            supply("b", 4, leaf="l2"),
            supply("c", 8, leaf="l3", model="l20"),
        ),
        online=requests,
        gangs=(gang("g", 5, ("a", 4)),),
        standby=tuple(standby),
    )


BOTH = {"h100": 1000, "l20": 1000}


def test_pods_of_one_shape_share_a_column_in_every_leaf() -> None:
    _, fewer, _ = stated(pool(online("x", 2, 3000), online("y", 2, 2000, models=BOTH)))
    (alike,) = fewer.alike.pools
    assert {kind: [*each] for kind, each in alike.columns.items()} == {
        (0, WHOLE): [0, 1],
        (1, WHOLE): [0, 1],
    }


@pytest.mark.parametrize(
    "other",
    [online("y", 4, 2000), online("y", 2, 2000, pieces=2), online("y", 2, 2000, models={"l20": 1})],
    ids=["of another size", "of several pieces", "on another model"],
)
def test_pods_that_leaves_tell_apart_do_not(other: OnlineRequest) -> None:
    _, fewer, _ = stated(pool(online("x", 2, 3000), other))
    assert fewer.alike.pools == ()


def test_a_unit_that_wakes_is_a_pod() -> None:
    unit = Standby(key="u", request="x", node="a", devices=(0, 1), saved_seconds=9)
    problem = pool(online("x", 2, 3000), online("y", 2, 2000), standby=[unit])
    rows, fewer, _ = stated(problem)
    assert fewer.alike.rules == {*rows.kinds.values()}
    costs = price(problem, rows)
    found = minimise(fewer.linear, fewer.costs(costs), FULL)
    assert found is not None
    point = fewer.opened(found.values, rows.linear.columns)
    (wake,) = rows.wakes
    assert point[wake] == 1
    assert point[rows.online[0, 0]] >= 1


def group(key: str) -> OnlineRequest:
    members = Member("prefill", 1, Shape(1, 2)), Member("decode", 2, Shape(1, 1))
    return OnlineRequest(
        key=key, members=members, reach="spine", capacity_milli=BOTH, shortage_milli=1000, limit=1
    )


@pytest.mark.parametrize("decode", [(2, 2), (3, 1)], ids=["each its own", "one on its own"])
def test_groups_stand_whole_where_their_pods_can(decode: tuple[int, int]) -> None:
    """Two groups of 1 + 2 pods, of which each of two leaves has a prefill pod."""
    supplies = supply("a", 5), supply("b", 5, leaf="l2")
    rows, fewer, _ = stated(Problem(supplies=supplies, online=(group("x"), group("y"))))
    assert len(fewer.alike.replicas) == 4
    values = np.zeros(fewer.linear.columns)
    values = np.where(np.isin(fewer.kept, [*rows.split.values()]), 1.0, 0.0)
    values = np.append(values, np.zeros(fewer.linear.columns - len(values)))
    for pool, (pods, counts) in zip(fewer.pools, ((1, (1, 1)), (2, decode)), strict=True):
        values[[*pool.shares.values()]] = pods
        values[[*pool.totals.values()]] = counts
    assert holds(fewer.linear, values)
    point = fewer.opened(values, rows.linear.columns)
    assert holds(rows.linear, point)
    assert point[[*rows.online.values()]].sum() == (2 if decode == (2, 2) else 1)
