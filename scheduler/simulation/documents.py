"""Reads the input files of a simulation: YAML into checked values, every error at once.

The first step of every loader here. A document that is refused raises a subclass of
`DocumentError` whose message names the file, the field's path and what was given.
"""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from scheduler.planning.mistakes import error_lines

Model = TypeVar("Model")


class DocumentError(ValueError):
    """An input file that was refused; `errors` holds one line per field."""

    def __init__(self, errors: tuple[str, ...]) -> None:
        """Keep the lines and join them as the message."""
        super().__init__("; ".join(errors))
        self.errors = errors


def read_text(path: Path, error: type[DocumentError]) -> str:
    """Return the file's text; raise `error` where it cannot be read as UTF-8."""
    if not path.name:
        raise error(("path: is empty; name a file",))
    try:
        return path.read_text(encoding="utf-8")
    except OSError as fault:
        raise error((f"{path}: cannot be read: {fault.strerror}",)) from None
    except UnicodeDecodeError:
        raise error((f"{path}: is not UTF-8 text",)) from None


def parse_yaml(text: str, name: str, error: type[DocumentError]) -> object:
    """Return the document; raise `error` with the line where it is no YAML."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark is not None else ""
        raise error((f"{name}:{where or ' document'}: is not YAML",)) from None


def checked(kind: type[Model], document: object, error: type[DocumentError]) -> Model:
    """Return `document` as a `kind`; raise `error` with one line per wrong field."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    try:
        value: Model = adapter.validate_python(document)
    except ValidationError as fault:
        raise error(error_lines(fault, kind)) from None
    return value
