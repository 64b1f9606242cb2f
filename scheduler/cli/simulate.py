"""`scalerctl simulate`: Tidal and its rivals on the virtual cluster, without wall time."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from scheduler.cli import arguments
from scheduler.cli.inputs import add_world, inputs_of, setup_of, traces_of
from scheduler.simulation import comparison, contenders, reference
from scheduler.simulation.compare import BOUND, Record

SCHEMA = "tidal.simulate/1"
COLUMNS = (
    ("policy", "POLICY"),
    ("setting", "SETTING"),
    ("productive_utilisation", "PRODUCTIVE"),
    ("wasted_gpu_hours", "WASTED GPU-H"),
    ("online_gpu_hours", "ONLINE GPU-H"),
    ("slo_attainment", "SLO"),
    ("slo_attainment_worst_model", "SLO WORST"),
    ("batch_gpu_hours_lent", "LENT"),
    ("batch_gpu_hours_lost", "LOST"),
    ("late_recalls", "LATE"),
    ("violations", "VIOLATIONS"),
)


def add(commands: "argparse._SubParsersAction[Any]") -> None:
    """Register the command."""
    parser = commands.add_parser("simulate", help="compare planners on the virtual cluster")
    add_world(parser)
    parser.add_argument(
        "--compare",
        type=arguments.names_of((*contenders.NAMES, BOUND)),
        default=[],
        metavar="NAME,...",
        help="rivals to run beside Tidal",
    )
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=arguments.seed, default=1)
    seeds.add_argument("--seeds", type=arguments.count, metavar="K", help="seeds 1..K")
    parser.add_argument("--events", type=Path, metavar="FILE", help="Tidal's events, JSON lines")
    parser.add_argument("--processes", type=arguments.count, default=len(os.sched_getaffinity(0)))
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.set_defaults(handle=simulate)


def simulate(options: argparse.Namespace) -> int:
    """Run the comparison and print it; 1 when an invariant broke."""
    begun = reference.start()
    if not options.demand:
        raise ValueError("--demand: missing; give at least one MODEL=FILE")
    if options.events and options.seeds:
        raise ValueError("--events: holds one run; use --seed instead of --seeds")
    setup = setup_of(options, traces_of(options))
    seeds = list(range(1, options.seeds + 1)) if options.seeds else [options.seed]
    todo = comparison.entries(options.compare, seeds, str(options.events or ""))
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("simulate", total=1.0)
        done = comparison.perform(
            setup,
            todo,
            options.processes,
            lambda share, what: bar.update(task, completed=share, description=what),
        )
    results = comparison.records(setup, done, options.compare)
    show(options, inputs_of(options, setup, seeds), results, done, begun)
    return int(any(record["violations"] for record in results))


def show(
    options: argparse.Namespace,
    inputs: dict[str, Any],
    results: list[Record],
    done: list[comparison.Done],
    begun: reference.Started,
) -> None:
    """Print the document or the table."""
    if options.output == "table":
        Console().print(table(results))
        return
    timing = msgspec.structs.asdict(reference.machine(begun))
    timing["records"] = comparison.timings(done)
    document = {"schema": SCHEMA, "inputs": inputs, "results": results, "timing": timing}
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document), indent=1).decode() + "\n")


def table(results: list[Record]) -> Table:
    """Return the chosen setting of each policy, a row each."""
    made = Table(box=None, header_style="", pad_edge=False)
    for _, title in COLUMNS:
        made.add_column(title, justify="left" if title in ("POLICY", "SETTING") else "right")
    for record in results:
        if record["equal_slo"]:
            made.add_row(*(_cell(record, field) for field, _ in COLUMNS))
    return made


def _cell(record: Record, field: str) -> str:
    value = record.get(field, "")
    if field == "slo_attainment" and record["slo_below"]:
        return f"{value:.2%} (below)"
    if field.startswith("slo") or field == "productive_utilisation":
        return f"{value:.2%}"
    return f"{value:,.0f}" if isinstance(value, (int, float)) else str(value)
