"""The `--seeds` of every benchmark that draws worlds."""

import argparse


def seeds(text: str) -> tuple[int, ...]:
    """The seeds of `42-51` or `1,2,7-9`; argparse.ArgumentTypeError where it holds none."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            raise argparse.ArgumentTypeError(f"{part!r} is no seed; give 42, 1,2 or 42-51")
        found.extend(range(int(first), int(last or first) + 1))
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} holds no seed; give the smaller number first")
    return tuple(found)
