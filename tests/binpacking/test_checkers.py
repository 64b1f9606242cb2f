"""Two checkers that share no code, on right packings and on packings made wrong in every way."""

from collections import Counter
from collections.abc import Callable
from random import Random

import msgspec
import pytest
from hypothesis import settings

from binpacking.ladder import solve
from binpacking.problem import Packing, Placed, Problem
from binpacking.verify import verify
from tests.binpacking.floors import floored
from tests.binpacking.groups import grouped
from tests.binpacking.naive import accepts
from tests.binpacking.pooled import pooled
from tests.binpacking.problems import FULL, QUICK, random_problem
from tests.binpacking.stinted import stinted

WORLDS = 250 if settings.default.max_examples < 1000 else 10_000  # type: ignore[union-attr]

Corrupt = Callable[[Random, Problem, Packing], Packing | None]


def changed(packing: Packing, **fields: object) -> Packing:
    return msgspec.structs.replace(packing, **fields)


def _other(chance: Random, placed: tuple[Placed, ...], parts: object) -> tuple[Placed, ...]:
    """The same with other parts for one of them, which `parts` makes of the old."""
    number = chance.randrange(len(placed))
    old = placed[number]
    new = Placed(old.key, tuple(parts(list(old.parts))))  # type: ignore[operator]
    return (*placed[:number], new, *placed[number + 1 :])


def lost_replica(chance: Random, problem: Problem, packing: Packing) -> Packing | None:
    if not packing.online:
        return None
    gone = chance.randrange(len(packing.online))
    return changed(packing, online=packing.online[:gone] + packing.online[gone + 1 :])


def doubled_replica(chance: Random, problem: Problem, packing: Packing) -> Packing | None:
    if not packing.online:
        return None
    return changed(packing, online=(*packing.online, chance.choice(packing.online)))


def lost_job(chance: Random, problem: Problem, packing: Packing) -> Packing | None:
    worth = {job.key: job.value for job in problem.batch}
    gone = next((one for one in packing.batch if worth[one.key]), None)
    batch = tuple(one for one in packing.batch if one is not gone)
    return changed(packing, batch=batch) if gone else None


def doubled_job(chance: Random, problem: Problem, packing: Packing) -> Packing | None:
    return changed(packing, batch=packing.batch * 2) if packing.batch else None


def unknown_request(chance: Random, problem: Problem, packing: Packing) -> Packing | None:
    if not packing.online:
        return None
    return changed(packing, online=(*packing.online, Placed("nobody", packing.online[0].parts)))


def unknown_job(chance: Random, problem: Problem, packing: Packing) -> Packing | None:
    if not packing.batch:
        return None
    renamed = Placed("nobody", packing.batch[0].parts)
    return changed(packing, batch=(renamed, *packing.batch[1:]))


def unknown_node(chance: Random, problem: Problem, packing: Packing) -> Packing | None:
    if not packing.online:
        return None

    def elsewhere(parts: list[tuple[str, int]]) -> list[tuple[str, int]]:
        return [("nowhere", parts[0][1]), *parts[1:]]

    return changed(packing, online=_other(chance, packing.online, elsewhere))


def moved_piece(chance: Random, problem: Problem, packing: Packing) -> Packing | None:
    """To any node: often too full, of another model or leaf; sometimes as good as before."""
    if not packing.online:
        return None
    node = chance.choice(problem.supplies).node

    def move(parts: list[tuple[str, int]]) -> list[tuple[str, int]]:
        number = chance.randrange(len(parts))
        parts[number] = (node, parts[number][1])
        return parts

    return changed(packing, online=_other(chance, packing.online, move))


def moved_job(chance: Random, problem: Problem, packing: Packing) -> Packing | None:
    if not packing.batch:
        return None
    node = chance.choice(problem.supplies).node
    return changed(
        packing, batch=_other(chance, packing.batch, lambda p: [(node, gpus) for _, gpus in p])
    )


def wrong_size(chance: Random, problem: Problem, packing: Packing) -> Packing | None:
    if not packing.online:
        return None
    by = chance.choice([-1, 1])
    return changed(
        packing,
        online=_other(chance, packing.online, lambda p: [(p[0][0], p[0][1] + by), *p[1:]]),
    )


def lost_piece(chance: Random, problem: Problem, packing: Packing) -> Packing | None:
    if not packing.online:
        return None
    return changed(packing, online=_other(chance, packing.online, lambda p: p[1:]))


def added_piece(chance: Random, problem: Problem, packing: Packing) -> Packing | None:
    if not packing.batch:
        return None
    return changed(packing, batch=_other(chance, packing.batch, lambda p: [*p, p[0]]))


def lost_stop(chance: Random, problem: Problem, packing: Packing) -> Packing | None:
    return changed(packing, killed=packing.killed[1:]) if packing.killed else None


def doubled_stop(chance: Random, problem: Problem, packing: Packing) -> Packing | None:
    if not packing.killed:
        return None
    return changed(packing, killed=(*packing.killed, chance.choice(packing.killed)))


def unknown_stop(chance: Random, problem: Problem, packing: Packing) -> Packing | None:
    return changed(packing, killed=(*packing.killed, "nobody"))


def needless_stop(chance: Random, problem: Problem, packing: Packing) -> Packing | None:
    """With tiers that say what it costs."""
    others = [gang for gang in problem.gangs if gang.key not in packing.killed]
    if not others:
        return None
    one = chance.choice(others)
    tiers = msgspec.structs.replace(packing.tiers, loss=packing.tiers.loss + one.cost)
    return changed(packing, killed=(*packing.killed, one.key), tiers=tiers)


def passed_limit(chance: Random, problem: Problem, packing: Packing) -> Packing | None:
    bound = [limit for limit in problem.stop_limits if limit.most < len(limit.gangs)]
    if not bound:
        return None
    killed = tuple(sorted({*packing.killed, *bound[0].gangs[: bound[0].most + 1]}))
    return changed(packing, killed=killed)


def wrong_unserved(chance: Random, problem: Problem, packing: Packing) -> Packing | None:
    if not problem.online:
        return None
    key = chance.choice(problem.online).key
    claimed = dict(packing.unserved)
    claimed[key] = claimed.get(key, 0) + 1
    return changed(packing, unserved=claimed)


def forgotten_unserved(chance: Random, problem: Problem, packing: Packing) -> Packing | None:
    return changed(packing, unserved={}) if packing.unserved else None


def wrong_tier(chance: Random, problem: Problem, packing: Packing) -> Packing | None:
    field = chance.choice(type(packing.tiers).__struct_fields__)
    value = getattr(packing.tiers, field) + chance.choice([-1, 1])
    return changed(packing, tiers=msgspec.structs.replace(packing.tiers, **{field: value}))


ALWAYS_WRONG: tuple[Corrupt, ...] = (
    lost_replica,
    doubled_replica,
    lost_job,
    doubled_job,
    unknown_request,
    unknown_job,
    unknown_node,
    wrong_size,
    lost_piece,
    added_piece,
    lost_stop,
    doubled_stop,
    unknown_stop,
    needless_stop,
    passed_limit,
    wrong_unserved,
    forgotten_unserved,
    wrong_tier,
)
SOMETIMES_WRONG: tuple[Corrupt, ...] = (moved_piece, moved_job)


@pytest.mark.parametrize(
    ("sizes", "groups", "kind"),
    [
        ((1, 2, 4, 8), False, ""),
        ((1, 2, 3, 5), False, ""),
        ((1, 2, 4), True, ""),
        ((1, 2, 4), True, "stinted"),
        ((1, 2, 4), False, "floors"),
        ((1, 2, 4), True, "floors"),
        ((1, 2, 4), False, "pools"),
    ],
    ids=["powers", "any", "groups", "stinted", "floors", "floors of groups", "pools"],
)
def test_both_checkers_agree_on_right_packings_and_on_each_kind_of_wrong_one(
    sizes: tuple[int, ...], groups: bool, kind: str
) -> None:
    made: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for number in range(WORLDS):
        chance = Random(number)  # noqa: S311  # a numbered world, no secret
        problem = random_problem(chance, sizes=sizes)
        problem = grouped(chance, problem, sizes) if groups else problem
        problem = stinted(chance, problem) if kind == "stinted" else problem
        problem = floored(chance, problem) if kind == "floors" else problem
        problem = pooled(chance, problem) if kind == "pools" else problem
        packing = solve(problem, FULL if number % 4 == 0 else QUICK)
        assert verify(problem, packing) == (), number
        assert accepts(problem, packing), number
        for corrupt in (*ALWAYS_WRONG, *SOMETIMES_WRONG):
            name = corrupt.__name__
            spoilt = corrupt(chance, problem, packing)
            if spoilt is None:
                continue
            refused = bool(verify(problem, spoilt))
            assert refused is not accepts(problem, spoilt), (number, name)
            assert refused or corrupt in SOMETIMES_WRONG, (number, name)
            made[name] += 1
            found[name] += refused
    for corrupt in (*ALWAYS_WRONG, *SOMETIMES_WRONG):
        assert made[corrupt.__name__] >= 5, corrupt.__name__
        assert found[corrupt.__name__], corrupt.__name__
    assert found["moved_piece"] < made["moved_piece"]  # some are as good as before
