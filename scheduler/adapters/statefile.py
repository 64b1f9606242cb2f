"""The forecaster's state in a file beside the ledger: written whole or not at all.

    magic, version, length and SHA-256 of what follows, the packed state

A new file is written beside the old one, forced to disk and renamed over it, so that a full disk
or a power cut leaves the old one as it was. A file that is damaged, foreign, of another version
or of a time to come is refused with the reason; the forecaster then rebuilds what it can from the
demand's history.
"""

import hashlib
import os
import struct
from pathlib import Path

from forecasting import State
from forecasting.saved import VERSION, SavedStateError, end_seconds, packed, unpacked

SUFFIX = ".forecast"
_HEAD = struct.Struct(">8sIQ32s")
_MAGIC = b"tidalfc\n"


class StateFileError(ValueError):
    """A file that cannot be gone on from; the message names it and says why."""


def beside(ledger: Path) -> Path:
    """Return where the state of the daemon with this ledger lives."""
    return ledger.with_name(ledger.name + SUFFIX)


def save(path: Path, state: State) -> None:
    """Replace the file; raise OSError where that fails, and then the old file stands."""
    body = packed(state)
    head = _HEAD.pack(_MAGIC, VERSION, len(body), hashlib.sha256(body).digest())
    fresh = path.with_name(path.name + ".new")
    try:
        with fresh.open("wb") as file:
            file.write(head)
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def load(path: Path, begun: State, now_seconds: float) -> State | None:
    """Return the state to go on from instead of `begun`; None where there is no file.

    Raises `StateFileError` for a file that cannot be gone on from at `now_seconds`, or not read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateFileError(f"{path} cannot be read: {error.strerror}") from None
    try:
        state = unpacked(_body(content), begun)
    except SavedStateError as error:
        raise StateFileError(f"{path}: {error}") from None
    if end_seconds(state) > now_seconds:
        ahead = end_seconds(state) - now_seconds
        raise StateFileError(f"{path}: the state ends {ahead:.0f} s after now, in another world")
    return state


def _body(content: bytes) -> bytes:
    if len(content) < _HEAD.size or not content.startswith(_MAGIC):
        raise SavedStateError("it is no state of a forecaster")
    _, version, length, digest = _HEAD.unpack_from(content)
    if version != VERSION:
        raise SavedStateError(f"it has version {version}, and this Tidal reads version {VERSION}")
    body = content[_HEAD.size :]
    if len(body) != length or hashlib.sha256(body).digest() != digest:
        raise SavedStateError("it is damaged")
    return body
