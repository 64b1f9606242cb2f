"""How much of what stays free will be of no use to the shapes to come: two measures.

`Fragments` is the measure of the FGD paper for single pods, with shared cards, CPU and models.
`unusable_milli_gpus` is the whole-GPU "mod" form: with a share p_k of future pods asking k GPUs
on one node, a node with f free GPUs is expected to waste sum_k p_k (f mod k). It is linear in the
number of k-slots floor(f / k), which is what the integer program counts per leaf; Weng et al.
(USENIX ATC 2023) use the coarser sum_k p_k f [f < k], which is not.
"""

from collections.abc import Iterable

import msgspec
import numpy as np

from binpacking.cards import Bools, Fleet, Ints, PodShape
from binpacking.inventory import WHOLE_GPU_MILLI

Mix = tuple[tuple[int, int], ...]
"""(GPUs on one node, weight); weights need no fixed sum."""


def unusable_milli_gpus(
    free: Iterable[int], mix: Mix, cards: Iterable[int] = (), card_mix: Mix = ()
) -> int:
    """Expected unusable milli-GPUs over nodes with these free GPUs, rounded down once.

    `cards`: milli-GPU left of each card that pods share, of no use to whom asks whole ones.
    `card_mix`: (milli-GPU, weight) of pods to come that share a card.
    """
    whole, sharing = (sum(weight for _, weight in one) for one in (mix, card_mix))
    if not whole + sharing:
        return 0
    counts: dict[int, int] = {}
    for gpus in free:
        counts[gpus] = counts.get(gpus, 0) + 1
    wasted = WHOLE_GPU_MILLI * sum(
        count * weight * (gpus % size) for gpus, count in counts.items() for size, weight in mix
    )
    left = list(cards)
    left += [WHOLE_GPU_MILLI] * (sum(n * gpus for gpus, n in counts.items()) if sharing else 0)
    wasted += whole * sum(milli for milli in left if milli < WHOLE_GPU_MILLI)
    wasted += sum(weight * sum(milli % size for milli in left) for size, weight in card_mix)
    return wasted // (whole + sharing)


class Mixture(msgspec.Struct, frozen=True):
    """Shapes of pods to come, with whole-number weights."""

    shapes: tuple[tuple[PodShape, int], ...]

    @property
    def weight(self) -> int:
        """Sum of the weights."""
        return sum(weight for _, weight in self.shapes)


class Fragments:
    """F_n(M) of Weng et al. (USENIX ATC 2023), section 3, over a fleet that changes.

    To shape m, all idle milli-GPU of host n are fragment if m cannot run there (too few cards
    with enough left, too little CPU, another model, or m asks no GPU); otherwise only cards whose
    rest is below m's need per card. F_n(M) is the mean over the mixture. Values here are the sums
    before division by the mixture's weight, so they are whole numbers.
    """

    def __init__(self, fleet: Fleet, mixture: Mixture) -> None:
        self._fleet = fleet
        shapes = [shape for shape, _ in mixture.shapes]
        self.weight = mixture.weight
        self._weights = np.array([weight for _, weight in mixture.shapes], dtype=np.float64)
        self._needed = np.array([shape.cards for shape in shapes], dtype=np.int64)
        self._cpu = np.array([shape.cpu_milli for shape in shapes], dtype=np.int64)
        milli = np.array([shape.card_milli for shape in shapes], dtype=np.int64)
        free = np.arange(-1, WHOLE_GPU_MILLI + 1, dtype=np.int64)[:, None]
        self._short: Ints = np.where((free < milli) & (free > 0), free, 0)
        """By free milli of a card + 1, then shape: what is fragment if the shape can run."""
        self._enough: Ints = ((free >= milli) & (free >= 0)).astype(np.int64)
        allowed = [fleet.allows(shape) & (shape.cards > 0) for shape in shapes]
        self._allowed: Bools = np.array(allowed, dtype=np.bool_).T.reshape(len(fleet.names), -1)
        self._measure()

    def _measure(self) -> None:
        cards = self._fleet.cards + 1
        self._shorts: Ints = self._short[cards].sum(axis=1)
        self._enoughs: Ints = self._enough[cards].sum(axis=1)
        self.idle = self._fleet.free_milli()
        every = np.arange(len(self._fleet.names))
        self.now: Ints = self._weighed(self.idle, self._shorts, self._enoughs, every)

    def pick(self, fleet: Fleet, rows: Ints) -> "Fragments":
        """The same over `fleet`, the hosts of these rows with other things on them."""
        twin = object.__new__(Fragments)
        twin.__dict__ = dict(self.__dict__)
        twin._fleet, twin._allowed = fleet, self._allowed[rows]
        twin._measure()
        return twin

    def refresh(self, row: int) -> None:
        """Take in that the host of this row has changed."""
        cards = self._fleet.cards[row]
        self._shorts[row] = self._short[cards + 1].sum(axis=0)
        self._enoughs[row] = self._enough[cards + 1].sum(axis=0)
        self.idle[row] = np.maximum(cards, 0).sum()
        only = np.array([row])
        self.now[row] = self._weighed(
            self.idle[only], self._shorts[only], self._enoughs[only], only
        )[0]

    def after(self, shape: PodShape, rows: Ints, cards: Ints) -> Ints:
        """F per candidate once the shape sits on these cards of these rows.

        `rows` has one entry a candidate, `cards` one row a candidate: card indices, or no columns
        for a shape without GPU.
        """
        shorts, enoughs, idle = self._shorts[rows], self._enoughs[rows], self.idle[rows]
        for column in range(cards.shape[1]):
            before = self._fleet.cards[rows, cards[:, column]] + 1
            left = before - shape.card_milli
            shorts = shorts + self._short[left] - self._short[before]
            enoughs = enoughs + self._enough[left] - self._enough[before]
        return self._weighed(idle - shape.gpu_milli, shorts, enoughs, rows, shape.cpu_milli)

    def _weighed(
        self, idle: Ints, shorts: Ints, enoughs: Ints, rows: Ints, cpu_taken: int = 0
    ) -> Ints:
        runs = self._allowed[rows] & (enoughs >= self._needed)
        runs &= (self._fleet.cpu[rows] - cpu_taken)[:, None] >= self._cpu
        useful = np.where(runs, idle[:, None] - shorts, 0) @ self._weights  # exact: below 2**53
        return idle * self.weight - useful.astype(np.int64)
