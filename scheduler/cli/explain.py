"""`scalerctl explain OBJECT`: what it is, who holds what, and why."""

import argparse
from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from scheduler.cli import words
from scheduler.cli.plan import REASON_HEADERS, reason_rows
from scheduler.cli.server import add_server, named, show
from scheduler.cli.status import ACTION_HEADERS, action_rows
from scheduler.cli.terminal import CommandError, Subparsers, tables
from scheduler.daemon.documents.shapes import Explanation, Fact, Holding


def add(subparsers: Subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser("explain", help="what one object is, and why")
    parser.add_argument(
        "object",
        metavar="OBJECT",
        help="a role, replica, job, node, loan or reservation; job/NAME says which kind is meant",
    )
    add_server(parser)
    parser.set_defaults(handle=handle)


def handle(args: argparse.Namespace) -> int:
    """Show the explanation."""
    if not args.object:
        raise CommandError("OBJECT: is empty; name one")
    show(args, named("/v1/explain", args.object), Explanation, tell)
    return 0


def tell(told: Explanation) -> Iterator[Table | Text]:
    """Yield the sentence, the facts, who holds what, the reasons, and the remarks."""
    yield Text(f"{told.kind}: {told.sentence}", "bold")
    yield from tables(
        (("FACT", "VALUE"), [(_name(fact), _value(fact)) for fact in told.facts]),
        (("HOLDER", "NODE", "GPUS"), [(h.holder, h.node, _gpus(h)) for h in told.holdings]),
        (REASON_HEADERS, reason_rows(told.reasons)),
        (ACTION_HEADERS, action_rows(told.actions)),
    )
    if told.remarks:
        yield Text("\n".join(told.remarks))


def _gpus(held: Holding) -> str:
    return words.milli(1000 * held.gpus + held.share_milli)


def _name(fact: Fact) -> str:
    return fact.name.removesuffix("_seconds").replace("_", " ")


def _value(fact: Fact) -> str:
    match fact.value:
        case bool():
            return "yes" if fact.value else "no"
        case float():
            return words.span(fact.value)
        case int() | str():
            return str(fact.value) or words.UNKNOWN
