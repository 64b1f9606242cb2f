"""An exhaustive search, to hold the ladder to.

It tries every set of stops and every seat, and values what it finds by the words of the second
checker, `naive`.
"""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import combinations, combinations_with_replacement, product

from binpacking.problem import Problem, Shape, Supply
from tests.binpacking.naive import (
    Request,
    Stand,
    apart_by,
    are_together,
    drawers_of,
    keeps_apart,
    members_of,
    models_of,
    put,
    size_of,
    waste_of,
    within,
)

Order = tuple[int, int, int, int, int]


def best(problem: Problem) -> Order:
    """The lexicographically best tiers over every set of stops and every seat.

    (unserved, loss, -batch value, apart, fragmentation).
    """
    found = [
        best_with(problem, frozenset(gang.key for gang in stops))
        for count in range(len(problem.gangs) + 1)
        for stops in combinations(problem.gangs, count)
    ]
    return min(one for one in found if one is not None)


def best_with(problem: Problem, killed: frozenset[str]) -> Order | None:
    """The same where exactly these gangs are stopped; None where limits forbid that."""
    if any(len(killed & set(limit.gangs)) > limit.most for limit in problem.stop_limits):
        return None
    freed: Counter[str] = Counter()
    drawers = drawers_of(problem)
    for gang in problem.gangs:
        for node, gpus in gang.parts if gang.key in killed else ():
            freed[node] += gpus
            put(drawers, node, gang, 1)
    room = (
        *(one.free + freed[one.node] for one in problem.supplies),
        *(drawers[one.node, what] for what in ("cpu", "memory") for one in problem.supplies),
    )
    loss = sum(gang.cost for gang in problem.gangs if gang.key in killed)
    unserved, value, apart, waste = _Search(problem).online(0, (), 0, room, ())
    return unserved, loss, value, apart, waste


class _Search:
    """Every seat of every request, one after another; what was seen is not searched again."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.nodes = problem.supplies
        self.pooled = {role.key for pool in problem.pools for role in pool.roles}
        self.online = cache(self._online)
        self.batch = cache(self._batch)

    def _batch(self, number: int, room: tuple[int, ...]) -> tuple[int, int]:
        """(-value, fragmentation) of the waiting jobs from this number on."""
        if number == len(self.problem.batch):
            return 0, waste_of(list(room[: len(self.nodes)]), self.problem)
        job = self.problem.batch[number]
        found = [self.batch(number + 1, room)]
        for after, _ in _ways(self.nodes, job, room):
            value, waste = self.batch(number + 1, after)
            found.append((value - job.value, waste))
        return min(found)

    def _online(
        self,
        number: int,
        mine: tuple[tuple[int, ...], ...],
        served: int,
        room: tuple[int, ...],
        stands: tuple[Stand, ...],
    ) -> tuple[int, int, int, int]:
        """(unserved, -value, apart, fragmentation) of the requests from this number on.

        `mine`: seats of replicas of the first of them, which serve so many milli-replicas; kept
        only where it asks for a spread.
        """
        if number == len(self.problem.online):
            value, waste = self.batch(0, room)
            unfit = 0 if are_together(self.problem, stands) else 10**12
            return unfit, value, apart_by(self.problem, stands), waste
        request = self.problem.online[number]
        missing = max(0, request.shortage_milli - served)
        gains = [milli for key, _, milli in stands if key == request.key]
        if gains and served - min(gains) >= request.shortage_milli:
            return 10**12, 0, 0, 0  # a replica more than is needed
        unserved, *rest = self.online(number + 1, (), 0, room, stands)
        value, apart, waste = rest
        found = [(unserved + missing * size_of(request), value, apart, waste)]
        if missing and len(mine) < request.limit:
            for after, seats in _ways(self.nodes, request, room):
                here = (*mine, seats if request.spread else ())
                if not keeps_apart(request, [[self.nodes[n] for n in some] for some in here]):
                    continue
                gain = min(request.capacity_milli[self.nodes[n].gpu_model] for n in seats)
                stood = stands
                if request.key in self.pooled:
                    stood = tuple(sorted((*stands, (request.key, self.nodes[seats[0]].leaf, gain))))
                here = tuple(sorted(here))
                found.append(self.online(number, here, served + gain, after, stood))
        return min(found)


def _ways(
    nodes: tuple[Supply, ...], request: Request, room: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Every way to seat the pieces, as what is left and the seats; order is no matter."""
    models = models_of(request)
    pods = [member.shape for member in members_of(request) for _ in range(member.count)]
    seen = set()
    for choice in product(*(_pods(nodes, shape, models) for shape in pods)):
        left = list(room)
        for shape, seats in zip(pods, choice, strict=True):
            for seat in seats:
                left[seat] -= shape.gpus
                left[len(nodes) + seat] -= shape.cpu_milli
                left[2 * len(nodes) + seat] -= shape.memory_mib
        every = tuple(seat for seats in choice for seat in seats)
        leaves = [nodes[seat].leaf for seat in every]
        what = (tuple(left), frozenset(leaves), nodes[every[0]].leaf)
        if min(left) >= 0 and what not in seen and within(request, leaves):
            seen.add(what)
            yield tuple(left), every


def _pods(
    nodes: tuple[Supply, ...], shape: Shape, models: tuple[str, ...]
) -> list[tuple[int, ...]]:
    """Every set of seats under one leaf for the pieces of one pod."""
    allowed = [n for n, one in enumerate(nodes) if not models or one.gpu_model in models]
    return [
        seats
        for seats in combinations_with_replacement(allowed, shape.pieces)
        if len({nodes[seat].leaf for seat in seats}) == 1
    ]
