"""Snapshots as differences: what a tick changed, entity by entity.

A frame holds each entity of a snapshot as bytes under (section, key), in order. A delta takes
one frame to the next; a key frame is the delta from nothing. Decoding gives back the snapshot
byte for byte, order and repeated keys included.
"""

import zlib
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import msgspec

from scheduler.planning.snapshot import Snapshot

KEYS: dict[str, tuple[str, ...]] = {
    "nodes": ("name",),
    "roles": ("key",),
    "replicas": ("id",),
    "jobs": ("id",),
    "units": ("key",),
    "loans": ("id",),
    "reservations": ("id",),
    "stops": ("job",),
    "signals": ("role",),
    "capacities": ("role", "gpu_model"),
    "starts": ("role", "tier"),
}
"""The sections of a snapshot, and the fields that tell their entities apart."""

_LEVEL = 1  # of zlib: a tick has milliseconds, and the disk is patient
_ENCODE = msgspec.msgpack.Encoder().encode
_HINTS: dict[str, Any] = get_type_hints(Snapshot)
_DECODERS = {
    name: msgspec.msgpack.Decoder(get_args(hint)[0] if name in KEYS else hint)
    for name, hint in _HINTS.items()
}


class Entry(msgspec.Struct, frozen=True):
    """An entity and its bytes; the value spares encoding it again while it stays the same."""

    value: object
    body: bytes


Frame = dict[str, dict[str, Entry]]


class Change(msgspec.Struct, frozen=True, array_like=True):
    """What became of one section; new keys stand in `put` in the order of the section."""

    put: dict[str, bytes]
    removed: tuple[str, ...] = ()
    order: tuple[str, ...] | None = None
    """All keys, where the order does not follow from the change alone."""


def frame_of(snapshot: Snapshot, before: Frame) -> Frame:
    """Return the snapshot's frame; values that `before` holds are not encoded again."""
    return {
        section: {
            key: _entry(value, before.get(section, {}).get(key))
            for key, value in _entities(snapshot, section)
        }
        for section in _HINTS
    }


def delta(before: Frame, after: Frame) -> bytes:
    """Return what takes `before` to `after`, compressed."""
    changes = {
        section: change
        for section, entries in after.items()
        if (change := _change(before.get(section, {}), entries)) is not None
    }
    return zlib.compress(_ENCODE(changes), _LEVEL)


def applied(before: dict[str, dict[str, bytes]], body: bytes) -> dict[str, dict[str, bytes]]:
    """Return the bodies per section and key after one more delta."""
    changes = msgspec.msgpack.decode(zlib.decompress(body), type=dict[str, Change])
    return before | {
        section: _after(before.get(section, {}), change) for section, change in changes.items()
    }


def snapshot_of(bodies: dict[str, dict[str, bytes]]) -> Snapshot:
    """Return the snapshot that a frame's bodies stand for."""
    fields: dict[str, Any] = {}
    for section, decoder in _DECODERS.items():
        values = tuple(decoder.decode(body) for body in bodies.get(section, {}).values())
        fields[section] = values if section in KEYS else values[0]
    return Snapshot(**fields)


def _entities(snapshot: Snapshot, section: str) -> Iterator[tuple[str, object]]:
    """Yield (key, entity); a key that occurs again gets its count, so that nothing is lost."""
    if section not in KEYS:
        yield "", getattr(snapshot, section)
        return
    counts: dict[str, int] = {}
    for value in getattr(snapshot, section):
        key = "\n".join(getattr(value, field) for field in KEYS[section])
        count = counts[key] = counts.get(key, 0) + 1
        yield key if count == 1 else f"{key}\n\n{count}", value


def _entry(value: object, before: Entry | None) -> Entry:
    if before is not None and before.value is value:
        return before
    return Entry(value, _ENCODE(value))


def _change(before: dict[str, Entry], after: dict[str, Entry]) -> Change | None:
    put = {
        key: entry.body
        for key, entry in after.items()
        if key not in before or before[key].body != entry.body
    }
    removed = tuple(key for key in before if key not in after)
    followed = [
        *(key for key in before if key in after),
        *(key for key in put if key not in before),
    ]
    order = None if followed == list(after) else tuple(after)
    return Change(put, removed, order) if put or removed or order else None


def _after(before: dict[str, bytes], change: Change) -> dict[str, bytes]:
    kept = {key: body for key, body in before.items() if key not in change.removed}
    merged = kept | change.put
    return merged if change.order is None else {key: merged[key] for key in change.order}
