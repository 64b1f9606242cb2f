"""How much memory a value of nested structs, tuples and arrays holds."""

from __future__ import annotations

from sys import getsizeof

import msgspec
import numpy as np


def bytes_of(value: object) -> int:
    """Bytes of the value and all it holds; what is held twice counts once."""
    return _bytes(value, set())


def _bytes(value: object, seen: set[int]) -> int:
    if id(value) in seen or value is None:
        return 0
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, msgspec.Struct):
        return getsizeof(value) + sum(
            _bytes(getattr(value, name), seen) for name in value.__struct_fields__
        )
    if isinstance(value, dict):
        held = [*value.keys(), *value.values()]
        return getsizeof(value) + sum(_bytes(one, seen) for one in held)
    if isinstance(value, (tuple, list, frozenset, set)):
        return getsizeof(value) + sum(_bytes(one, seen) for one in value)
    return getsizeof(value)
