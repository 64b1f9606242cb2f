"""Small worlds in which pods share cards, and an exhaustive search over every card of them.

Like `naive`, it thinks in single seats and uses nothing but the words of `binpacking.problem`.
"""

from collections.abc import Iterator
from functools import cache
from itertools import combinations
from random import Random
from typing import NamedTuple

import msgspec

from binpacking.problem import (
    BatchRequest,
    Gang,
    OnlineRequest,
    Packing,
    Placed,
    Problem,
    Shape,
    StopLimit,
    Supply,
)
from binpacking.shares import Held, Share
from tests.binpacking.problems import batch, online
from tests.binpacking.problems import gang as whole_gang

MEMORY = 16
"""MiB of every card."""

Order = tuple[int, int, int, int]
"""(unserved, loss, -batch value, fragmentation)."""


def sharing_problem(chance: Random, *, stinted: bool = False) -> Problem:
    """Cards that are shared, by gangs that may be stopped and by others, and requests for shares
    and for whole GPUs; `stinted`: CPU and memory of the hosts may run short.
    """
    known, most = chance.random() < 0.5, 2 if stinted else 0
    supplies: list[Supply] = []
    gangs: list[Gang] = []
    for number in range(chance.randint(1, 3)):
        node, cards = f"n{number}", list[Share]()
        for card in range(chance.choice([0, 1, 1, 2])):
            left, held = _card(chance)
            cards.append(left)
            for share in held:
                _join(chance, gangs, Held(node, card, share))
        if chance.random() < 0.4:
            gangs.append(
                whole_gang(f"w{number}", chance.randint(1, 30), (node, chance.choice([1, 2])))
            )
        supplies.append(
            Supply(
                node,
                "h100",
                ("core", f"l{number % 2}", "h100"),
                chance.choice([0, 0, 1, 2]),
                8,
                chance.randint(0, 5) if stinted else None,
                chance.choice([None, chance.randint(0, 5)]) if stinted else None,
                tuple(cards),
                MEMORY if known else None,
            )
        )
    replace = msgspec.structs.replace
    return Problem(
        supplies=tuple(supplies),
        online=tuple(
            replace(
                online(f"o{number}", 1, chance.randint(1, 3000), limit=chance.randint(1, 3)),
                shape=_shape(chance, most),
            )
            for number in range(chance.randint(1, 2))
        ),
        batch=tuple(
            replace(batch(f"b{number}", 1, chance.randint(1, 9)), shape=_shape(chance, most))
            for number in range(chance.randint(0, 2))
        ),
        gangs=tuple(
            replace(one, cpu_milli=chance.randint(0, most), memory_mib=chance.randint(0, most))
            for one in gangs
        ),
        stop_limits=(StopLimit("all", tuple(one.key for one in gangs), chance.randint(0, 3)),)
        if chance.random() < 0.3
        else (),
        card_mix=chance.choice([(), ((500, 10),), ((300, 20), (500, 5))]),
    )


def _card(chance: Random) -> tuple[Share, list[Share]]:
    """What is left of a card, and what gangs hold of it; others may hold the rest."""
    milli, memory, held = 1000, MEMORY, list[Share]()
    for _ in range(chance.choice([1, 1, 2, 2])):
        share = Share(chance.choice([200, 300, 500]), chance.choice([2, 4]))
        milli, memory = milli - share.milli, memory - share.memory_mib
        held.append(share)
    if chance.random() < 0.3:
        held.pop()
    return Share(milli, memory), held


def _join(chance: Random, gangs: list[Gang], held: Held) -> None:
    """Another gang, or one that holds shares already."""
    sharing = [n for n, one in enumerate(gangs) if one.shares]
    if sharing and chance.random() < 0.3:
        number = chance.choice(sharing)
        mine = (*gangs[number].shares, held)
        gangs[number] = msgspec.structs.replace(gangs[number], shares=mine)
        return
    cost = chance.randint(1, 30)
    gangs.append(Gang(key=f"s{len(gangs)}", parts=(), cost=cost, shares=(held,)))


def _shape(chance: Random, most: int) -> Shape:
    """One or two pieces, of a share or of whole GPUs; with at most so much CPU and memory each."""
    beside = (chance.randint(0, most), chance.randint(0, most))
    pieces = chance.choice([1, 1, 2])
    if chance.random() < 0.3:
        return Shape(pieces, chance.choice([1, 1, 2, 3]), *beside)
    share = Share(chance.choice([200, 300, 500, 600]), chance.choice([0, 3, 9]))
    return Shape(pieces, 0, *beside, share=share)


class Room(NamedTuple):
    """What is free on a node."""

    free: int
    cards: tuple[tuple[int, int], ...]
    """(milli, MiB) left of each shared card, in rising order."""
    whole: tuple[int, int]
    cpu: int
    memory: int


def rooms(problem: Problem, killed: frozenset[str]) -> tuple[Room, ...]:
    """The nodes once these gangs are stopped."""
    found = []
    for one in problem.supplies:
        free, known = one.free, one.card_memory_mib is not None
        cards = [[milli, mib if known else 10**9] for milli, mib in one.cards]
        cpu = 10**9 if one.cpu_milli is None else one.cpu_milli
        memory = 10**9 if one.memory_mib is None else one.memory_mib
        for gang in (gang for gang in problem.gangs if gang.key in killed):
            for gpus in (gpus for node, gpus in gang.parts if node == one.node):
                free, cpu, memory = free + gpus, cpu + gang.cpu_milli, memory + gang.memory_mib
            for _, card, share in (held for held in gang.shares if held.node == one.node):
                cards[card][0] += share.milli
                cards[card][1] += share.memory_mib if known else 0
                cpu, memory = cpu + gang.cpu_milli, memory + gang.memory_mib
        free += sum(milli == 1000 for milli, _ in cards)
        left = tuple(sorted((milli, mib) for milli, mib in cards if milli < 1000))
        whole = (1000, 10**9 if one.card_memory_mib is None else one.card_memory_mib)
        found.append(Room(free, left, whole, cpu, memory))
    return tuple(found)


def best(problem: Problem) -> Order:
    """The lexicographically best tiers over every set of stops, seat and card."""
    every = (
        best_with(problem, frozenset(gang.key for gang in stops))
        for count in range(len(problem.gangs) + 1)
        for stops in combinations(problem.gangs, count)
    )
    return min(one for one in every if one is not None)


def best_with(problem: Problem, killed: frozenset[str]) -> Order | None:
    """The same where exactly these gangs are stopped; None where limits forbid that."""
    if any(len(killed & set(limit.gangs)) > limit.most for limit in problem.stop_limits):
        return None
    loss = sum(gang.cost for gang in problem.gangs if gang.key in killed)
    unserved, value, waste = _Search(problem).online(0, 0, 0, rooms(problem, killed))
    return unserved, loss, value, waste


class _Search:
    """Every seat of every request, one after another; what was seen is not searched again."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.online = cache(self._online)
        self.batch = cache(self._batch)

    def _online(
        self, number: int, count: int, served: int, nodes: tuple[Room, ...]
    ) -> tuple[int, int, int]:
        if number == len(self.problem.online):
            return (0, *self.batch(0, nodes))
        request = self.problem.online[number]
        missing = max(0, request.shortage_milli - served)
        size = request.shape.pieces * (1000 * request.shape.gpus + request.shape.share.milli)
        unserved, value, waste = self.online(number + 1, 0, 0, nodes)
        found = [(unserved - (-missing * size // 1000), value, waste)]
        if missing and count < request.limit:
            for after, leaf in self._seats(request, nodes):
                gain = request.capacity_milli[self.problem.supplies[leaf].gpu_model]
                found.append(self.online(number, count + 1, served + gain, after))
        return min(found)

    def _batch(self, number: int, nodes: tuple[Room, ...]) -> tuple[int, int]:
        if number == len(self.problem.batch):
            return 0, waste(self.problem, nodes)
        job = self.problem.batch[number]
        found = [self.batch(number + 1, nodes)]
        for after, _ in self._seats(job, nodes):
            value, lost = self.batch(number + 1, after)
            found.append((value - job.value, lost))
        return min(found)

    def _seats(
        self, request: OnlineRequest | BatchRequest, nodes: tuple[Room, ...]
    ) -> set[tuple[tuple[Room, ...], int]]:
        """(nodes after, a node of the seat) for every way to seat all pieces under one leaf."""
        supplies = self.problem.supplies
        if isinstance(request, OnlineRequest):
            models = tuple(request.capacity_milli)
        else:
            models = request.gpu_models or tuple(one.gpu_model for one in supplies)
        found = set()
        for leaf in {one.leaf for one in supplies if one.gpu_model in models}:
            here = [n for n, one in enumerate(supplies) if one.leaf == leaf]
            states = {nodes}
            for _ in range(request.shape.pieces):
                states = {
                    (*state[:n], after, *state[n + 1 :])
                    for state in states
                    for n in here
                    for after in _piece(state[n], request.shape)
                }
            found |= {(state, here[0]) for state in states}
        return found


def _piece(room: Room, shape: Shape) -> Iterator[Room]:
    """The node after one piece, on each card that it could be on."""
    if room.cpu < shape.cpu_milli or room.memory < shape.memory_mib:
        return
    room = room._replace(cpu=room.cpu - shape.cpu_milli, memory=room.memory - shape.memory_mib)
    if not shape.share.milli:
        if room.free >= shape.gpus:
            yield room._replace(free=room.free - shape.gpus)
        return
    milli, mib = shape.share
    choices = [(room, card) for card in set(room.cards)]
    if room.free:
        opened = tuple(sorted((*room.cards, room.whole)))
        choices.append((room._replace(free=room.free - 1, cards=opened), room.whole))
    for before, card in choices:
        if card[0] >= milli and card[1] >= mib:
            cards = list(before.cards)
            cards.remove(card)
            cards.append((card[0] - milli, card[1] - mib))
            yield before._replace(cards=tuple(sorted(cards)))


def waste(problem: Problem, nodes: tuple[Room, ...]) -> int:
    """Milli-GPU that the shapes to come could not use, each shape alone."""
    total = sum(weight for _, weight in (*problem.mix, *problem.card_mix))
    lost = 0
    for room in nodes:
        idle = 1000 * room.free + sum(milli for milli, _ in room.cards)
        for size, weight in problem.mix:
            lost += weight * (idle - 1000 * (room.free // size) * size)
        for size, weight in problem.card_mix:
            each = [*(milli for milli, _ in room.cards), *[1000] * room.free]
            lost += weight * (idle - sum(milli // size * size for milli in each))
    return lost // total


def accepts(problem: Problem, packing: Packing) -> bool:
    """Whether a clerk with a list of every card finds no card, node or host overdrawn."""
    after = rooms(problem, frozenset(packing.killed))
    return all(
        _stands(problem, packing, supply, room)
        for supply, room in zip(problem.supplies, after, strict=True)
    )


def _stands(problem: Problem, packing: Packing, supply: Supply, room: Room) -> bool:
    """The pieces on one node: `room.free` counts cards that all have left."""
    cards = [[milli, mib] for milli, mib in supply.cards]
    for one in problem.gangs:
        for at, card, share in one.shares if one.key in packing.killed else ():
            if at == supply.node:
                cards[card] = [cards[card][0] + share.milli, cards[card][1] + share.memory_mib]
    opened: dict[int, list[int]] = {}
    free, cpu, memory = room.free, room.cpu, room.memory
    shared = set[int]()
    for placed, shape in _pieces(problem, packing):
        numbers = placed.cards or (-1,) * len(placed.parts)
        for (at, gpus), card in zip(placed.parts, numbers, strict=True):
            if at != supply.node:
                continue
            cpu, memory, free = cpu - shape.cpu_milli, memory - shape.memory_mib, free - gpus
            if (card >= 0) != (shape.share.milli > 0) or gpus != shape.gpus:
                return False
            if card >= 0:
                whole = [1000, supply.card_memory_mib or 0]
                taken = cards[card] if card < len(cards) else opened.setdefault(card, whole)
                shared |= {card} if card < len(cards) and taken[0] == 1000 else set()
                taken[0] -= shape.share.milli
                taken[1] -= shape.share.memory_mib
    free -= len(opened) + len(shared)
    left = [*cards, *opened.values()]
    known = supply.card_memory_mib is not None
    short = any(milli < 0 or (known and mib < 0) for milli, mib in left)
    return not short and min(free, cpu, memory) >= 0


def _pieces(problem: Problem, packing: Packing) -> Iterator[tuple[Placed, Shape]]:
    online = {one.key: one.shape for one in problem.online}
    batch = {one.key: one.shape for one in problem.batch}
    yield from ((one, online[one.key]) for one in packing.online)
    yield from ((one, batch[one.key]) for one in packing.batch)
