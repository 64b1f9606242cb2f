"""`scalerctl status`: is all well, and where does every GPU go."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from scheduler.cli import words
from scheduler.cli.server import add_server, show
from scheduler.cli.terminal import Cell, CommandError, Subparsers, table, tables
from scheduler.daemon.documents.shapes import ActionLine, RoleLine, Status
from scheduler.ports import GpuUse

REFRESH_SECONDS = 2.0
CLEAR = "\x1b[H\x1b[2J\x1b[3J"
ROLE_HEADERS = (
    *("ROLE", "READY", "STARTING", "PENDING", "DRAINING", "WANTED", "LACKING"),
    *("TOKENS/S", "CAPACITY", "UTILISATION", "LATE", "METRICS"),
)
ROOM_HEADERS = ("GPU", "IDLE GPUS", "OF NO USE", "WORTH OF ROOM")
BATCH_HEADERS = (
    *("WAITING", "RUNNING", "NOTIFIED", "STOPPING", "LENT", "LENDABLE", "LOANS"),
    "NEXT RETURN",
)
ACTION_HEADERS = ("ACTION", "TARGET", "CODE", "APPLIED", "WHY")


def add(subparsers: Subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser("status", help="is all well, and where does every GPU go")
    parser.add_argument("-w", "--watch", action="store_true", help="repeat until Ctrl-C")
    add_server(parser)
    parser.set_defaults(handle=handle)


def handle(args: argparse.Namespace) -> int:
    """Show the status once, or again and again."""
    if args.watch and args.output != "table":
        raise CommandError("--watch: repeats a table; leave it or -o out")
    show(args, "/v1/status", Status, tell)
    while args.watch:
        sys.stdout.flush()
        time.sleep(REFRESH_SECONDS)
        if sys.stdout.isatty():
            sys.stdout.write(CLEAR)
        show(args, "/v1/status", Status, tell)
    return 0


def tell(status: Status) -> Iterator[Table | Text]:
    """Yield the tables, then what is wrong in sentences."""
    yield table(
        ("MODE", "TICK", "PLAN", "AGE", "FULL PLAN", "EXTENDER", "SUMMARY"), [_head(status)]
    )
    yield _gpus(status)
    yield from tables(
        (
            ROLE_HEADERS,
            [_role(line) for line in status.roles],
        ),
        (
            BATCH_HEADERS,
            [_batch(status)],
        ),
        (ROOM_HEADERS, _rooms(status)),
        (ACTION_HEADERS, action_rows(status.actions)),
    )
    if status.leadership:
        yield Text(status.leadership)
    wrong = Text("\n").join(_wrong(status))
    if wrong:
        yield wrong
    if status.shared_gpus:
        left = words.milli(status.shared_idle_milli_gpus)
        yield Text(
            f"{status.shared_gpus} GPUs are shared; {left} of them may be had in parts.", "dim"
        )
    yield Text(f"ALLOCATED: {status.allocated_utilisation_note}.", "dim")
    if status.gpu_use is not None:
        yield Text(_use(status.gpu_use), "dim")


def _use(use: GpuUse) -> str:
    """Return what DCGM says, each number under its metric's name."""
    measured = []
    if use.gpu_util is not None:
        measured.append(f"GPU_UTIL {use.gpu_util:.0%} of {use.gpus} GPUs")
    if use.active is not None:
        measured.append(f"{use.active_metric} {use.active:.0%}")
    return "; ".join([*measured, use.note] if use.note else measured)


def action_rows(actions: Sequence[ActionLine]) -> list[tuple[Cell, ...]]:
    """Return one row per action, under `ACTION_HEADERS`."""
    return [
        (line.kind, line.target, line.code, words.yes(line.applied, line.detail), line.sentence)
        for line in actions
    ]


def _head(status: Status) -> tuple[Cell, ...]:
    stood_in = status.plan_source == "heuristic"
    return (
        Text(status.mode, "" if status.mode == "act" else words.WARN),
        str(status.tick),
        Text(status.plan_source, words.WARN if stood_in else ""),
        words.span(status.plan_age_seconds),
        words.span(status.full_plan_age_seconds),
        words.UNKNOWN if status.extender_port is None else f":{status.extender_port}",
        status.summary,
    )


def _gpus(status: Status) -> Table:
    gpus = status.gpus
    headers = ("GPUS", "ONLINE", "LENT", "OTHER", "RESERVED", "FREE", "UNHEALTHY", "CLOSED")
    counts = (gpus.total, gpus.online, gpus.lent, gpus.other, gpus.reserved, gpus.free)
    row: list[Cell] = [str(count) for count in counts]
    row.append(Text(str(gpus.unhealthy), words.BAD if gpus.unhealthy else ""))
    row += [str(gpus.closed), words.share(status.allocated_utilisation)]
    return table((*headers, "ALLOCATED"), [row])


def _role(line: RoleLine) -> tuple[Cell, ...]:
    return (
        line.role,
        f"{line.ready}/{line.desired_replicas}",
        str(line.starting),
        str(line.pending),
        str(line.draining),
        words.milli(line.wanted_milli),
        Text(words.milli(line.lacking_milli), words.BAD if line.lacking_milli else ""),
        words.rate(line.arriving_tokens_per_second),
        words.rate(line.capacity_tokens_per_second),
        words.share(line.utilisation),
        Text(words.share(line.late_share), words.WARN if line.late_share else ""),
        words.metrics(line.metrics),
    )


def _batch(status: Status) -> tuple[Cell, ...]:
    batch = status.batch
    due = batch.next_return_seconds
    return (
        str(batch.waiting),
        str(batch.running),
        str(batch.notified),
        str(batch.stopping),
        str(batch.lent_gpus),
        str(batch.lendable_gpus),
        str(batch.loans),
        words.span(None if due is None else due - status.now_seconds),
    )


def _rooms(status: Status) -> list[tuple[Cell, ...]]:
    """Return per GPU model what is idle, and what decides where single pods go."""
    rows: list[tuple[Cell, ...]] = []
    for model in sorted({line.gpu_model for line in status.fragments}):
        here = [line for line in status.fragments if line.gpu_model == model]
        prices = [line for line in status.prices if line.gpu_model == model]
        worth = ", ".join(f"{line.gpus} GPUs {words.milli(line.milli_gpus)}" for line in prices)
        idle = sum(line.idle_milli_gpus for line in here)
        useless = sum(line.fragment_milli_gpus for line in here)
        rows.append((model, words.milli(idle), words.milli(useless), worth or words.UNKNOWN))
    return rows


def _wrong(status: Status) -> Iterator[Text]:
    for line in status.violations:
        yield Text(f"violation: {line}", words.BAD)
    for line in status.problems:
        yield Text(f"problem: {line}", words.WARN)
    for line in status.policy_errors:
        yield Text(f"policy: the last edit is refused: {line}", words.BAD)
    if status.worker_failures:
        times = f"{status.worker_failures} times since the daemon started"
        yield Text(f"planner: its process failed {times}", words.WARN)
