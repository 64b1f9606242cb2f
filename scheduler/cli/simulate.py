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
from scheduler.cli.terminal import CommandError, print_parts
from scheduler.simulation import comparison, contenders, reference
from scheduler.simulation.compare import BOUND, TIDAL, Record
from scheduler.simulation.picture import draw
from scheduler.simulation.timeline import Timeline

SCHEMA = "tidal.simulate/1"
DEFAULT_SEED = 1
DOCUMENT, PICTURE = "simulate.json", "simulate.png"
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
    # argparse sees a flag of an exclusive pair only where its value is not the default
    seeds.add_argument("--seed", type=arguments.seed, help=f"default {DEFAULT_SEED}")
    seeds.add_argument("--seeds", type=arguments.count, metavar="K", help="seeds 1..K")
    parser.add_argument("--events", type=Path, metavar="FILE", help="Tidal's events, JSON lines")
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="write simulate.json and simulate.png there"
    )
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
    seeds = seeds_of(options)
    writable(options)
    todo = comparison.entries(
        options.compare, seeds, str(options.events or ""), timelines=options.report is not None
    )
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("simulate", total=1.0)
        done = comparison.perform(
            setup,
            todo,
            options.processes,
            lambda share, what: bar.update(task, completed=share, description=what),
        )
    results = comparison.records(setup, done, options.compare)
    if options.output == "json" or options.report:
        written = document(inputs_of(options, setup, seeds), results, done, begun)
        if options.report:
            report(options.report, written, comparison.timelines(done, results))
        if options.output == "json":
            sys.stdout.write(written)
    if options.output == "table":
        print_parts([table(results)])
    return int(any(record["violations"] for record in results))


def seeds_of(options: argparse.Namespace) -> list[int]:
    """Return the seeds to run, in order."""
    if options.seeds:
        return list(range(1, options.seeds + 1))
    return [DEFAULT_SEED if options.seed is None else options.seed]


def writable(options: argparse.Namespace) -> None:
    """Open what will be written, so that a wrong path is said before the runs and not after."""
    option, path = "--events", options.events
    try:
        if path:
            path.open("wb").close()
        option, path = "--report", options.report
        if path:
            path.mkdir(parents=True, exist_ok=True)
            for name in (DOCUMENT, PICTURE):
                (path / name).open("ab").close()
    except OSError as error:
        raise CommandError(
            f"{option}: {path} cannot be written ({error.strerror}); name another"
        ) from None


def document(
    inputs: dict[str, Any],
    results: list[Record],
    done: list[comparison.Done],
    begun: reference.Started,
) -> str:
    """Return the JSON document."""
    timing = msgspec.structs.asdict(reference.machine(begun))
    timing["records"] = comparison.timings(done)
    whole = {"schema": SCHEMA, "inputs": inputs, "results": results, "timing": timing}
    return msgspec.json.format(msgspec.json.encode(whole), indent=1).decode() + "\n"


def report(folder: Path, written: str, timelines: dict[str, Timeline]) -> None:
    """Write the document, and the picture of Tidal and the rivals that count at equal SLO."""
    (folder / DOCUMENT).write_text(written, encoding="utf-8")
    rivals = {name: one for name, one in timelines.items() if name != TIDAL}
    tidal = timelines[TIDAL]
    draw(folder / PICTURE, f"Tidal on {max(tidal.ready):g} GPUs", tidal, rivals)


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
