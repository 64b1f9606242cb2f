"""A large program with whole blocks of leaves taken together, and its answer dealt to the blocks.

Rows of one class (the k-slots of all leaves of one GPU model in a spine pod) are added up; columns
that no row tells apart any more become one. A point of the program is one of the coarse program, at
the same cost: what the latter proves holds for the former, and no relaxation is lost where leaves
of a class are priced alike. In whole numbers it still knows how many replicas each block takes, and
that stops are whole, so that its bound is far above the relaxation's.

`settle` gives each block the share of every coupling row that the coarse answer says. Inside a
block most shares can be met at the coarse cost: small pods fill what large ones leave.
"""

import msgspec
import numpy as np

from binpacking.blocks import Parts, restricted, with_slack
from binpacking.linear import HALF, Floats, Integers, Linear
from binpacking.problem import Effort
from binpacking.solver import minimise

_SHORT, _DEAR = 3.0, 30.0
"""What a block pays for a share that it leaves undone, in prices of the relaxation: while others
may take it over, and at last."""


class Coarse(msgspec.Struct, frozen=True):
    """A coarse program, and how the fine one's columns and rows are numbered there."""

    parts: Parts
    costs: Floats
    column_of: Integers
    """By fine column."""
    row_of: Integers
    """By fine row."""


def together(parts: Parts, costs: Floats, class_of: Integers) -> Coarse:
    """Add up the rows of each class; `class_of` by row, -1 for rows that stand alone."""
    linear = parts.linear
    label = np.where(class_of < 0, linear.rows + np.arange(linear.rows), class_of)
    kinds, row_of = np.unique(label, return_inverse=True)
    rows = len(kinds)
    cells, place = np.unique(
        linear.index.astype(np.int64) * rows + row_of[linear.row_of()], return_inverse=True
    )
    value = np.bincount(place, linear.value, len(cells)).astype(float)
    first, column_of = _distinct(parts, costs, (cells // rows, cells % rows, value))
    stays = np.isin(cells // rows, first)
    fewer = _by_row(column_of[cells[stays] // rows], cells[stays] % rows, value[stays], rows)
    coarse = msgspec.structs.replace(
        fewer,
        upper=np.bincount(column_of, linear.upper, len(first)).astype(float),
        low=np.bincount(row_of, linear.low, rows).astype(float),
        high=np.bincount(row_of, linear.high, rows).astype(float),
    )
    whole = Parts(coarse, parts.block_of[first], parts.count)
    return Coarse(whole, costs[first], column_of, row_of)


def _distinct(
    parts: Parts, costs: Floats, entries: tuple[Integers, Integers, Floats]
) -> tuple[Integers, Integers]:
    """The first column of every kind, and the kind of each column; entries by column, then row."""
    columns, rows, value = entries
    count = parts.linear.columns
    starts = np.searchsorted(columns, np.arange(count + 1)).tolist()
    seen: dict[tuple[int, float, bytes, bytes], int] = {}
    kind_of = np.zeros(count, int)
    first: list[int] = []
    blocks, prices = parts.block_of.tolist(), costs.tolist()
    for column in range(count):
        part = slice(starts[column], starts[column + 1])
        kind = (blocks[column], prices[column], rows[part].tobytes(), value[part].tobytes())
        if kind not in seen:
            seen[kind] = len(first)
            first.append(column)
        kind_of[column] = seen[kind]
    return np.array(first), kind_of


def _by_row(columns: Integers, rows: Integers, value: Floats, count: int) -> Linear:
    """The entries in order of row, with no bounds yet."""
    order = np.lexsort((columns, rows))
    starts = np.searchsorted(rows[order], np.arange(count + 1))
    nothing = np.zeros(0)
    return Linear(
        nothing,
        starts.astype(np.int32),
        columns[order].astype(np.int32),
        value[order],
        nothing,
        nothing,
    )


def settle(
    parts: Parts,
    costs: Floats,
    coarse: Coarse,
    answer: tuple[Floats, Floats],
    effort: Effort,
    close: float,
) -> Floats | None:
    """A point in whole numbers, block by block, but for the columns of no block; None: none found.

    `answer`: the coarse point, and prices by coarse row. What a block leaves undone of its share is
    asked of the next ones, and if need be of all of them once more, at a higher price. `close`:
    what each block may miss of its best.
    """
    state = _Settling(parts, costs, coarse, answer)
    for price in (_SHORT, _DEAR):
        if price == _DEAR:
            state.asks_at_least(float(state.prices.max(initial=0.0)))
        for block in range(parts.count):
            if price == _DEAR and not state.short():
                break
            if not state.block(block, price, effort, close):
                return None
    return state.values


class _Settling:
    """Blocks while they are settled one after the other."""

    def __init__(
        self, parts: Parts, costs: Floats, coarse: Coarse, answer: tuple[Floats, Floats]
    ) -> None:
        self.parts, self.costs = parts, costs
        self.coupling = parts.coupling()
        point, prices = answer
        self.prices = np.abs(prices[coarse.row_of])
        shares = [self._shared(coarse, point, block) for block in range(-1, parts.count)]
        self.taken = np.sum(shares, axis=0)
        """By coupling row: what the settled blocks take, and the shares of the others."""
        self.mine = shares[1:]
        """The same by block."""
        self.values = np.zeros(parts.linear.columns)

    def _shared(self, coarse: Coarse, point: Floats, block: int) -> Floats:
        mine = np.where(coarse.parts.block_of == block, point, 0.0)
        shares = coarse.parts.linear.activity(mine)[coarse.row_of]
        return np.where(self.coupling, shares, 0.0)

    def asks_at_least(self, price: float) -> None:
        """What the relaxation has for nothing may cost whole numbers as much as anything else."""
        self.prices = np.maximum(self.prices, price)

    def short(self) -> bool:
        """Whether something that was shared out is left undone."""
        return bool(np.any(self.coupling & (self.taken < self.parts.linear.low - HALF)))

    def block(self, block: int, price: float, effort: Effort, close: float) -> bool:
        """Settle one, given what all others take; False: it has no point."""
        columns = self.parts.block_of == block
        part, rows = restricted(self.parts.linear, columns)
        others = (self.taken - self.mine[block])[rows]
        low, high = part.low - others, part.high - others
        soft = self.coupling[rows] & np.isfinite(low) & (low > 0)
        short = price * self.prices[rows][soft] + 1.0
        whole = with_slack(part, low, high, soft)
        found = minimise(whole, np.append(self.costs[columns], short), effort, close=close)
        if found is None:
            return False
        self.values[columns] = found.values[: part.columns]
        before = self.mine[block]
        self.mine[block] = np.zeros(len(before))
        self.mine[block][rows] = part.activity(self.values[columns])
        self.mine[block][~self.coupling] = 0.0
        self.taken += self.mine[block] - before
        return True
