"""Small packing problems: builders for tables, a generator for properties."""

from random import Random

from hypothesis import strategies as st

from binpacking.problem import (
    BatchRequest,
    Effort,
    Gang,
    OnlineRequest,
    Problem,
    Shape,
    StopLimit,
    Supply,
)

QUICK = Effort(name="quick", program=False)
AT_ONCE = Effort(name="quick", program=True)
FULL = Effort(name="full", program=True)

chances = st.integers(0, 2**32).map(Random)
"""Seeded generators: hypothesis' own draw mostly trivial problems at this depth."""


def supply(node: str, free: int, *, leaf: str = "l1", model: str = "h100") -> Supply:
    return Supply(node, model, ("core", leaf, model), free, 8)


def online(
    key: str,
    gpus: int,
    shortage: int,
    *,
    pieces: int = 1,
    models: dict[str, int] | None = None,
    limit: int = 99,
) -> OnlineRequest:
    return OnlineRequest(
        key=key,
        shape=Shape(pieces, gpus),
        capacity_milli=models or {"h100": 1000},
        shortage_milli=shortage,
        limit=limit,
    )


def batch(
    key: str, gpus: int, value: int, *, pieces: int = 1, models: tuple[str, ...] = ()
) -> BatchRequest:
    return BatchRequest(key=key, shape=Shape(pieces, gpus), gpu_models=models, value=value)


def gang(key: str, cost: int, *parts: tuple[str, int]) -> Gang:
    return Gang(key=key, parts=parts, cost=cost)


def random_problem(
    chance: Random,
    *,
    sizes: tuple[int, ...] = (1, 2, 4, 8),
    leaves: int = 3,
    nodes: int = 3,
    gangs: int = 8,
    requests: int = 3,
    jobs: int = 6,
) -> Problem:
    """At most so many of each; node sizes from 1 to 16 GPUs, gangs inside one leaf."""
    names: list[list[str]] = []
    free: dict[str, int] = {}
    models: list[str] = []
    for leaf in range(chance.randint(1, leaves)):
        names.append([f"n{leaf}{node}" for node in range(chance.randint(1, nodes))])
        models.append(chance.choice(["h100", "l20"]))
        for name in names[-1]:
            free[name] = chance.choice([1, 2, 4, 8, 8, 16])
    total = dict(free)
    running = []
    for number in range(chance.randint(0, gangs)):
        leaf = chance.randrange(len(names))
        chosen = sorted(chance.sample(names[leaf], chance.randint(1, min(2, len(names[leaf])))))
        parts = [(name, chance.choice(sizes)) for name in chosen]
        if all(free[name] >= gpus for name, gpus in parts):
            for name, gpus in parts:
                free[name] -= gpus
            running.append(gang(f"g{number}", chance.randint(1, 30), *parts))
    keys = tuple(one.key for one in running)
    return Problem(
        supplies=tuple(
            Supply(name, models[leaf], ("core", f"l{leaf}", models[leaf]), free[name], total[name])
            for leaf, group in enumerate(names)
            for name in group
        ),
        online=tuple(
            online(
                f"o{number}",
                chance.choice(sizes),
                chance.randint(0, 3500),
                pieces=chance.choice([1, 1, 2]),
                models=chance.choice([{"h100": 1000}, {"h100": 1000, "l20": 400}, {"l20": 700}]),
                limit=chance.randint(0, 4),
            )
            for number in range(chance.randint(0, requests))
        ),
        batch=tuple(
            batch(
                f"b{number}",
                chance.choice(sizes),
                chance.randint(0, 9) * 10,
                pieces=chance.choice([1, 1, 2]),
                models=chance.choice([(), ("h100",)]),
            )
            for number in range(chance.randint(0, jobs))
        ),
        gangs=tuple(running),
        stop_limits=(StopLimit("all", keys, chance.randint(0, 4)),)
        if chance.random() < 0.5
        else (),
    )
