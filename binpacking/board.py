"""What is free on each node while a packing is built: plain lists that can be changed and undone.

The only mutable value of this package; it never leaves a rung. Both rungs seat pieces through
`best_fit`, so "fewest free GPUs, then name" is decided in one place.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from binpacking.layout import Layout
from binpacking.problem import Piece, Problem
from binpacking.shares import NO_SHARE, Deck, Share

_MOST_GANGS_PER_NODE = 16
"""As many as a node has GPUs; with more stops than these left, a limit binds no single node."""


_NOTHING = (0, 0)

_NO_WAY = 1 << 20
"""Whole cards for shares that no card of the node has room for."""


class KillOption(NamedTuple):
    """The cheap way found to make room for one piece on one node."""

    cost: int
    free_after: int
    node: int
    gangs: tuple[int, ...]


def more_cards(before: Deck, after: Deck) -> int:
    """How many more whole cards the second takes of its node; more than any has: no way."""
    taken = after.taken
    return _NO_WAY if taken is None else taken - (before.taken or 0)


_Tickets = tuple[str, int]
"""(request, tickets given back to its pods on the node)."""

_NO_TICKETS = ("", 0)


class Board:
    """The state of all nodes, with a log for undoing."""

    __slots__ = (
        "_costs",
        "_former",
        "_log",
        "_options",
        "_stops_left",
        "alive",
        "cpu",
        "decks",
        "free",
        "layout",
        "leaf_free",
        "memory",
        "roused",
        "tickets",
    )

    def __init__(self, layout: Layout, problem: Problem) -> None:
        self.layout = layout
        self.free = list(layout.free)
        self.cpu = [cpu for cpu, _ in layout.beside]
        self.memory = [memory for _, memory in layout.beside]
        self.leaf_free = [sum(layout.free[node] for node in nodes) for nodes in layout.leaves]
        self.alive = [True] * len(problem.gangs)
        self.roused = [0] * len(layout.free)
        """Bits of the GPUs by node that units have taken which the heuristic wakes."""
        self.tickets = {key: list(left) for key, left in layout.tickets.items()}
        """By request whose pods keep apart on nodes: how many more each node may take."""
        self._costs = [gang.cost for gang in problem.gangs]
        self._stops_left = [limit.most for limit in problem.stop_limits]
        self._log: list[tuple[int, int, int, int, _Tickets]] = []
        self.decks = list(layout.decks)
        self._former: list[Deck] = []
        """Decks before their changes, oldest first."""
        self._options: dict[Piece, list[KillOption | bool | None]] = {}

    def mark(self) -> int:
        """A point to return to with `undo`."""
        return len(self._log)

    def undo(self, mark: int) -> None:
        """Take back every change since `mark`."""
        while len(self._log) > mark:
            index, gpus, cpu, memory, (keeps, given) = self._log.pop()
            if index >= 2 * len(self.free):
                self.decks[index - 2 * len(self.free)] = self._former.pop()
            elif index >= len(self.free):
                self.roused[index - len(self.free)] ^= gpus
            elif index < 0:
                self._set_alive(~index, alive=not self.alive[~index])
            else:
                self._change(index, -gpus, -cpu, -memory)
                if keeps:
                    self.tickets[keeps][index] -= given

    def take(
        self,
        node: int,
        gpus: int,
        cpu: int = 0,
        memory: int = 0,
        keeps: str = "",
        share: Share = NO_SHARE,
    ) -> None:
        """Seat a piece."""
        if share != NO_SHARE:
            gpus = self._deal(node, self.decks[node].with_share(share))
        self._free(node, (-gpus, -cpu, -memory), (keeps, -1))

    def lift(
        self,
        node: int,
        gpus: int,
        cpu: int = 0,
        memory: int = 0,
        keeps: str = "",
        share: Share = NO_SHARE,
    ) -> None:
        """Take a piece off again."""
        if share != NO_SHARE:
            gpus = -self._deal(node, self.decks[node].without_share(share))
        self._free(node, (gpus, cpu, memory), (keeps, 1))

    def _free(self, node: int, amounts: tuple[int, int, int], tickets: _Tickets) -> None:
        """Free so much on the node, less where negative, and write it down."""
        self._change(node, *amounts)
        self._log.append((node, *amounts, tickets))
        keeps, given = tickets
        if keeps:
            self.tickets[keeps][node] += given

    def _deal(self, node: int, deck: Deck) -> int:
        """Change what is on the node's cards; return how many more whole ones that takes."""
        self._former.append(self.decks[node])
        self._log.append((2 * len(self.free) + node, 0, 0, 0, _NO_TICKETS))
        more = more_cards(self.decks[node], deck)
        self.decks[node] = deck
        return more

    def stop(self, gang: int) -> None:
        """Stop a gang: what it holds comes free on all its nodes."""
        self._set_alive(gang, alive=False)
        self._log.append((~gang, 0, 0, 0, _NO_TICKETS))
        for node, gpus, cpu, memory in self._held(gang):
            self.lift(node, gpus, cpu, memory)
        for node, card, share in self.layout.held[gang]:
            deck = self.decks[node]
            more = self._deal(node, deck.changed(card, deck.cards[card].plus(share)))
            self.take(node, more)

    def rouse(self, node: int, devices: int) -> None:
        """Let a unit have these GPUs to itself; `take` counts them."""
        self.roused[node] |= devices
        self._log.append((len(self.free) + node, devices, 0, 0, _NO_TICKETS))

    def revive(self, gang: int) -> None:
        """Let a stopped gang run on; nodes may go below zero, the caller looks."""
        self._set_alive(gang, alive=True)
        self._log.append((~gang, 0, 0, 0, _NO_TICKETS))
        for node, gpus, cpu, memory in self._held(gang):
            self.take(node, gpus, cpu, memory)
        for node, card, share in self.layout.held[gang]:
            deck = self.decks[node]
            more = self._deal(node, deck.changed(card, deck.cards[card].less(share)))
            self.take(node, more)

    def holds(
        self,
        node: int,
        gpus: int,
        cpu: int = 0,
        memory: int = 0,
        keeps: str = "",
        share: Share = NO_SHARE,
    ) -> bool:
        """Whether the node has room for so much."""
        if share != NO_SHARE:
            gpus = more_cards(self.decks[node], self.decks[node].with_share(share))
        enough = self.free[node] >= gpus and self.cpu[node] >= cpu and self.memory[node] >= memory
        return enough and self.admits(node, keeps)

    def admits(self, node: int, keeps: str) -> bool:
        """Whether the node may take one more of those pods that keep apart."""
        return not keeps or self.tickets[keeps][node] > 0

    def stopped(self) -> list[int]:
        """Numbers of the gangs that are stopped."""
        return [gang for gang, alive in enumerate(self.alive) if not alive]

    def cost_of(self, gangs: Sequence[int]) -> int | None:
        """The cost of stopping these running gangs; None where a limit forbids it."""
        counts = Counter(limit for gang in gangs for limit in self.layout.limits_of[gang])
        if any(count > self._stops_left[limit] for limit, count in counts.items()):
            return None
        return sum(self._costs[gang] for gang in gangs)

    def room(self, node: int, gangs: Sequence[int]) -> Piece:
        """What is free on the node once these gangs are stopped."""
        gpus, cpu, memory = self.free[node], self.cpu[node], self.memory[node]
        for gang, held in self.layout.gangs_on[node]:
            if gang in gangs:
                cores, ram = self.layout.freed[gang].get(node, _NOTHING)
                gpus, cpu, memory = gpus + held, cpu + cores, memory + ram
        return Piece(gpus, cpu, memory)

    def _held(self, gang: int) -> list[tuple[int, int, int, int]]:
        """(node, GPUs, milli-CPU, MiB) of the gang."""
        freed = self.layout.freed[gang]
        return [
            (node, gpus, *(freed[node] if freed else _NOTHING))
            for node, gpus in self.layout.parts[gang]
        ]

    def best_fit(self, leaf: int, piece: Piece) -> int:
        """The node of the leaf with the fewest free GPUs that suffice, then by name; -1: none."""
        gpus, cpu, memory, keeps, share = piece
        if share != NO_SHARE:
            return self._best_card(leaf, piece)
        if self.leaf_free[leaf] < gpus:
            return -1
        free, best, fewest = self.free, -1, 1 << 30
        tickets = self.tickets.get(keeps) if keeps else None
        for node in self.layout.leaves[leaf]:
            if (
                gpus <= free[node] < fewest
                and self.cpu[node] >= cpu
                and self.memory[node] >= memory
                and (tickets is None or tickets[node] > 0)
            ):
                best, fewest = node, free[node]
                if fewest == gpus:
                    break
        return best

    def _best_card(self, leaf: int, piece: Piece) -> int:
        """The node that opens the fewest cards, then with the fewest free GPUs, then by name."""
        found = []
        for node in self.layout.leaves[leaf]:
            if self.holds(node, *piece):
                more = more_cards(self.decks[node], self.decks[node].with_share(piece.share))
                found.append((more, self.free[node], node))
        return min(found)[2] if found else -1

    def cheapest_kill(self, leaf: int, piece: Piece) -> KillOption | None:
        """The least (cost, free GPUs after, name) over the leaf's nodes; None: no way."""
        options = self._options.setdefault(piece, [False] * len(self.free))
        best: KillOption | None = None
        for node in self.layout.leaves[leaf]:
            option = options[node]
            if option is False:
                option = options[node] = self._kill_option(node, piece)
            if isinstance(option, KillOption) and (best is None or option < best):
                best = option
        return best

    def _change(self, node: int, gpus: int, cpu: int, memory: int) -> None:
        self.free[node] += gpus
        if cpu or memory:
            self.cpu[node] += cpu
            self.memory[node] += memory
        self.leaf_free[self.layout.leaf_of[node]] += gpus
        for options in self._options.values():
            options[node] = False

    def _set_alive(self, gang: int, *, alive: bool) -> None:
        self.alive[gang] = alive
        for limit in self.layout.limits_of[gang]:
            self._stops_left[limit] += 1 if alive else -1
            if self._stops_left[limit] <= _MOST_GANGS_PER_NODE:
                self._options.clear()

    def _kill_sharers(self, node: int, piece: Piece) -> KillOption | None:
        """The same as below, tried out: what a card gains by a stop is no sum."""
        mark, chosen = self.mark(), list[int]()
        for gang, _ in self.layout.gangs_on[node]:
            if self.holds(node, *piece):
                break
            if self.alive[gang] and self.cost_of((gang,)) is not None:
                self.stop(gang)
                chosen.append(gang)
        fits = self.holds(node, *piece)
        for gang in chosen[-2::-1] if fits else ():
            before = self.mark()
            self.revive(gang)
            if self.holds(node, 0) and self.holds(node, *piece):
                chosen.remove(gang)
            else:
                self.undo(before)
        after = self.free[node] - piece.gpus
        self.undo(mark)
        cost = sum(self._costs[gang] for gang in chosen)
        return KillOption(cost, after, node, tuple(chosen)) if fits else None

    def _kill_option(self, node: int, piece: Piece) -> KillOption | None:
        """Gangs of the node by rising cost until the piece fits, less those not needed."""
        if not self.admits(node, piece.keeps):
            return None
        if piece.share != NO_SHARE or self.decks[node].cards:
            return self._kill_sharers(node, piece)
        room = self.free[node] - piece.gpus
        cpu, memory = self.cpu[node] - piece.cpu_milli, self.memory[node] - piece.memory_mib
        chosen: list[tuple[int, int, int, int]] = []
        left = list(self._stops_left)
        for gang, held in self.layout.gangs_on[node]:
            if room >= 0 and cpu >= 0 and memory >= 0:
                break
            limits = self.layout.limits_of[gang]
            if self.alive[gang] and all(left[limit] > 0 for limit in limits):
                for limit in limits:
                    left[limit] -= 1
                freed = self.layout.freed[gang]
                cores, ram = freed[node] if freed else _NOTHING
                chosen.append((gang, held, cores, ram))
                room, cpu, memory = room + held, cpu + cores, memory + ram
        if room < 0 or cpu < 0 or memory < 0:
            return None
        for one in chosen[-2::-1]:
            _, held, cores, ram = one
            if room >= held and cpu >= cores and memory >= ram:
                chosen.remove(one)
                room, cpu, memory = room - held, cpu - cores, memory - ram
        gangs = tuple([one[0] for one in chosen])
        return KillOption(sum([self._costs[gang] for gang in gangs]), room, node, gangs)
