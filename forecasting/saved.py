"""A state as bytes and back, so that what was learnt survives a restart.

    packed(state) -> bytes;  unpacked(bytes, begun) -> the same state, or SavedStateError

Arrays go as raw bytes with their type and shape, everything else as msgpack. What comes back is
checked against a state that this code makes itself: same fields, same types, same shape of every
array but for the number of series; then one forecast is rehearsed. A state that other code has
learnt does not pass. Raise `VERSION` where the meaning of a number changes and its shape does not.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from forecasting.forecast import State, forecast
from forecasting.values import Sample

VERSION = 9
_FAST = 1


class SavedStateError(ValueError):
    """Bytes that are no state this code can go on from; the message says why, as one sentence."""


class _Array(msgspec.Struct, frozen=True, array_like=True):
    dtype: str
    shape: tuple[int, ...]
    data: bytes


def packed(state: State) -> bytes:
    """The state as bytes; the same state gives the same bytes."""
    return zlib.compress(msgspec.msgpack.encode(state, enc_hook=_encoded), _FAST)


def unpacked(body: bytes, begun: State) -> State:
    """The state in `packed` bytes, for a forecaster that would otherwise begin as `begun`.

    A state that other members had learnt keeps its observations alone; the next forecast learns
    from them. SavedStateError for anything that is no whole state.
    """
    try:
        state = msgspec.msgpack.decode(zlib.decompress(body), type=State, dec_hook=_decoded)
    except zlib.error:
        raise SavedStateError("the state cannot be decompressed") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SavedStateError(f"the state has another form ({error})") from None
    if (state.grid, state.sums) != (begun.grid, begun.sums):
        raise SavedStateError("the state has other bins, horizons, leads, quantiles or sums")
    state = msgspec.structs.replace(state, sums=begun.sums)
    if state.members != begun.members:
        state = msgspec.structs.replace(begun, store=state.store)
    _check(state, begun)
    _rehearse(state)
    return state


def end_seconds(state: State) -> float:
    """The end of the newest closed bin."""
    return state.store.end * state.grid.bin_seconds


def _encoded(value: object) -> _Array:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__} cannot be saved")
    return _Array(value.dtype.str, value.shape, value.tobytes())


def _decoded(kind: type, value: object) -> NDArray[Any]:
    """The array of an annotation such as NDArray[np.float32]; it cannot be written to."""
    read = msgspec.convert(value, _Array)
    (scalar,) = get_args(get_args(kind)[1])
    dtype = np.dtype(scalar)
    if read.dtype != dtype.str:
        raise ValueError(f"an array of {read.dtype} where {dtype.str} belongs")
    if any(size < 0 for size in read.shape):
        raise ValueError(f"an array of shape {read.shape}")
    return np.frombuffer(read.data, dtype).reshape(read.shape)


def _check(state: State, begun: State) -> None:
    """Compare with a state of one series that is made here and now."""
    width = begun.grid.bin_seconds
    _, own = forecast(begun, [Sample("a", 0.0, width, 1.0)], width)
    if len(set(state.store.keys)) != len(state.store.keys):
        raise SavedStateError("the state names a series twice")
    rows = len(state.store.keys)
    parts = [
        (state.store, own.store),
        (state.knowledge, own.knowledge),
        (state.feedback, own.feedback),
        (state.strays, own.strays),
    ]
    for saved, made in parts:
        shapes = [(rows, *array.shape[1:]) for array in _arrays(made)]
        if saved is not None and [array.shape for array in _arrays(saved)] != shapes:
            raise SavedStateError("the state was learnt by another version of the forecaster")


def _rehearse(state: State) -> None:
    """Forecast once without anything new, so that what cannot be gone on from fails here."""
    if state.knowledge is None:
        return
    try:
        forecast(state, (), end_seconds(state))
    except Exception as error:  # noqa: BLE001 -- whatever fails, it must not fail in the tick
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SavedStateError(f"the state cannot be gone on from ({why})") from None


def _arrays(value: object) -> Iterator[NDArray[Any]]:
    """Every array inside, in order of fields."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple):
        for one in value:
            yield from _arrays(one)
    elif isinstance(value, msgspec.Struct):
        yield from _arrays(msgspec.structs.astuple(value))
