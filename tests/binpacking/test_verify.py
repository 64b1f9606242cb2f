"""The checker accepts what the ladder gives and names each thing that is made wrong."""

from collections.abc import Callable

import msgspec
import pytest

from binpacking.ladder import solve
from binpacking.problem import (
    Gang,
    OnlineRequest,
    Packing,
    Placed,
    Problem,
    Shape,
    StopLimit,
    Supply,
    Tiers,
)
from binpacking.verify import verify
from tests.binpacking.problems import FULL, batch, gang, online, supply

PROBLEM = Problem(
    supplies=(
        supply("a", 2),
        supply("b", 0),
        supply("c", 8, leaf="l2"),
        supply("d", 8, leaf="l3", model="l20"),
    ),
    online=(online("m", 4, 3000, limit=3),),
    batch=(batch("j", 2, 20), batch("k", 4, 10, models=("l20",))),
    gangs=(gang("g", 5, ("b", 4)), gang("h", 9, ("b", 4)), gang("j", 3, ("d", 0))),
    stop_limits=(StopLimit("tenant", ("g", "h"), 1),),
)
GOOD = Packing(
    online=(Placed("m", (("b", 4),)), Placed("m", (("c", 4),)), Placed("m", (("c", 4),))),
    batch=(Placed("j", (("a", 2),)), Placed("k", (("d", 4),))),
    killed=("g",),
    tiers=Tiers(0, 5, 30, 1000),
)


def test_a_good_packing_is_accepted() -> None:
    assert verify(PROBLEM, GOOD) == ()


def test_what_the_ladder_gives_is_as_good() -> None:
    assert solve(PROBLEM, FULL).tiers == GOOD.tiers


Change = Callable[[Packing], Packing]


def changed(**fields: object) -> Change:
    return lambda packing: msgspec.structs.replace(packing, **fields)


def replica(*parts: tuple[str, int]) -> Change:
    """The first replica stands elsewhere."""
    return lambda packing: msgspec.structs.replace(
        packing, online=(Placed("m", parts), *packing.online[1:])
    )


def job(key: str, *parts: tuple[str, int]) -> Change:
    return lambda packing: msgspec.structs.replace(
        packing, batch=(*packing.batch, Placed(key, parts))
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (changed(online=(Placed("x", (("c", 4),)),)), "x: no such online request"),
        (job("x", ("c", 4)), "x: no such batch request"),
        (changed(killed=("x",)), "x: no such gang to stop"),
        (replica(("nowhere", 4)), "m: no such node nowhere"),
        (job("j", ("d", 2)), "j: started 2 times"),
        (changed(killed=("g", "g")), "g: stopped 2 times"),
        (changed(killed=("g", "j")), "j: both started and stopped"),
        (replica(("b", 3)), "m: parts are not 1 pieces of 4 GPUs"),
        (replica(("b", 2), ("a", 2)), "m: parts are not 1 pieces of 4 GPUs"),
        (replica(("b", 4), ("c", 4)), "m: pieces stand under more than one leaf"),
        (replica(("d", 4)), "m: GPU model l20 is not allowed"),
        (changed(batch=(Placed("k", (("a", 4),)),)), "k: GPU model h100 is not allowed"),
        (changed(killed=()), "b: 4 GPUs too many"),
        (replica(("a", 4)), "a: 4 GPUs too many"),
        (changed(killed=("g", "h")), "h: stopped without need"),
        (changed(killed=("g", "h")), "tenant: 2 stops, at most 1 allowed"),
        (changed(online=GOOD.online + GOOD.online[:1]), "m: 4 replicas, at most 3 allowed"),
        (changed(online=GOOD.online + GOOD.online[:1]), "m: a replica more than the shortage"),
        (changed(online=GOOD.online[:2]), "unserved: claimed {}, found {'m': 1000}"),
        (changed(unserved={"m": 1}), "unserved: claimed {'m': 1}, found {}"),
        (changed(tiers=Tiers(1, 5, 30, 1000)), "tiers: claimed"),
        (changed(tiers=Tiers(0, 4, 30, 1000)), "tiers: claimed"),
        (changed(tiers=Tiers(0, 5, 31, 1000)), "tiers: claimed"),
        (changed(tiers=Tiers(0, 5, 30, 999)), "tiers: claimed"),
    ],
)
def test_each_thing_made_wrong_is_named(change: Change, sentence: str) -> None:
    found = verify(PROBLEM, change(GOOD))
    assert any(one.startswith(sentence) for one in found), found


def test_a_gang_with_two_parts_on_a_node_is_needed_where_a_replica_takes_one_of_them() -> None:
    problem = Problem(
        supplies=(supply("a", 4), supply("b", 0, leaf="l2")),
        online=(online("m", 4, 2000, limit=2),),
        gangs=(gang("g", 5, ("b", 4), ("b", 4)),),
    )
    packing = solve(problem, FULL)
    assert packing.killed == ("g",)
    assert packing.unserved == {}
    assert packing.rejected == ()
    assert verify(problem, packing) == ()


SCARCE = Problem(
    supplies=(
        Supply("a", "h100", ("core", "l1", "h100"), 4, 8, cpu_milli=8, memory_mib=9),
        Supply("b", "h100", ("core", "l1", "h100"), 4, 8, cpu_milli=2, memory_mib=9),
    ),
    online=(
        OnlineRequest(
            key="m",
            shape=Shape(1, 1, 3, 4),
            capacity_milli={"h100": 1000},
            shortage_milli=3000,
            limit=3,
        ),
    ),
    gangs=(Gang(key="g", parts=(("b", 4),), cost=5, cpu_milli=1),),
)
"""Two on `a` for its memory, one on `b` for the CPU that the gang gives back."""


def test_cpu_and_memory_are_counted_node_by_node() -> None:
    packing = solve(SCARCE, FULL)
    assert (packing.killed, packing.unserved) == (("g",), {})
    assert verify(SCARCE, packing) == ()
    spared = msgspec.structs.replace(packing, killed=())
    assert "b: 1 cpu_milli too much" in verify(SCARCE, spared)
    crowded = (Placed("m", (("a", 1),)),) * 3
    found = verify(SCARCE, msgspec.structs.replace(packing, online=crowded))
    assert "a: 1 cpu_milli too much" in found
    assert "a: 3 memory_mib too much" in found
    assert "g: stopped without need" in found
