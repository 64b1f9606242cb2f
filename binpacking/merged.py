"""The packing program with far fewer columns: what is alike is counted together (see `alike`).

In place of a column per kind of pod and leaf, a pool has one column per leaf for all its pods and
one per kind for how many of them stand anywhere in it; both have the same sum. Counts with equal
sums can always be dealt out (a transport with every way open), so the two programs have the same
points in whole numbers, up to whose pods stand in which leaf of a pool, and the same relaxation.
`opened` deals them out.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from binpacking.alike import Alike, Kind, Likeness, Replica, entries, likeness, of_one_leaf
from binpacking.layout import Layout
from binpacking.linear import Floats, Integers, Linear, Term, by_columns
from binpacking.problem import Problem
from binpacking.rows import Rows


class Pool(NamedTuple):
    """Alike pods in the leaves of one GPU model in a spine pod."""

    alike: Alike
    shares: dict[Kind, int]
    """Column by kind: how many stand in the pool."""
    totals: dict[int, int]
    """Column by leaf: how many stand there, of whatever kind."""


class Merged(msgspec.Struct, frozen=True):
    """A program with fewer columns; those of the whole one that it keeps come first."""

    linear: Linear
    kept: Integers
    """Columns of the whole program."""
    pools: tuple[Pool, ...]
    alike: Likeness

    def costs(self, costs: Floats) -> Floats:
        """An objective of the whole program that names no column counted together."""
        return np.append(costs[self.kept], np.zeros(self.linear.columns - len(self.kept)))

    def spines(self, spines: Integers) -> Integers:
        """The spine pod of each column, given those of the whole program's."""
        found = np.append(spines[self.kept], np.zeros(self.linear.columns - len(self.kept), int))
        for pool in self.pools:
            found[[*pool.shares.values(), *pool.totals.values()]] = pool.alike.spine
        return found

    def opened(self, values: Floats, columns: int) -> Floats:
        """The same point in the whole program, which has so many columns."""
        found = np.zeros(columns)
        found[self.kept] = values[: len(self.kept)]
        for wake, pods in self.alike.wakes:
            found[pods] += found[wake]
        return _Dealing(self, values, found).dealt()


def merged(rows: Rows, problem: Problem, layout: Layout) -> Merged:
    """State the program with what is alike counted together."""
    pairs = entries(rows.linear)
    return _Statement(rows, pairs, likeness(rows, pairs, problem, layout)).stated()


class _Statement:
    """The program while it is stated column by column."""

    def __init__(self, rows: Rows, pairs: Sequence[Sequence[Term]], alike: Likeness) -> None:
        self.linear, self.entries, self.alike = rows.linear, pairs, alike
        self.local = of_one_leaf(rows)
        self.uppers: list[float] = []
        self.terms: list[list[Term]] = []
        """By column: (row, coefficient)."""

    def stated(self) -> Merged:
        """The value."""
        linear, alike = self.linear, self.alike
        gone = {replica.column for replica in alike.replicas}
        each = [columns for pool in alike.pools for columns in pool.columns.values()]
        gone.update(column for columns in each for column in columns.values())
        kept = [column for column in range(linear.columns) if column not in gone]
        pods = dict(alike.wakes)
        for column in kept:
            more = self.entries[pods[column]] if column in pods else ()
            self._column(linear.upper[column], (*self.entries[column], *more))
        pools = tuple(
            self._pool(pool, linear.rows + number) for number, pool in enumerate(alike.pools)
        )
        ties = np.zeros(len(pools))
        low, high = np.append(linear.low, ties), np.append(linear.high, ties)
        fewer = by_columns(self.uppers, self.terms, low, high).without(sorted(alike.rules))
        return Merged(fewer, np.array(kept, int), pools, alike)

    def _column(self, upper: float, terms: Iterable[Term]) -> int:
        self.uppers.append(upper)
        self.terms.append([term for term in terms if term[0] not in self.alike.rules])
        return len(self.uppers) - 1

    def _pool(self, alike: Alike, tie: int) -> Pool:
        """The pool's columns; the row that ties them says that both have the same sum."""
        upper, shares, totals = self.linear.upper, {}, {}
        for kind, each in alike.columns.items():
            outer = self._rows(next(iter(each.values())), local=False)
            shares[kind] = self._column(alike.most[kind], (*outer, (tie, -1)))
        for leaf, column in next(iter(alike.columns.values())).items():
            most = sum(upper[each[leaf]] for each in alike.columns.values())
            inner = self._rows(column, local=True)
            totals[leaf] = self._column(most, (*inner, (tie, 1)))
        return Pool(alike, shares, totals)

    def _rows(self, column: int, *, local: bool) -> Iterator[Term]:
        return (term for term in self.entries[column] if self.local[term[0]] == local)


class _Dealing:
    """What pools hold while it is dealt to the leaves."""

    def __init__(self, program: Merged, values: Floats, found: Floats) -> None:
        self.program, self.found = program, found
        self.share: dict[tuple[Kind, int], int] = {}
        """By kind and pool: pods not dealt yet."""
        self.room: dict[tuple[int, int], int] = {}
        """By pool and leaf: pods that the leaf still gets."""
        self.pool_of: dict[tuple[Kind, int], int] = {}
        """By kind and leaf."""
        for number, pool in enumerate(program.pools):
            for kind, column in pool.shares.items():
                self.share[kind, number] = int(values[column])
                self.pool_of.update({(kind, leaf): number for leaf in pool.totals})
            for leaf, column in pool.totals.items():
                self.room[number, leaf] = int(values[column])

    def dealt(self) -> Floats:
        """Whole replicas where the pods of one can stand in one leaf, then pods in order."""
        found = self.found
        for replica in self.program.alike.replicas:
            while found[replica.split] and self._fits(replica):
                found[replica.split] -= 1
                found[replica.column] += 1
                self._take(replica)
        for number, pool in enumerate(self.program.pools):
            for kind, each in pool.alike.columns.items():
                for leaf, column in each.items():
                    pods = min(self.share[kind, number], self.room[number, leaf])
                    self._deal(kind, number, leaf, pods)
                    found[column] += pods
        return found

    def _fits(self, replica: Replica) -> bool:
        if self.found[replica.column] >= replica.most:
            return False
        asked: dict[int, int] = {}
        for kind, column, count in replica.members:
            number = self.pool_of.get((kind, replica.leaf))
            more = max(0, count - int(self.found[column]))
            if more and (number is None or self.share[kind, number] < more):
                return False
            if number is not None:
                asked[number] = asked.get(number, 0) + more
        return all(self.room[number, replica.leaf] >= more for number, more in asked.items())

    def _take(self, replica: Replica) -> None:
        """One replica's pods: those that are in the leaf already, then some of their pools."""
        for kind, column, count in replica.members:
            there = min(count, int(self.found[column]))
            self.found[column] -= there
            if there < count:
                number = self.pool_of[kind, replica.leaf]
                self._deal(kind, number, replica.leaf, count - there)

    def _deal(self, kind: Kind, number: int, leaf: int, pods: int) -> None:
        self.share[kind, number] -= pods
        self.room[number, leaf] -= pods
