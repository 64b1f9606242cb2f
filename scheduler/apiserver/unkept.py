"""Objects that a reflector reads and does not keep: who wants to know of them is told here.

A sum over many small objects needs no list of them. All calls come from the reflector's thread.
"""

from collections.abc import Set as AbstractSet
from typing import Protocol, TypeVar

Key = tuple[str, str]
"""Namespace and name."""
Heard_contra = TypeVar("Heard_contra", contravariant=True)


class Unkept(Protocol[Heard_contra]):
    """Hears of objects that are not kept."""

    def put(self, key: Key, item: Heard_contra) -> None:
        """Take an object's present state."""

    def drop(self, key: Key) -> None:
        """Forget the object, if it was ever told of."""

    def only(self, keys: AbstractSet[Key]) -> None:
        """Forget all others: a whole list has ended."""


class Nobody:
    """Wants to know of none."""

    def put(self, key: Key, item: object) -> None:
        """Do nothing."""

    def drop(self, key: Key) -> None:
        """Do nothing."""

    def only(self, keys: AbstractSet[Key]) -> None:
        """Do nothing."""
