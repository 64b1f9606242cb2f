import msgspec
import pytest

from binpacking.ladder import solve
from binpacking.problem import Effort, Packing, Placed, Pool, PoolRole, Problem, StopLimit
from tests.binpacking.problems import FULL, QUICK, batch, gang, online, supply


def packed(problem: Problem) -> Packing:
    answer = solve(problem, QUICK)
    assert answer.rejected == ()
    return answer


def nodes(placed: tuple[Placed, ...]) -> list[list[str]]:
    return [[node for node, _ in one.parts] for one in placed]


def test_best_fit_takes_the_fullest_node_then_the_first_name() -> None:
    free = (supply("c", 4), supply("b", 2), supply("a", 2))
    answer = packed(Problem(supplies=free, online=(online("m", 2, 1000),)))
    assert nodes(answer.online) == [["a"]]


def test_pieces_of_eight_take_whole_nodes_of_one_leaf() -> None:
    free = (supply("a", 8), supply("b", 8, leaf="l2"), supply("c", 8, leaf="l2"))
    answer = packed(Problem(supplies=free, online=(online("m", 8, 1000, pieces=2),)))
    assert answer.online == (Placed("m", (("b", 8), ("c", 8))),)


def test_small_pieces_may_share_a_node() -> None:
    answer = packed(Problem(supplies=(supply("a", 4),), batch=(batch("j", 2, 5, pieces=2),)))
    assert answer.batch == (Placed("j", (("a", 2), ("a", 2))),)


def pool(*leaves: str, required: bool = False) -> Pool:
    """Prefill and decode of a model; both stand under these leaves, to a half of what is wanted."""
    there = tuple((("core", leaf), 1000 // len(leaves)) for leaf in leaves)
    total = 2000 if leaves else 1000
    roles = tuple(PoolRole(key, total, there) for key in ("m/prefill", "m/decode"))
    return Pool("leaf", required, roles)


@pytest.mark.parametrize(
    ("pools", "found", "apart"),
    [
        ((), [["a"], ["b", "c"]], 0),  # each where it fits best
        ((pool(),), [["d"], ["b", "c"]], 0),  # together, where all of the pool has room
        ((pool("l2"),), [["d"], ["b", "c"]], 0),  # where both have grown by as much
    ],
)
@pytest.mark.parametrize("effort", [QUICK, FULL])
def test_roles_of_a_pool_go_under_one_leaf_where_that_costs_nothing_else(
    pools: tuple[Pool, ...], found: list[list[str]], apart: int, effort: Effort
) -> None:
    supplies = (supply("a", 8), *(supply(name, 8, leaf="l2") for name in "bcd"))
    asked = (
        online("m/prefill", 8, 1000, limit=1),
        online("m/decode", 8, 1000, pieces=2, limit=1),
    )
    answer = solve(Problem(supplies=supplies, online=asked, pools=pools), effort)
    assert answer.rejected == ()
    by_key = {one.key: [node for node, _ in one.parts] for one in answer.online}
    assert [by_key.get("m/prefill", []), by_key.get("m/decode", [])] == found
    assert answer.tiers.apart == apart


@pytest.mark.parametrize("effort", [QUICK, FULL])
def test_of_roles_that_must_be_near_none_goes_alone(effort: Effort) -> None:
    """No leaf has room for both; where both stand already, one of them may grow."""
    supplies = (supply("a", 8), supply("b", 8, leaf="l2"))
    asked = (online("m/prefill", 8, 1000, limit=1), online("m/decode", 8, 1000, limit=1))
    for near, found in ((pool(required=True), []), (pool("l1", required=True), [["a"]])):
        answer = solve(Problem(supplies=supplies, online=asked, pools=(near,)), effort)
        assert answer.rejected == ()
        assert nodes(answer.online) == found
    wide = msgspec.structs.replace(pool(required=True), level="spine")
    assert len(solve(Problem(supplies=supplies, online=asked, pools=(wide,)), effort).online) == 2


def test_a_pool_is_no_reason_to_stop_anybody() -> None:
    roles = (PoolRole("m", 1000), PoolRole("other", 1000, ((("core", "l1"), 1000),)))
    problem = Problem(
        supplies=(supply("a", 0), supply("b", 2, leaf="l2")),
        online=(online("m", 2, 1000),),
        pools=(Pool("leaf", required=False, roles=roles),),
        gangs=(gang("cheap", 1, ("a", 2)),),
    )
    answer = packed(problem)
    assert (nodes(answer.online), answer.killed, answer.tiers.apart) == ([["b"]], (), 20000)
    needed = msgspec.structs.replace(problem, pools=(Pool("leaf", required=True, roles=roles),))
    answer = packed(needed)
    assert (nodes(answer.online), answer.killed) == ([["a"]], ("cheap",))


MODELS = {"h100": 1000, "l20": 500}


@pytest.mark.parametrize(
    ("free_h100", "free_l20", "cost_h100", "cost_l20", "node", "killed"),
    [
        (2, 2, 9, 9, "h", ()),  # the preferred model while it has room
        (0, 2, 1, 1, "l", ()),  # another model before any kill
        (0, 0, 9, 5, "h", ("on-h",)),  # then the cheapest per served milli-replica:
        (0, 0, 9, 4, "l", ("on-l",)),  # 9 for 1000 against 4 for 500
    ],
)
def test_order_among_models_and_kills(
    free_h100: int, free_l20: int, cost_h100: int, cost_l20: int, node: str, killed: tuple[str, ...]
) -> None:
    problem = Problem(
        supplies=(supply("h", free_h100), supply("l", free_l20, model="l20")),
        online=(online("m", 2, 1000, models=MODELS, limit=1),),
        gangs=(gang("on-h", cost_h100, ("h", 2)), gang("on-l", cost_l20, ("l", 2))),
    )
    answer = packed(problem)
    assert nodes(answer.online) == [[node]]
    assert answer.killed == killed


def test_a_stopped_gang_frees_its_gpus_on_all_its_nodes() -> None:
    problem = Problem(
        supplies=(supply("a", 0), supply("b", 0)),
        online=(online("m", 4, 2000),),
        gangs=(
            gang("long", 10, ("a", 4), ("b", 4)),
            gang("one", 11, ("a", 4)),
            gang("two", 11, ("b", 4)),
        ),
    )
    answer = packed(problem)
    assert answer.killed == ("long",)
    assert nodes(answer.online) == [["a"], ["b"]]


def test_no_kill_is_left_that_a_later_one_made_needless() -> None:
    problem = Problem(
        supplies=(supply("a", 0), supply("b", 0)),
        online=(online("first", 1, 1000), online("second", 8, 1000)),
        gangs=(gang("small", 1, ("a", 1)), gang("whole", 9, ("a", 7), ("b", 8))),
    )
    assert packed(problem).killed == ("whole",)


def test_no_kill_is_left_that_seating_anew_makes_needless() -> None:
    problem = Problem(
        supplies=(supply("a", 15), supply("b", 8)),
        online=(online("small", 2, 1000), online("pair", 8, 1000, pieces=2)),
        gangs=(gang("g", 1, ("a", 1)),),
    )
    answer = packed(problem)
    assert answer.killed == ()
    assert nodes(answer.online) == [["a"], ["a", "b"]]


def test_a_replica_is_lifted_when_a_later_one_covers_its_share() -> None:
    problem = Problem(
        supplies=(supply("h", 0), supply("l", 2, model="l20")),
        online=(online("m", 2, 900, models=MODELS),),
        gangs=(gang("on-h", 9, ("h", 2)),),
    )
    assert nodes(packed(problem).online) == [["h"]]


def test_limits_on_replicas_and_on_stops_hold() -> None:
    problem = Problem(
        supplies=(supply("a", 1), supply("b", 0)),
        online=(online("m", 1, 9000, limit=3),),
        gangs=tuple(gang(f"g{n}", n, ("b", 1)) for n in (1, 2, 3)),
    )
    assert packed(problem).unserved == {"m": 6000}
    limited = msgspec.structs.replace(problem, stop_limits=(StopLimit("all", ("g1", "g2"), 0),))
    assert packed(limited).killed == ("g3",)
    assert packed(limited).unserved == {"m": 7000}


@pytest.mark.parametrize("second_leaf", ["l1", "l2"])
def test_a_limit_used_up_on_one_node_binds_the_others(second_leaf: str) -> None:
    problem = Problem(
        supplies=(supply("a", 0), supply("b", 0, leaf=second_leaf)),
        online=(online("m", 2, 3000),),
        gangs=(gang("ga", 1, ("a", 2)), gang("gb", 2, ("b", 2)), gang("gc", 3, ("b", 2))),
        stop_limits=(StopLimit("all", ("ga", "gb"), 1),),
    )
    assert packed(problem).killed == ("ga", "gc")


def test_a_gang_on_a_node_that_is_no_supply_frees_nothing_there() -> None:
    problem = Problem(
        supplies=(supply("a", 0),),
        online=(online("m", 2, 1000),),
        gangs=(gang("g", 1, ("a", 2), ("gone", 6)),),
    )
    assert packed(problem).killed == ("g",)


def test_batch_goes_by_value_per_gpu_then_size_then_key() -> None:
    jobs = (batch("z", 4, 40), batch("a", 4, 40), batch("dear", 1, 11), batch("big", 8, 80))
    answer = packed(Problem(supplies=(supply("n", 5),), batch=jobs))
    assert [job.key for job in answer.batch] == ["a", "dear"]


def test_batch_stops_nobody() -> None:
    problem = Problem(
        supplies=(supply("a", 3),), batch=(batch("j", 4, 99),), gangs=(gang("g", 1, ("a", 1)),)
    )
    assert packed(problem).killed == ()


def test_the_order_of_supplies_is_of_no_account() -> None:
    free = tuple(supply(name, 4, leaf=leaf) for leaf in ("l1", "l2") for name in (leaf, leaf + "x"))
    asked = (online("m", 2, 3000),)
    forward = Problem(supplies=free, online=asked, batch=(batch("j", 4, 1),))
    backward = msgspec.structs.replace(forward, supplies=free[::-1])
    assert packed(forward) == packed(backward)
