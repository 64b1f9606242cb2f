"""Readers of argument values, shared by the commands; each error names the value and the form.

An `argparse` type raises `ArgumentTypeError`, which the parser turns into one line.
"""

import hashlib
import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

Value = TypeVar("Value")
UNIT_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration(text: str) -> float:
    """Return seconds of `90s`, `10m`, `6h` or `2d`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not found:
        raise ArgumentTypeError(f"{text!r} is no duration; write 90s, 10m, 6h or 2d")
    return float(found[1]) * UNIT_SECONDS[found[2]]


def positive(text: str) -> float:
    """Return a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def count(text: str) -> int:
    """Return a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def seed(text: str) -> int:
    """Return a whole number of 0 or more."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def named_path(text: str) -> tuple[str, Path]:
    """Return the parts of NAME=FILE."""
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise ArgumentTypeError(f"{text!r} is not MODEL=FILE")
    if not re.fullmatch(r"[a-zA-Z0-9]([-a-zA-Z0-9._]*[a-zA-Z0-9])?", name):
        raise ArgumentTypeError(f"{name!r} is no model name; use letters, digits, - . _")
    return name, Path(path)


def named_share(text: str) -> tuple[str, float]:
    """Return the parts of NAME=SHARE."""
    name, equals, share = text.partition("=")
    if not (name and equals):
        raise ArgumentTypeError(f"{text!r} is not MODEL=SHARE")
    return name, positive(share)


def names_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a reader of a comma-separated list of known names."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise ArgumentTypeError(f"{name!r} is unknown; use {', '.join(known)}")
            if names.count(name) > 1:
                raise ArgumentTypeError(f"{name!r} is given twice; give each name once")
        return names

    return read


def once(pairs: Sequence[tuple[str, Value]], option: str) -> dict[str, Value]:
    """Return pairs as a mapping; a name given twice is an error."""
    found: dict[str, Value] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{option}: {name} is given twice; give each model once")
        found[name] = value
    return found


def sha256(path: Path) -> str:
    """Return the hash of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
