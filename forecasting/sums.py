"""Sums of series as series of their own: a model, a GPU pool, the fleet.

A quantile of a sum is not the sum of the quantiles: demands that do not peak together would be
bought twice. So the store carries the sum as one more series, and the same machinery learns it.

A member that is unknown in a bin counts with its value at the same time yesterday, else with its
newest one, never with zero; a bin of the sum is known while at least four fifths of it are. A
member counts from its first known bin until it has been silent for a day: then it has left.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec
import numpy as np

from forecasting.grid import Bools, Ints, Singles

_KNOWN_SHARE = 0.8
_STAR = "*"

Members = Mapping[str, tuple[str, ...]]
"""Name of a sum -> keys of its series."""


class Sum(msgspec.Struct, frozen=True):
    """A series to carry: `name` is its key, `members` are keys or patterns with one star.

    A star in the name makes one sum for each text that the star of a member stands for:
    `Sum("*/tokens", ("*/prompt_tokens", "*/generated_tokens"))` adds up each model's tokens.
    """

    name: str
    members: tuple[str, ...]


def check_sums(sums: Sequence[Sum]) -> tuple[Sum, ...]:
    """The sums as they are; ValueError names the field that cannot be used."""
    names = [one.name for one in sums]
    if len(set(names)) != len(names):
        raise ValueError(f"sums: {names} must have distinct names")
    for one in sums:
        if not one.members:
            raise ValueError(f"sums: {one.name!r} has no members; name a key, or '*/requests'")
        if any(text.count(_STAR) > 1 for text in (one.name, *one.members)):
            raise ValueError(f"sums: {one.name!r} may have one '*' in its name and in each member")
        if _STAR in one.name and not all(_STAR in member for member in one.members):
            raise ValueError(f"sums: {one.name!r} has a '*', so each of its members needs one")
    return tuple(sums)


def members_of(sums: Sequence[Sum], keys: Collection[str]) -> Members:
    """The keys of each sum that has any; a sum is never a member of a sum."""
    found: dict[str, set[str]] = {}
    series = set(keys).difference(one.name for one in sums)
    for one in sums:
        for member in one.members:
            for key in series:
                star = _matched(member, key)
                if star is not None:
                    found.setdefault(one.name.replace(_STAR, star), set()).add(key)
    real = {name: tuple(sorted(some.difference(found))) for name, some in sorted(found.items())}
    return {name: some for name, some in real.items() if some}


def _matched(pattern: str, key: str) -> str | None:
    """What the star of a pattern stands for in a key, "" without a star; None: does not match."""
    head, star, tail = pattern.partition(_STAR)
    if not star:
        return "" if key == pattern else None
    fits = key.startswith(head) and key.endswith(tail) and len(key) > len(head) + len(tail)
    return key[len(head) : len(key) - len(tail)] if fits else None


def add_up(
    rate: Singles, known: Bools, closes: Bools, members: Sequence[Ints], first: int, day: int
) -> tuple[Singles, Bools, Bools]:
    """Rates, known bins and closing bins of the sums, each [sum, column from `first`].

    `rate`, `known`, `closes` [series, bin]; `members` [sum] are rows of theirs.
    """
    rows = np.concatenate(members)
    starts = np.cumsum([0, *(one.size for one in members[:-1])])
    parts = []
    for low in range(first, rate.shape[1], day):
        high, since = min(low + day, rate.shape[1]), max(0, low - day)
        here, there = rate[rows, since:high], known[rows, since:high]
        total, whole = _added(here, there, starts, high - low, day)
        parts.append((total, whole, np.logical_or.reduceat(closes[rows, low:high], starts)))
    totals, wholes, ended = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    return totals, wholes, ended


def _added(
    here: Singles, there: Bools, starts: Ints, width: int, day: int
) -> tuple[Singles, Bools]:
    """The sums of the last `width` columns of `here`, and whether enough of each is known.

    `here`, `there` [member, column]: rates and known bins; `starts` [sum] the first member.
    """
    column = np.arange(here.shape[1])
    newest = np.maximum.accumulate(np.where(there, column, -1), axis=1)[:, -width:]
    held = np.take_along_axis(here, np.maximum(newest, 0), axis=1)
    yesterday = column[-width:] - day
    inside = np.maximum(yesterday, 0)
    usual = np.where(there[:, inside] & (yesterday >= 0), here[:, inside], held)
    present = (newest >= 0) & (column[-width:] - newest <= day)
    now_known = there[:, -width:]
    seen = np.add.reduceat(np.where(now_known, here[:, -width:], 0), starts, axis=0)
    lacking = np.where(present & ~now_known, usual, 0)
    total = seen + np.add.reduceat(lacking, starts, axis=0)
    counted = np.add.reduceat(now_known, starts, axis=0, dtype=np.int64)
    missing = np.add.reduceat(present & ~now_known, starts, axis=0, dtype=np.int64)
    enough = np.where(total > 0, seen >= _KNOWN_SHARE * total, missing == 0)
    return total, enough & (counted > 0)
