"""Kubernetes quantities as integers: `4`, `1500m`, `1.5Gi`, `2e3`.

A value that is no whole number of the wanted unit is rounded up where it is an amount asked for,
and down where it is room that a node has, so that rounding never overcommits.
"""

import re
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor

MIB = 1024**2
MAX_EXPONENT = 24
"""Beyond this a quantity is a mistake; Kubernetes itself holds no value over 2^63."""

_SHAPE = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)(?:([KMGTPE]i|[numkMGTPE]?)|[eE]([+-]?\d{1,3}))")
_BINARY = {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", 1)}
_DECIMAL = {letter: Fraction(10) ** (3 * power) for power, letter in enumerate("num_kMGTPE", -3)}
_SUFFIXES: dict[str, Fraction | int] = {"": 1, **_BINARY, **_DECIMAL}


@lru_cache(maxsize=16384)
def exact(text: str) -> Fraction:
    """Return the value in the quantity's base unit. Raises ValueError for no quantity."""
    found = _SHAPE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:60]!r} is not a Kubernetes quantity such as 4, 500m or 1.5Gi")
    sign, digits, suffix, exponent = found.groups()
    power = int(exponent or 0)
    if abs(power) > MAX_EXPONENT:
        raise ValueError(f"{text[:60]!r} is beyond what a Kubernetes quantity may hold")
    value = Fraction(digits) * (Fraction(_SUFFIXES[suffix or ""]) * Fraction(10) ** power)
    return -value if sign == "-" else value


@lru_cache(maxsize=4096)
def whole_up(text: str) -> int:
    """Return the value, rounded up."""
    return ceil(exact(text))


@lru_cache(maxsize=4096)
def milli_up(text: str) -> int:
    """Return thousandths, rounded up."""
    return ceil(exact(text) * 1000)


@lru_cache(maxsize=4096)
def mib_up(text: str) -> int:
    """Return MiB of a quantity of bytes, rounded up."""
    return ceil(exact(text) / MIB)


def whole_down(text: str) -> int:
    """Return the value, rounded down."""
    return floor(exact(text))


def milli_down(text: str) -> int:
    """Return thousandths, rounded down."""
    return floor(exact(text) * 1000)


def mib_down(text: str) -> int:
    """Return MiB of a quantity of bytes, rounded down."""
    return floor(exact(text) / MIB)
