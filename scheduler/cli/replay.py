"""`scalerctl replay TICK`: whether a recorded plan follows from what was recorded with it.

Asks the running daemon, or reads its ledger's file where there is none. Ends with status 1 where
the plan does not follow.
"""

import argparse
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from rich.table import Table
from rich.text import Text

from scheduler.adapters.ledger import LedgerFormatError, open_ledger
from scheduler.cli import words
from scheduler.cli.server import add_server, show
from scheduler.cli.terminal import (
    CommandError,
    Subparsers,
    print_document,
    print_parts,
    table,
)
from scheduler.daemon.api import MOST_DIGITS, replay_tick
from scheduler.planning.replaying import Replay
from scheduler.ports import Tick

UNFAITHFUL = 1
WIDEST = 60
"""Characters of a value in a table; `-o json` has the whole."""


def add(subparsers: Subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser("replay", help="compute a recorded tick again")
    parser.add_argument("tick", metavar="TICK", type=_number, help="number of the tick")
    parser.add_argument(
        "--ledger", metavar="FILE", type=Path, help="read this ledger instead of asking a daemon"
    )
    add_server(parser)
    parser.set_defaults(handle=handle)


def handle(args: argparse.Namespace) -> int:
    """Replay one tick and show what differs."""
    if args.ledger is None:
        replayed = show(args, f"/v1/replay/{args.tick}", Replay, tell)
    else:
        replayed = replay_tick(_stored(args.ledger, args.tick))
        if args.output == "table":
            print_parts(tell(replayed))
        else:
            print_document(msgspec.json.encode(replayed), args.output)
    return 0 if replayed.faithful else UNFAITHFUL


def tell(replayed: Replay) -> Iterator[Table | Text]:
    """Yield the verdict, then each refusal and difference."""
    tick = f"tick {replayed.tick} ({replayed.effort}, plan {replayed.source})"
    if replayed.faithful:
        verified = f"packings verified: {replayed.packings}"
        yield Text(f"{tick}: nothing differs; {verified}", words.GOOD)
        return
    counts = f"wrong packings: {len(replayed.refused)}, differences: {len(replayed.differences)}"
    yield Text(f"{tick}: {counts}", words.BAD)
    if replayed.refused:
        yield Text("\n".join(replayed.refused))
    if replayed.differences:
        rows = [(d.path, _cut(d.stored), _cut(d.recomputed)) for d in replayed.differences]
        yield table(("PATH", "STORED", "RECOMPUTED"), rows)


def _cut(value: str) -> str:
    return value if len(value) <= WIDEST else value[: WIDEST - 1] + "…"


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > MOST_DIGITS:
        raise argparse.ArgumentTypeError(f"{text!r} is no tick number")
    return int(text)


def _stored(path: Path, number: int) -> Tick:
    if not path.is_file():
        raise CommandError(f"--ledger: {path} is no file; name a daemon's ledger")
    try:
        with open_ledger(path) as ledger:
            return ledger.tick(number)
    except LookupError as error:
        raise CommandError(str(error)) from None
    except LedgerFormatError as error:
        raise CommandError(f"--ledger: {error}") from None
    except sqlite3.Error as error:
        raise CommandError(f"--ledger: {path}: {error}; name a daemon's ledger") from None
    except (msgspec.MsgspecError, zlib.error) as error:
        raise CommandError(f"--ledger: tick {number} cannot be read: {error}") from None
