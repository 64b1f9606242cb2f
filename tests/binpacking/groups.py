"""Random problems in which some requests are fixed groups of several roles."""

from random import Random

import msgspec

from binpacking.problem import Member, OnlineRequest, Problem, Shape


def grouped(chance: Random, problem: Problem, sizes: tuple[int, ...]) -> Problem:
    """The problem with two leaves to a spine pod, and about half of its requests as groups."""
    return msgspec.structs.replace(
        problem,
        supplies=tuple(
            msgspec.structs.replace(one, leaf=_path(one.leaf)) for one in problem.supplies
        ),
        online=tuple(
            _group(chance, one, sizes) if chance.random() < 0.5 else one for one in problem.online
        ),
    )


def _path(leaf: tuple[str, ...]) -> tuple[str, ...]:
    core, switch, model = leaf
    return core, f"s{int(switch[1:]) // 2}", switch, model


def _group(chance: Random, request: OnlineRequest, sizes: tuple[int, ...]) -> OnlineRequest:
    members = tuple(
        Member(
            role, chance.choice([1, 1, 2]), Shape(chance.choice([1, 1, 2]), chance.choice(sizes))
        )
        for role in ("prefill", "decode")[: chance.randint(1, 2)]
    )
    return msgspec.structs.replace(
        request,
        shape=Shape(0, 0),
        members=members,
        reach=chance.choice(["leaf", "spine"]),
        limit=min(request.limit, 2),
    )
