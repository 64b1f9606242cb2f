"""The fixture that uses every item of a snapshot: that it does, and that all of it is stored."""

from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from scheduler.planning.snapshot import SCHEMA, Snapshot
from tests.fixtures.everything import full_snapshot

StructType = type[msgspec.Struct]


def structs_in(hint: Any) -> Iterator[StructType]:  # noqa: ANN401
    """Every struct named in a type annotation, not looking into the structs."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        yield hint
    for argument in get_args(hint):
        yield from structs_in(argument)


def reachable(root: StructType) -> dict[StructType, dict[str, Any]]:
    """Every struct reachable from `root` with its fields' annotations, in order of discovery."""
    found: dict[StructType, dict[str, Any]] = {}
    waiting = [root]
    while waiting:
        struct = waiting.pop()
        if struct not in found:
            found[struct] = get_type_hints(struct)
            waiting += [one for hint in found[struct].values() for one in structs_in(hint)]
    return found


def values_in(value: object) -> Iterator[msgspec.Struct]:
    """Every struct inside a value, itself included."""
    if isinstance(value, msgspec.Struct):
        yield value
        value = tuple(getattr(value, name) for name in value.__struct_fields__)
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple):
        for item in value:
            yield from values_in(item)


def literals_in(hint: Any) -> set[object]:  # noqa: ANN401
    """The values of a literal, optional or not; nothing for other types."""
    if get_origin(hint) is Literal:
        return set(get_args(hint))
    if get_origin(hint) in {Union, UnionType}:
        return {value for one in get_args(hint) for value in literals_in(one)}
    return set()


def default_of(field: msgspec.structs.FieldInfo) -> object:
    """The value that a field has when nobody sets it; None where it must be set."""
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return None if field.default is msgspec.NODEFAULT else field.default


def unused(root: msgspec.Struct) -> list[str]:
    """What a value leaves untried: fields always empty or at their default, unused literals."""
    values = list(values_in(root))
    missing = []
    for struct, hints in reachable(type(root)).items():
        of_kind = [value for value in values if type(value) is struct]
        for field in msgspec.structs.fields(struct):
            name = f"{struct.__name__}.{field.name}"
            plain: tuple[object, ...] = (default_of(field), None, (), {})
            taken = [getattr(value, field.name) for value in of_kind]
            if all(value in plain for value in taken):
                missing.append(name)
            literals = literals_in(hints[field.name])
            missing += [f"{name}={one}" for one in literals if one not in taken]
    return sorted(missing)


def test_every_item_of_a_snapshot_is_used() -> None:
    assert unused(full_snapshot()) == ["Snapshot.schema"]  # which is SCHEMA and nothing else
    assert full_snapshot().schema == SCHEMA


@pytest.mark.parametrize("section", ["units", "stops", "forecasts"])
def test_a_section_left_out_is_noticed(section: str) -> None:
    empty = {section: None if section == "forecasts" else ()}
    assert f"Snapshot.{section}" in unused(msgspec.structs.replace(full_snapshot(), **empty))


def test_a_field_left_at_its_default_is_noticed() -> None:
    snapshot = full_snapshot()
    plain = tuple(msgspec.structs.replace(node, spot=False) for node in snapshot.nodes)
    assert "Node.spot" in unused(msgspec.structs.replace(snapshot, nodes=plain))


def test_it_round_trips_through_msgpack_and_json() -> None:
    snapshot = full_snapshot()
    for codec in (msgspec.msgpack, msgspec.json):
        encoded = codec.encode(snapshot)
        decoded = codec.decode(encoded, type=Snapshot)
        assert decoded == snapshot
        assert codec.encode(decoded) == encoded
