"""Random problems in which some requests are roles of a pool."""

from random import Random
from typing import Literal

import msgspec

from binpacking.problem import Domain, Pool, PoolRole, Problem


def pooled(chance: Random, problem: Problem) -> Problem:
    """The problem with its requests as roles of one pool, and now and then one that has enough."""
    leaf = all(one.reach == "leaf" for one in problem.online) and chance.random() < 0.5
    level: Literal["leaf", "spine"] = "leaf" if leaf else "spine"
    places = sorted({one.domain(level) for one in problem.supplies})
    keys = [one.key for one in problem.online if chance.random() < 0.9]
    keys += ["content"] * (chance.random() < 0.3)
    roles = tuple(_role(chance, key, places) for key in keys)
    return msgspec.structs.replace(
        problem, pools=(Pool(level, chance.random() < 0.5, roles),) * (len(roles) > 1)
    )


def _role(chance: Random, key: str, places: list[Domain]) -> PoolRole:
    there = tuple((one, chance.choice([400, 1000])) for one in places if chance.random() < 0.4)
    return PoolRole(key, chance.choice([1000, 3000, 3500]), there)
