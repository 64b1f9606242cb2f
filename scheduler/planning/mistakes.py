"""What is wrong with a document that somebody wrote, a line per field.

The last step of checking a policy or an input file: pydantic finds the errors, here they become
sentences. Of an unknown key the line names the one that was likely meant.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_GREATEST_LINE = 300
_MOST_KEYS = 12


def error_lines(error: ValidationError, kind: object) -> tuple[str, ...]:
    """Return one line per error of a `kind`: the field's path, what is wrong, what was given."""
    return tuple(_line(one, kind)[:_GREATEST_LINE] for one in error.errors())


def _line(one: ErrorDetails, kind: object) -> str:
    path = ".".join(str(part) for part in one["loc"]) or "(document)"
    match one["type"]:
        case "missing":
            return f"{path}: is missing"
        case "extra_forbidden":
            return f"{path}: {_unknown(str(one['loc'][-1]), _holder(kind, one['loc'][:-1]))}"
        case "too_short" if not one["input"]:
            return f"{path}: is empty; give at least {one['ctx']['min_length']}"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"{path}: must be a mapping (given: {one['input']!r})"
        case _:
            said = one["msg"].removeprefix("Value error, ").replace("Input should be", "must be", 1)
            return f"{path}: {said} (given: {one['input']!r})"


def _unknown(key: str, holder: type[BaseModel] | None) -> str:
    known = sorted(holder.model_fields) if holder else []
    near = get_close_matches(key, known, 1)
    if near:
        return f"is no key here; {near[0]!r} is"
    if 0 < len(known) <= _MOST_KEYS:
        return f"is no key here; these are: {', '.join(known)}"
    return "is no key here"


def _holder(kind: object, path: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The section at `path` in a `kind`; None where its value leaves the choice open."""
    sections = list(_sections(kind))
    for part in path:
        if len(sections) != 1:
            return None
        field = sections[0].model_fields.get(str(part))
        if field is not None:  # else the key of a mapping or the place in a list
            sections = list(_sections(field.annotation))
    return sections[0] if len(sections) == 1 else None


def _sections(kind: object) -> Iterator[type[BaseModel]]:
    """Every section that an annotation names."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for inner in get_args(kind):
        yield from _sections(inner)
