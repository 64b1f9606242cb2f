"""`scalerctl plan`: what the last plan does, what it keeps free, and why."""

import argparse
from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from scheduler.cli import words
from scheduler.cli.server import add_server, show
from scheduler.cli.status import ACTION_HEADERS, action_rows
from scheduler.cli.terminal import Cell, Subparsers, table, tables
from scheduler.daemon.documents.shapes import Decision
from scheduler.planning.actions import Reason

REASON_HEADERS = ("STEP", "BEFORE", "AFTER", "WHY")


def add(subparsers: Subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser("plan", help="the last plan, with the reason of every step")
    add_server(parser)
    parser.set_defaults(handle=handle)


def handle(args: argparse.Namespace) -> int:
    """Show the plan."""
    show(args, "/v1/plan", Decision, tell)
    return 0


def tell(plan: Decision) -> Iterator[Table | Text]:
    """Yield the tables, then what has no place."""
    yield table(
        ("TICK", "SOURCE", "EFFORT", "MODE", "LENDABLE", "SUMMARY"),
        [_head(plan)],
    )
    yield from tables(
        (ACTION_HEADERS, action_rows(plan.actions)),
        (("ROLE", *REASON_HEADERS), _sizing_rows(plan)),
        (("RESERVED FOR", "WHERE", "EXPIRES IN", "RESERVATION"), _reservation_rows(plan)),
        (("QUESTION", "ASKED", "PLACED", "STOPPED", "ANSWERED BY", "GAP"), _answer_rows(plan)),
    )
    if plan.unplaced:
        yield Text("\n".join(plan.unplaced), words.BAD)


def _head(plan: Decision) -> tuple[Cell, ...]:
    lendable = str(plan.lendable_gpus)
    return (str(plan.tick), plan.source, plan.effort, plan.mode, lendable, plan.summary)


def reason_rows(reasons: Sequence[Reason]) -> list[tuple[Cell, ...]]:
    """Return one row per step, under `REASON_HEADERS`."""
    return [
        (one.step, _amount(one, one.before), _amount(one, one.after), one.sentence)
        for one in reasons
    ]


def _amount(reason: Reason, value: float) -> str:
    if reason.unit == "tokens_per_second":
        return f"{value:,.0f} tok/s"
    return words.milli(round(value))


def _sizing_rows(plan: Decision) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for sizing in plan.sizings:
        held, wanted = words.milli(sizing.held_milli), words.milli(sizing.wanted_milli)
        rows += [(sizing.role, *row) for row in reason_rows(sizing.reasons)]
        rows.append((sizing.role, "wanted", held, wanted, "replicas held and wanted"))
    return rows


def _reservation_rows(plan: Decision) -> list[tuple[Cell, ...]]:
    return [
        (
            one.owner,
            words.parts(one.parts, one.share.milli),
            words.span(one.expires_seconds - plan.now_seconds),
            one.id,
        )
        for one in plan.reservations
    ]


def _answer_rows(plan: Decision) -> list[tuple[Cell, ...]]:
    return [
        (
            one.question,
            str(one.asked),
            str(one.placed),
            ",".join(one.stopped) or words.UNKNOWN,
            one.rung,
            words.ratio(one.gap),
        )
        for one in plan.answers
    ]
