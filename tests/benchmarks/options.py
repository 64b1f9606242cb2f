"""The options that benchmarks share: wrong use is one line and status 2, as in `scalerctl`."""

from argparse import ArgumentTypeError
from typing import NoReturn

from scheduler.cli.terminal import CommandError, Parser

WRONG_USE = 2


class Options(Parser):
    """The arguments of `python -m tests.benchmarks.NAME`."""

    def __init__(self, name: str, description: str | None) -> None:
        """Show the first line of `description` as help."""
        first = (description or "").splitlines()[0]
        super().__init__(prog=f"python -m tests.benchmarks.{name}", description=first)

    def error(self, message: str) -> NoReturn:
        """Print the line and end."""
        try:
            super().error(message)
        except CommandError as error:
            self.exit(WRONG_USE, f"{error}\n")


def seeds(text: str) -> tuple[int, ...]:
    """The seeds of `42-51` or `1,2,7-9`; argparse.ArgumentTypeError where it holds none."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            raise ArgumentTypeError(f"{part!r} is no seed; give 42, 1,2 or 42-51")
        found.extend(range(int(first), int(last or first) + 1))
    if not found:
        raise ArgumentTypeError(f"{text!r} holds no seed; give the smaller number first")
    return tuple(found)


def share(text: str) -> float:
    """The number from 0 to 1 in `text`; argparse.ArgumentTypeError where it is none."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"{text!r} is no share; give a number from 0 to 1")
    return value
