"""Where a single pod goes that no plan has reserved a place for: where fragmentation falls most.

The score of a host is Weng et al.'s (USENIX ATC 2023): int(100 x sigmoid of the fall of F_n(M) in
GPUs), a whole number from 0 to 100; ties go to the smallest name, and on a host to the lowest
card. Both are part of the method: whole-number scores make near-equal hosts tie, and the name
then fills hosts one after the other, which keeps empty ones for pods that need all their cards.
"""

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from math import ceil, log

import msgspec
import numpy as np

from binpacking.cards import Bools, Fleet, Ints, PodShape
from binpacking.foresight import Seat
from binpacking.fragmentation import Fragments, Mixture
from binpacking.inventory import WHOLE_GPU_MILLI

INFEASIBLE = -1
"""Score of a host that the pod does not fit on; scores of others are larger."""
BEST = 100


def typical(shapes: Iterable[PodShape], cover_percent: int = 95) -> Mixture:
    """The most frequent shapes, memory aside, until they cover this part of all pods.

    The population of the FGD paper: CPU, GPU count, milli and models tell shapes apart.
    """
    counts = Counter(msgspec.structs.replace(shape, memory_mib=0) for shape in shapes)
    wanted = cover_percent * counts.total()
    kept: list[tuple[PodShape, int]] = []
    covered = 0
    for shape, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if 100 * covered >= wanted:
            break
        kept.append((shape, count))
        covered += count
    return Mixture(tuple(kept))


@lru_cache(maxsize=16)
def _steps(weight: int) -> Ints:
    """The least fall of F that earns 1, 2, ..., 99: whole numbers, the same on any machine."""
    return np.array(
        [ceil(WHOLE_GPU_MILLI * weight * log(step / (BEST - step))) for step in range(1, BEST)],
        dtype=np.int64,
    )


class Gradient:
    """Scores of one kind of pod per host, computed once and renewed where hosts changed."""

    def __init__(self, fleet: Fleet, mixture: Mixture) -> None:
        self.fleet = fleet
        self.fragments = Fragments(fleet, mixture)
        self._steps = _steps(self.fragments.weight)

    def scores(self, shape: PodShape, rows: Ints) -> tuple[Ints, Ints]:
        """Per row the score and, for a pod on one card, that card; models are not looked at."""
        fitting = np.flatnonzero(self.fleet.fits(shape, rows))
        scores = np.full(len(rows), INFEASIBLE, dtype=np.int64)
        chosen = np.full(len(rows), -1, dtype=np.int64)
        if len(fitting) and shape.cards == 1:
            scores[fitting], chosen[fitting] = self._by_card(shape, rows[fitting])
        elif len(fitting):
            cards = self._cards(shape, rows[fitting])
            scores[fitting] = self._step(shape, rows[fitting], cards)
        return scores, chosen

    def _by_card(self, shape: PodShape, rows: Ints) -> tuple[Ints, Ints]:
        """Best score over the host's cards, lowest card on ties."""
        cards = self.fleet.cards[rows]
        usable = cards >= shape.card_milli
        usable[:, 1:] &= cards[:, 1:] != cards[:, :-1]  # the lower of two equal neighbours will do
        which, card = np.nonzero(usable)
        grid = np.full(cards.shape, INFEASIBLE, dtype=np.int64)
        grid[which, card] = self._step(shape, rows[which], card[:, None])
        best = grid.argmax(axis=1)
        return grid[np.arange(len(rows)), best], best

    def _cards(self, shape: PodShape, rows: Ints) -> Ints:
        """Per row the lowest cards with enough left."""
        usable = self.fleet.cards[rows] >= shape.card_milli
        return np.argsort(~usable, axis=1, kind="stable")[:, : shape.cards]

    def _step(self, shape: PodShape, rows: Ints, cards: Ints) -> Ints:
        fall = self.fragments.now[rows] - self.fragments.after(shape, rows, cards)
        return np.searchsorted(self._steps, fall, side="right")

    def seat(self, shape: PodShape, row: int) -> Seat:
        """The host's cards that the score was computed for."""
        one = np.array([row])
        if shape.cards == 1:
            return Seat(row, (int(self.scores(shape, one)[1][0]),))
        return Seat(row, tuple(self._cards(shape, one)[0].tolist()))


class Admission:
    """Admits pods one by one to the host with the best score."""

    def __init__(self, fleet: Fleet, mixture: Mixture) -> None:
        self.fleet = fleet
        self.gradient = Gradient(fleet, mixture)
        self._changed: list[int] = []
        """Rows in the order in which they changed; `_known` points behind the last one seen."""
        self._known: dict[PodShape, tuple[int, Ints]] = {}
        self._allowed: dict[tuple[str, ...], Bools] = {}

    def choose(self, shape: PodShape) -> Seat | None:
        """The best host, smallest name on ties; None where no host fits."""
        scores = self.scores(shape)
        row = int(scores.argmax()) if len(scores) else 0
        if not len(scores) or scores[row] == INFEASIBLE:
            return None
        return self.gradient.seat(shape, row)

    def take(self, shape: PodShape, seat: Seat) -> None:
        """Let the pod sit there."""
        self.fleet.seat(shape, seat.row, seat.cards)
        self.gradient.fragments.refresh(seat.row)
        self._changed.append(seat.row)

    def scores(self, shape: PodShape) -> Ints:
        """Scores of all hosts, brought up to date where hosts changed; not to be written to."""
        seen, scores = self._known.get(shape, (0, None))
        allowed = self._rows(shape)
        if scores is None:
            scores = np.full(len(self.fleet.names), INFEASIBLE, dtype=np.int64)
            rows = np.flatnonzero(allowed)
        else:
            changed = np.array(sorted(set(self._changed[seen:])), dtype=np.int64)
            rows = changed[allowed[changed]]
        scores[rows] = self.gradient.scores(shape, rows)[0]
        self._known[shape] = (len(self._changed), scores)
        return scores

    def _rows(self, shape: PodShape) -> Bools:
        if shape.models not in self._allowed:
            self._allowed[shape.models] = self.fleet.allows(shape)
        return self._allowed[shape.models]
