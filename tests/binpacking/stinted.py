"""Random problems in which CPU and memory may run short on some nodes."""

from random import Random

import msgspec

from binpacking.problem import Problem, Shape


def stinted(chance: Random, problem: Problem) -> Problem:
    """CPU and memory that some shapes ask for, gangs hold and some nodes are known to have."""
    replace = msgspec.structs.replace
    return replace(
        problem,
        supplies=tuple(
            replace(
                one,
                cpu_milli=chance.choice([None, chance.randint(0, 4 * one.total)]),
                memory_mib=chance.choice([None, chance.randint(0, 4 * one.total)]),
            )
            for one in problem.supplies
        ),
        online=tuple(
            replace(
                one,
                shape=_asking(chance, one.shape) if one.shape.gpus else one.shape,
                members=tuple(
                    replace(member, shape=_asking(chance, member.shape)) for member in one.members
                ),
            )
            for one in problem.online
        ),
        batch=tuple(replace(one, shape=_asking(chance, one.shape)) for one in problem.batch),
        gangs=tuple(
            replace(one, cpu_milli=chance.randint(0, 8), memory_mib=chance.randint(0, 8))
            for one in problem.gangs
        ),
    )


def _asking(chance: Random, shape: Shape) -> Shape:
    per = chance.choice([0, 1, 2, 3])
    return msgspec.structs.replace(
        shape, cpu_milli=per * shape.gpus, memory_mib=chance.choice([0, 0, 2, 7])
    )
