"""Values made of arrays whose first axis is the series: some of their rows, and several joined.

A value is an array, a tuple of values, or a Struct of values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from forecasting.grid import Ints

Value = TypeVar("Value")


def take(value: Value, rows: Ints) -> Value:
    """The value with only these rows."""
    return cast("Value", _mapped(lambda array: array[rows], value))


def joined(parts: list[Value]) -> Value:
    """One value with the rows of all parts, in their order."""
    if len(parts) == 1:
        return parts[0]
    return cast("Value", _mapped(lambda *arrays: np.concatenate(arrays), *parts))


def _mapped(change: Callable[..., NDArray[Any]], *parts: Any) -> Any:  # noqa: ANN401 -- any nesting
    """Apply `change` to the arrays at the same place in values of the same shape."""
    first = parts[0]
    if isinstance(first, np.ndarray):
        return change(*parts)
    if isinstance(first, tuple):
        return tuple(_mapped(change, *column) for column in zip(*parts, strict=True))
    columns = zip(*(msgspec.structs.astuple(part) for part in parts), strict=True)
    return type(first)(*(_mapped(change, *column) for column in columns))
