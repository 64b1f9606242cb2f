"""Values derived from objects, kept for as long as the object's version stays.

Between two ticks few objects change, so `assembly` derives little anew.
"""

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from scheduler.apiserver.objects import Meta


class Versioned(Protocol):
    """Any object of the API."""

    @property
    def metadata(self) -> Meta:
        """Its metadata."""
        ...


_Object = TypeVar("_Object", bound=Versioned)
_Value = TypeVar("_Value")


class Versions(Generic[_Object, _Value]):
    """The derived values of all objects of one kind."""

    def __init__(self) -> None:
        self._items: Sequence[_Object] = ()
        self._values: tuple[_Value, ...] = ()
        self._known: dict[str, tuple[_Object, _Value]] = {}

    def of(
        self, items: Sequence[_Object], derive: Callable[[_Object, _Value | None], _Value]
    ) -> tuple[_Value, ...]:
        """Return the values in order of the objects; unchanged objects give the same tuple.

        `derive` gets the object and the value of its earlier version. A new version whose value
        is equal keeps the earlier value, since most updates of a node are heartbeats.
        """
        if items is self._items:
            return self._values
        known = {}
        for item in items:
            key = item.metadata.uid or f"{item.metadata.namespace}/{item.metadata.name}"
            known[key] = (item, self._value(item, self._known.get(key), derive))
        values = tuple(value for _, value in known.values())
        same = len(values) == len(self._values) and all(map(_is, values, self._values))
        self._items, self._known = items, known
        self._values = self._values if same else values
        return self._values

    def _value(
        self,
        item: _Object,
        before: tuple[_Object, _Value] | None,
        derive: Callable[[_Object, _Value | None], _Value],
    ) -> _Value:
        if before is None:
            return derive(item, None)
        old, value = before
        version = item.metadata.resource_version
        if old is item or (version and old.metadata.resource_version == version):
            return value
        new = derive(item, value)
        return value if new == value else new


def _is(one: object, other: object) -> bool:
    return one is other
