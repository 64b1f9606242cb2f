"""Cheap bounds that no packing can beat, to know when the heuristic's answer needs no proof.

Unserved: a request can be served at most `limit` times its best model's capacity, and not at all
where no single replica fits even if every gang is stopped. Loss: at least 0. Batch value, when
no gang is stopped: requests that fit alone, taken by value per GPU into the free GPUs that the
online replicas must leave (a fractional knapsack over the whole cluster).
"""

from collections.abc import Sequence
from fractions import Fraction

from binpacking.layout import Layout
from binpacking.problem import OnlineRequest, Piece, Problem, Shape, Tiers
from binpacking.rooms import times


def settled(problem: Problem, layout: Layout, tiers: Tiers) -> bool:
    """True when tiers 1 and 2 cannot be improved, whatever a solver does."""
    return tiers.loss == 0 and tiers.unserved_milli_gpus == least_unserved(problem, layout)


def least_unserved(problem: Problem, layout: Layout) -> int:
    """Milli-GPUs of online shortage that stay unserved in every packing."""
    cleared = _cleared(layout)
    total = 0
    for index, request in enumerate(problem.online):
        best = _best_capacity(request, layout, cleared)
        most = _most_replicas(index, request, layout)
        total += max(0, request.shortage_milli - most * best) * request.size
    return total


def most_batch_value(problem: Problem, layout: Layout) -> int:
    """No packing without kills that serves the online requests as well exceeds this value."""
    rooms = _rooms(layout)
    free = sum(layout.free) - sum(
        _least_gpus(index, request, layout, rooms) for index, request in enumerate(problem.online)
    )
    fits: dict[tuple[Shape, tuple[str, ...]], bool] = {}
    for request in problem.batch:
        kind = (request.shape, request.gpu_models)
        if kind not in fits:
            fits[kind] = any(
                _fits_alone(layout, rooms, leaf, request.shape)
                for leaf in layout.allowed(request.gpu_models)
            )
    startable = [
        (Fraction(request.value, request.shape.size), request.shape.size)
        for request in problem.batch
        if fits[request.shape, request.gpu_models]
    ]
    value = Fraction(0)
    for density, size in sorted(startable, reverse=True):
        used = min(size, max(0, free))
        value += density * used
        free -= used
    return int(value)


def _least_gpus(index: int, request: OnlineRequest, layout: Layout, rooms: Sequence[Piece]) -> int:
    """GPUs that serving the request as well as it can be served takes at least."""
    best = _best_capacity(request, layout, rooms)
    if not best:
        return 0
    most = _most_replicas(index, request, layout)
    return min(most, -(-max(0, request.shortage_milli) // best)) * request.size


def _most_replicas(index: int, request: OnlineRequest, layout: Layout) -> int:
    """That its limit and its failure domains allow."""
    if index in layout.fences:
        return min(request.limit, sum(layout.fences[index].room))
    if request.key in layout.tickets:
        return min(request.limit, sum(layout.tickets[request.key]) // request.shape.pieces)
    return request.limit


def _best_capacity(request: OnlineRequest, layout: Layout, rooms: Sequence[Piece]) -> int:
    """Milli-replicas of one replica on the best model that has a leaf for it; 0: none has."""
    return max(
        (
            capacity
            for model, capacity in request.capacity_milli.items()
            if any(
                _could_stand(layout, rooms, leaf, request)
                for leaf in layout.leaves_of.get(model, ())
            )
        ),
        default=0,
    )


def _could_stand(layout: Layout, rooms: Sequence[Piece], leaf: int, request: OnlineRequest) -> bool:
    """False when no replica has a pod in the leaf; a spread one may have only one there."""
    fits = (_fits_alone(layout, rooms, leaf, member.shape) for member in request.pods)
    return any(fits) if request.reach == "spine" else all(fits)


def _fits_alone(layout: Layout, rooms: Sequence[Piece], leaf: int, shape: Shape) -> bool:
    piece = shape.piece
    return sum(times(piece, rooms[node]) for node in layout.leaves[leaf]) >= shape.pieces


def _rooms(layout: Layout) -> list[Piece]:
    """What is free by node."""
    return [Piece(gpus, *beside) for gpus, beside in zip(layout.free, layout.beside, strict=True)]


def _cleared(layout: Layout) -> list[Piece]:
    """The same with all gangs stopped."""
    rooms = _rooms(layout)
    for parts, freed in zip(layout.parts, layout.freed, strict=True):
        for node, held in parts:
            gpus, cpu, memory = rooms[node].amounts
            cores, ram = freed.get(node, (0, 0))
            rooms[node] = Piece(gpus + held, cpu + cores, memory + ram)
    return rooms
