"""What every command shares: how wrong use is said, and how a document is shown.

A document goes to stdout as a table, JSON or YAML and nothing else goes there; an error is one
line on stderr for each thing that is wrong. Tables keep kubectl's habits: upper-case headers, no
boxes, `-` for what is unknown; colour only on a terminal.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn, TypeAlias

import msgspec
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

PROGRAM = "scalerctl"
FORMATS = ("table", "json", "yaml")
COLUMNS = 4096
"""Wider than any line, so that a sentence is never cut; a terminal wraps it."""

Subparsers: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 - it has no public name
Cell = str | Text


class CommandError(ValueError):
    """Wrong use or bad input; each of `errors` is `field: what is wrong; fix`."""

    def __init__(self, *errors: str) -> None:
        """Keep the lines, one per error."""
        super().__init__("; ".join(errors))
        self.errors = errors


class Parser(argparse.ArgumentParser):
    """Says wrong use in one line, as every other error is said."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - argparse's own, passed on
        """Take argparse's options; abbreviated flags are refused."""
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise CommandError(f"{_sentence(message)}; see '{self.prog} --help'")


def _sentence(message: str) -> str:
    for start, what in (
        ("the following arguments are required: ", "is missing"),
        ("unrecognized arguments: ", "is not known here"),
    ):
        if message.startswith(start):
            return f"{message.removeprefix(start)}: {what}"
    return message.removeprefix("argument ")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add `-o`."""
    parser.add_argument(
        "-o", "--output", choices=FORMATS, default="table", help="form of the answer"
    )


def print_document(body: bytes, output: str) -> None:
    """Print a JSON document as JSON or YAML."""
    if output == "yaml":
        text = yaml.safe_dump(msgspec.json.decode(body), sort_keys=False, allow_unicode=True)
    else:
        text = msgspec.json.format(body, indent=2).decode()
    sys.stdout.write(text.rstrip("\n") + "\n")


def print_parts(parts: Iterable[Table | Text]) -> None:
    """Print tables and lines, one empty line between them."""
    console = Console(file=sys.stdout, width=COLUMNS, highlight=False)
    with console.capture() as capture:
        for number, part in enumerate(parts):
            if number:
                console.print()
            console.print(part, soft_wrap=isinstance(part, Text))
    lines = (line.rstrip() for line in capture.get().splitlines())
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def table(headers: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Table:
    """Return a table without lines, each column as wide as it needs."""
    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="")
    for header in headers:
        made.add_column(header, no_wrap=True)
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return made


def tables(*pairs: tuple[Sequence[str], Sequence[Sequence[Cell]]]) -> Iterator[Table]:
    """Yield a table for each pair of headers and rows, leaving out those without rows."""
    for headers, rows in pairs:
        if rows:
            yield table(headers, rows)
