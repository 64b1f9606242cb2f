"""Rivals of the `packing` benchmark: what else a cluster might do with one pod at a time.

As in the FGD paper's simulator: whole-number scores, the highest wins, the smallest name on ties;
a pod that shares a card takes the tightest one that has room. `random` draws host and card.
"""

from collections.abc import Callable

import numpy as np

from binpacking.cards import Bools, Fleet, Ints, PodShape
from binpacking.foresight import Seat
from binpacking.inventory import WHOLE_GPU_MILLI

Score = Callable[["Rival", PodShape, Ints], Ints]
"""Scores of the rows given, on each of which the pod fits."""


class Rival:
    """A fleet, and what has been seated on each host by kind."""

    def __init__(self, fleet: Fleet, score: Score) -> None:
        self.fleet = fleet
        self._score = score
        self._allowed: dict[tuple[str, ...], Bools] = {}
        self.sizes: Ints = (fleet.cards >= 0).sum(axis=1)
        self.most_cpu = float(fleet.cpu.max())
        self.kinds: dict[int, Ints] = {}
        """Pods with GPU per host, by kind: 0 shares a card, otherwise the number of cards."""

    def choose(self, shape: PodShape) -> Seat | None:
        """The host with the highest score, smallest name on ties."""
        rows = self.rows(shape)
        if not len(rows):
            return None
        row = int(rows[int(self._score(self, shape, rows).argmax())])
        return Seat(row, self.fleet.tightest(shape, row))

    def rows(self, shape: PodShape) -> Ints:
        """Where the pod fits."""
        if shape.models not in self._allowed:
            self._allowed[shape.models] = self.fleet.allows(shape)
        every = np.arange(len(self.fleet.names))
        return np.flatnonzero(self._allowed[shape.models] & self.fleet.fits(shape, every))

    def take(self, shape: PodShape, seat: Seat) -> None:
        """Let the pod sit there."""
        self.fleet.seat(shape, seat.row, seat.cards)
        if shape.cards:
            nothing = np.zeros(len(self.fleet.names), dtype=np.int64)
            self.kinds.setdefault(kind(shape), nothing)[seat.row] += 1


class RandomRival(Rival):
    """Any host that fits, and any of its cards."""

    def __init__(self, fleet: Fleet, chance: np.random.Generator) -> None:
        super().__init__(fleet, _nothing)
        self._chance = chance

    def choose(self, shape: PodShape) -> Seat | None:
        """A host and cards at random."""
        rows = self.rows(shape)
        if not len(rows):
            return None
        row = int(self._chance.choice(rows))
        usable = np.flatnonzero(self.fleet.cards[row] >= shape.card_milli)
        cards = self._chance.choice(usable, size=shape.cards, replace=False) if shape.cards else ()
        return Seat(row, tuple(sorted(int(card) for card in cards)))


def kind(shape: PodShape) -> int:
    """0 for a pod that shares a card, otherwise its number of cards."""
    return shape.cards if shape.card_milli >= WHOLE_GPU_MILLI else 0


def best_fit(rival: Rival, shape: PodShape, rows: Ints) -> Ints:
    """Least CPU and GPU left after, half and half, each against the largest host."""
    cpu = (rival.fleet.cpu[rows] - shape.cpu_milli) / rival.most_cpu
    idle = np.maximum(rival.fleet.cards[rows], 0).sum(axis=1) - shape.gpu_milli
    gpu = idle / (WHOLE_GPU_MILLI * rival.sizes.max())
    raw: Ints = (100 * (1 - (0.5 * cpu + 0.5 * gpu))).astype(np.int64)
    spread = max(int(raw.max() - raw.min()), 1)
    score: Ints = (raw - raw.min()) * 100 // spread
    return score


def dot_product(rival: Rival, shape: PodShape, rows: Ints) -> Ints:
    """Tetris turned round: hosts whose free resources are least like the pod's needs."""
    most_gpu = float(WHOLE_GPU_MILLI * rival.sizes.max())
    cpu = rival.fleet.cpu[rows] / rival.most_cpu * (shape.cpu_milli / rival.most_cpu)
    idle = np.maximum(rival.fleet.cards[rows], 0).sum(axis=1)
    gpu = idle / most_gpu * (shape.gpu_milli / most_gpu)
    score: Ints = (100 * (1 - (cpu + gpu) / 2)).astype(np.int64)
    return score


def gpu_packing(rival: Rival, shape: PodShape, rows: Ints) -> Ints:
    """Cards in use first, then hosts in use, then small hosts; 0 for a pod without GPU."""
    if not shape.cards:
        return _nothing(rival, shape, rows)
    cards = np.where(rival.fleet.cards[rows] >= shape.card_milli, rival.fleet.cards[rows], np.inf)
    taken = np.sort(cards, axis=1)[:, : shape.cards]
    opened = (taken == WHOLE_GPU_MILLI).sum(axis=1)
    whole = (rival.fleet.cards[rows] == WHOLE_GPU_MILLI).sum(axis=1)
    in_use = np.maximum(100 - (taken / 10).sum(axis=1) / 10, 50)
    opening = np.maximum(50 - opened, 33)
    empty = 33 - rival.sizes[rows]
    score = np.where(opened > 0, opening, in_use)
    return np.where(whole == rival.sizes[rows], empty, score).astype(np.int64)


def gpu_clustering(rival: Rival, shape: PodShape, rows: Ints) -> Ints:
    """Hosts that hold pods of the same kind only, then partly; 0 for a pod without GPU."""
    if not shape.cards:
        return _nothing(rival, shape, rows)
    nothing = np.zeros(len(rival.fleet.names), dtype=np.int64)
    same = rival.kinds.get(kind(shape), nothing)[rows]
    every = sum((pods[rows] for pods in rival.kinds.values()), start=nothing[rows])
    whole = (rival.fleet.cards[rows] == WHOLE_GPU_MILLI).sum(axis=1)
    company = np.select([every == 0, same == every, same > 0], [25, 75, 50], 0)
    score: Ints = company + (25 * (8 - whole) / 8).astype(np.int64)
    return score


def _nothing(_: Rival, __: PodShape, rows: Ints) -> Ints:
    return np.zeros(len(rows), dtype=np.int64)
