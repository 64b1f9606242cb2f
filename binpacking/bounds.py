"""Cheap bounds that no packing can beat, to know when the heuristic's answer needs no proof.

Unserved: a request can be served at most `limit` times its best model's capacity, and not at all
where no single replica fits even if every gang is stopped. Loss: at least 0. Batch value, when
no gang is stopped: requests that fit alone, taken by value per GPU into the free GPUs that the
online replicas must leave (a fractional knapsack over the whole cluster).
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.layout import Layout
from binpacking.problem import OnlineRequest, Piece, Problem, Shape
from binpacking.rooms import times
from binpacking.shares import NO_SHARE, Share


class Room(NamedTuple):
    """What is free on a node."""

    piece: Piece
    cards: tuple[Share, ...]
    """What is left of cards that pods share."""


def least_unserved(problem: Problem, layout: Layout) -> int:
    """Milli-GPUs of online shortage that stay unserved in every packing."""
    cleared = _cleared(layout)
    total = 0
    for index, request in enumerate(problem.online):
        best = _best_capacity(request, layout, cleared)
        most = _most_replicas(index, request, layout)
        missing = max(0, request.shortage_milli - most * best)
        total += -(-missing * request.size_milli // WHOLE_GPU_MILLI)
    return total


def most_batch_value(problem: Problem, layout: Layout) -> int:
    """No packing without kills that serves the online requests as well exceeds this value."""
    rooms = _rooms(layout)
    free = sum(_milli(room) for room in rooms) - sum(
        _least_milli(index, request, layout, rooms) for index, request in enumerate(problem.online)
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
        (Fraction(request.value, request.shape.size_milli), request.shape.size_milli)
        for request in problem.batch
        if fits[request.shape, request.gpu_models]
    ]
    value = Fraction(0)
    for density, size in sorted(startable, reverse=True):
        used = min(size, max(0, free))
        value += density * used
        free -= used
    return int(value)


def _milli(room: Room) -> int:
    """Milli-GPU free on a node."""
    return room.piece.gpus * WHOLE_GPU_MILLI + sum(card.milli for card in room.cards)


def _least_milli(index: int, request: OnlineRequest, layout: Layout, rooms: Sequence[Room]) -> int:
    """Milli-GPU that serving the request as well as it can be served takes at least."""
    best = _best_capacity(request, layout, rooms)
    if not best:
        return 0
    most = _most_replicas(index, request, layout)
    return min(most, -(-max(0, request.shortage_milli) // best)) * request.size_milli


def _most_replicas(index: int, request: OnlineRequest, layout: Layout) -> int:
    """That its limit and its failure domains allow."""
    if index in layout.fences:
        return min(request.limit, sum(layout.fences[index].room))
    if request.key in layout.tickets:
        return min(request.limit, sum(layout.tickets[request.key]) // request.shape.pieces)
    return request.limit


def _best_capacity(request: OnlineRequest, layout: Layout, rooms: Sequence[Room]) -> int:
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


def _could_stand(layout: Layout, rooms: Sequence[Room], leaf: int, request: OnlineRequest) -> bool:
    """False when no replica has a pod in the leaf; a spread one may have only one there."""
    fits = (_fits_alone(layout, rooms, leaf, member.shape) for member in request.pods)
    return any(fits) if request.reach == "spine" else all(fits)


def _fits_alone(layout: Layout, rooms: Sequence[Room], leaf: int, shape: Shape) -> bool:
    piece, found = shape.piece, 0
    for node in layout.leaves[leaf]:
        room, cards = rooms[node]
        found += times(piece, room, cards, layout.decks[node].whole)
    return found >= shape.pieces


def _rooms(layout: Layout) -> list[Room]:
    """What is free by node."""
    pairs = zip(layout.free, layout.beside, layout.decks, strict=True)
    return [Room(Piece(gpus, *beside), deck.cards) for gpus, beside, deck in pairs]


def _cleared(layout: Layout) -> list[Room]:
    """The same with all gangs stopped."""
    rooms = _rooms(layout)
    for parts, freed in zip(layout.parts, layout.freed, strict=True):
        for node, held in parts:
            gpus, cpu, memory = rooms[node].piece.amounts
            cores, ram = freed.get(node, (0, 0))
            rooms[node] = Room(Piece(gpus + held, cpu + cores, memory + ram), rooms[node].cards)
    for shares in layout.held:
        for node, card, share in shares:
            piece, cards = rooms[node]
            room = cards[card].plus(share)
            if room.milli == WHOLE_GPU_MILLI:
                piece, room = piece._replace(gpus=piece.gpus + 1), NO_SHARE
            rooms[node] = Room(piece, (*cards[:card], room, *cards[card + 1 :]))
    return rooms
