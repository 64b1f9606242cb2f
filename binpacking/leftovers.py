"""Tier 4 as columns and rows: the slots that stay free, beside the packing program of `rows`."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from binpacking.fragmentation import Mix
from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.linear import FREE, Draft, Linear
from binpacking.rows import Rows
from binpacking.slots import power_of_two


class _Mixes(NamedTuple):
    """Weights of the shapes to come; costs are in GPUs, or in milli-GPU where cards are shared."""

    whole: Mapping[int, int]
    """By GPUs, powers of two."""
    sharing: Mix
    unit: int

    @property
    def per_gpu(self) -> int:
        """What a free GPU costs before its use by pods of several GPUs is counted."""
        lost = sum(weight * (WHOLE_GPU_MILLI % milli) for milli, weight in self.sharing)
        return self.unit * sum(self.whole.values()) + lost

    def scrap(self, milli: int) -> int:
        """What so much of a card costs."""
        lost = sum(weight * (milli % size) for size, weight in self.sharing)
        return milli * sum(self.whole.values()) + lost


def leftovers(
    rows: Rows, linear: Linear, mix: Mix, card_mix: Mix = ()
) -> tuple[Linear, dict[int, int], list[int]]:
    """The program with slots left over per (leaf, size), the fragmentation to minimise, and the
    leaf of each new column.

    R_k counts k-slots that stay free: for every k' up to k, (k / k') R_k + U_k' <= C_k' + G_k'.
    Expected unusable GPUs are sum over k of p_k (R_1 - k R_k) with R_1 = C_1 + G_1 - U_1;
    constants are left out of the objective. Sizes of the mix are rounded up to powers of two.
    Ways to fill a node waste what they waste, and a bin has slots left over of its own. What ways
    to fill a card leave of it is of no use to whole GPUs, and to shares what it is modulo theirs.
    """
    weights: dict[int, int] = {}
    for size, weight in mix:
        weights[power_of_two(size)] = weights.get(power_of_two(size), 0) + weight
    mixes = _Mixes(weights, card_mix, WHOLE_GPU_MILLI) if rows.scraps else _Mixes(weights, (), 1)
    draft, costs, leaves = Draft(), dict[int, int](), list[int]()
    for leaf in sorted({leaf for leaf, _ in rows.slots}):
        for column, value in rows.slots[leaf, 1][0]:
            costs[column] = costs.get(column, 0) - value * mixes.per_gpu
        for size in sorted(weights):
            terms, slots = rows.slots.get((leaf, size), ((), 0))
            gained = sum(-value for _, value in terms if value < 0)
            if size == 1 or slots + gained == 0:
                continue
            column = linear.columns + draft.column(slots + gained)
            leaves.append(leaf)
            costs[column] = -size * weights[size] * mixes.unit
            for power in range(size.bit_length()):
                terms, slots = rows.slots[leaf, 1 << power]
                draft.row((*terms, (column, size >> power)), -FREE, slots)
    leaves += _left_uneven(rows, mixes, linear.columns, draft, costs)
    return linear.joined(draft.finished()), costs, leaves


def _left_uneven(
    rows: Rows, mixes: _Mixes, columns: int, draft: Draft, costs: dict[int, int]
) -> Iterator[int]:
    """The same for uneven nodes and for cards: costs by column, and the leaf of each new one."""
    for column, gpus in rows.spare.items():
        used = sum((gpus - gpus % size) * weight for size, weight in mixes.whole.items())
        costs[column] = gpus * mixes.per_gpu - used * mixes.unit
    for column, milli in rows.scraps.items():
        costs[column] = mixes.scrap(milli)
    for leaf, terms, gpus in rows.bins:
        for column, value in terms:
            costs[column] = costs.get(column, 0) - value * mixes.per_gpu
        for size in sorted(mixes.whole.keys() - {1}):
            column = columns + draft.column(gpus // size)
            costs[column] = -size * mixes.whole[size] * mixes.unit
            draft.row((*terms, (column, size)), -FREE, gpus)
            yield leaf
