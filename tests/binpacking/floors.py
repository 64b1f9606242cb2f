"""Random problems in which some requests ask for an anti-affinity floor."""

from random import Random

import msgspec

from binpacking.problem import Level, OnlineRequest, Problem, Spread


def floored(chance: Random, problem: Problem) -> Problem:
    """The problem with floors for most requests, some passed already by what stands there."""
    return msgspec.structs.replace(
        problem,
        online=tuple(
            _floor(chance, problem, one) if chance.random() < 0.8 else one for one in problem.online
        ),
    )


def _floor(chance: Random, problem: Problem, request: OnlineRequest) -> OnlineRequest:
    levels: list[Level] = ["spine"]
    levels += ["leaf"] if request.reach == "leaf" else []
    levels += [] if request.members else ["node"]
    level = chance.choice(levels)
    domains = sorted({one.domain(level) for one in problem.supplies})
    there = tuple((one, chance.randint(0, 2)) for one in domains if chance.random() < 0.3)
    return msgspec.structs.replace(request, spread=Spread(level, chance.choice([1, 1, 2]), there))
