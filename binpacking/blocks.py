"""A large program block by block: a good point in a time that grows with the number of blocks.

Columns are dealt to blocks (spine pods); rows inside one block are its own, all others couple. The
linear relaxation prices what the coupling rows share out, and says how much of it each block gets.

- `descend`: one block after the other is solved in whole numbers for its share, at those prices;
  then the relaxation is solved anew with the block held, so that what it left goes to the others.
- `within`: some columns in whole numbers while all others are held.
"""

import msgspec
import numpy as np

from binpacking.linear import FREE, Flags, Floats, Integers, Linear
from binpacking.problem import Effort
from binpacking.solver import EXACT, Relaxation, Relaxed, Stop, minimise

_SLACK = 1e-6

_SHORT = 0.5
"""Part of a share's price that is charged besides when a block leaves it to the others."""


class Parts(msgspec.Struct, frozen=True):
    """A program and the block of each column; -1: of none."""

    linear: Linear
    block_of: Integers
    count: int

    def coupling(self) -> Flags:
        """Flags by row: whether it names columns of two blocks, or of one and of none."""
        linear = self.linear
        row_of, blocks = linear.row_of(), self.block_of[linear.index]
        low = np.full(linear.rows, self.count)
        high = np.full(linear.rows, -1)
        np.minimum.at(low, row_of, blocks)
        np.maximum.at(high, row_of, blocks)
        flags: Flags = (low != high) | (low < 0)
        return flags

    def alone(self, block: int) -> Linear:
        """The block's columns and its own rows."""
        part, rows = restricted(self.linear, self.block_of == block)
        coupling = self.coupling()[rows]
        return msgspec.structs.replace(
            part,
            low=np.where(coupling, -FREE, part.low),
            high=np.where(coupling, FREE, part.high),
        )


class Bound(msgspec.Struct, frozen=True):
    """What no point goes below, and how much of it is each block's."""

    total: float
    blocks: tuple[float, ...]
    prices: Floats
    """By row."""


def descend(
    parts: Parts,
    costs: Floats,
    effort: Effort,
    relaxation: Relaxation,
    relaxed: Relaxed,
    close: float,
) -> Floats | None:
    """A point in whole numbers; None where the relaxation has none any more.

    `relaxation` is left with every block held.
    """
    coupling = parts.coupling()
    values = np.zeros(parts.linear.columns)
    held = np.zeros(parts.linear.columns, bool)
    for block in range(parts.count):
        columns = np.flatnonzero(parts.block_of == block)
        found = _share(parts, coupling, costs, relaxed, (columns, values, held), effort, close)
        if found is None:
            return None
        values[columns] = found
        held[columns] = True
        relaxation.fix(columns, found)
        after = relaxation.minimise(costs)
        if after is None:
            return None
        relaxed = after
    return within(parts.linear, costs, values, ~held, effort)


def _share(
    parts: Parts,
    coupling: Flags,
    costs: Floats,
    relaxed: Relaxed,
    state: tuple[Integers, Floats, Flags],
    effort: Effort,
    close: float,
) -> Floats | None:
    """The block's columns, given the share that the relaxation leaves to it."""
    columns, values, held = state
    linear = parts.linear
    mine = np.zeros(linear.columns, bool)
    mine[columns] = True
    share = linear.activity(np.where(mine, relaxed.values, 0.0))
    used = linear.activity(np.where(held, values, 0.0))
    room = linear.high - used
    low = np.where(coupling, np.floor(share + _SLACK), linear.low)
    high = np.where(coupling, np.minimum(np.ceil(share - _SLACK), room), linear.high)
    low = np.where(coupling & ~np.isfinite(linear.low), -FREE, np.minimum(low, high))
    part, rows = restricted(linear, mine)
    inside = coupling[rows] & np.isfinite(low[rows]) & (low[rows] > 0)
    prices = np.where(coupling, relaxed.duals, 0.0)
    priced = (costs - linear.activity_of_columns(prices))[columns]
    floor = float(np.abs(priced).max(initial=1.0))
    short = _SHORT * np.abs(prices[rows][inside]) + _SLACK * floor
    whole = with_slack(part, low[rows], high[rows], inside)
    answer = minimise(whole, np.concatenate([priced, short]), effort, close=close)
    return None if answer is None else answer.values[: len(columns)]


def with_slack(part: Linear, low: Floats, high: Floats, soft: Flags) -> Linear:
    """The part with these limits, where the soft rows' lower ones may be missed by a column."""
    rows = np.flatnonzero(soft)
    starts, index, value = part.starts, part.index, part.value
    ends = starts[rows + 1]
    slack = np.arange(len(rows), dtype=np.int32) + np.int32(part.columns)
    index = np.insert(index, ends, slack)
    value = np.insert(value, ends, 1.0)
    starts = starts + np.concatenate([[0], np.cumsum(soft)]).astype(np.int32)
    return Linear(
        np.concatenate([part.upper, np.maximum(low[rows], 0.0)]), starts, index, value, low, high
    )


def restricted(linear: Linear, mine: Flags) -> tuple[Linear, Integers]:
    """These columns, the rows that name them, and the numbers of those rows."""
    entries = mine[linear.index]
    row_of = linear.row_of()[entries]
    counts = np.bincount(row_of, minlength=linear.rows)
    rows = np.flatnonzero(counts)
    number = np.cumsum(mine, dtype=np.int32) - np.int32(1)
    part = Linear(
        linear.upper[mine],
        np.concatenate([[0], np.cumsum(counts[rows])]).astype(np.int32),
        number[linear.index[entries]],
        linear.value[entries],
        linear.low[rows],
        linear.high[rows],
    )
    return part, rows


def within(
    linear: Linear,
    costs: Floats,
    values: Floats,
    mine: Flags,
    effort: Effort,
    stop: Stop | None = None,
    *,
    close: float = EXACT,
) -> Floats | None:
    """All columns, with these at their best while the others are held."""
    part, rows = restricted(linear, mine)
    used = linear.activity(np.where(mine, 0.0, values))[rows]
    part = msgspec.structs.replace(part, low=part.low - used, high=part.high - used)
    answer = minimise(part, costs[mine], effort, stop, close=close)
    if answer is None:
        return None
    whole = values.copy()
    whole[mine] = answer.values
    return whole


def gaps(parts: Parts, costs: Floats, values: Floats, known: Bound) -> Floats:
    """By block: how far its columns are above its part of the bound, at the bound's prices."""
    reduced = costs - parts.linear.activity_of_columns(known.prices)
    spent = [float((reduced * values)[parts.block_of == b].sum()) for b in range(parts.count)]
    above: Floats = np.array(spent) - np.array(known.blocks)
    return above
