"""`scalerctl backtest`: would Tidal have forecast this history, and better than simple means?"""

import argparse
import sys
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import Progress

from forecasting.backtest import Protocol, Record, Scored, ratios, records
from scheduler.cli.backtestinputs import add_arguments, histories, inputs_of, protocol_of
from scheduler.cli.backtestpictures import draw
from scheduler.cli.backtestpool import Cost, perform
from scheduler.cli.backtestwords import told
from scheduler.cli.terminal import CommandError, print_parts
from scheduler.simulation import reference

SCHEMA = "tidal.backtest/1"
DOCUMENT = "backtest.json"


def add(commands: "argparse._SubParsersAction[Any]") -> None:
    """Register the command."""
    parser = commands.add_parser("backtest", help="judge the forecasts on recorded demand")
    add_arguments(parser)
    parser.set_defaults(handle=backtest)


def backtest(options: argparse.Namespace) -> int:
    """Forecast every series from every origin with every method, and score it."""
    begun = reference.start()
    protocol = protocol_of(options)
    several = histories(options, protocol)
    writable(options.report)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("backtest", total=len(several) * len(options.methods))
        done, costs = perform(
            several,
            protocol,
            options.methods,
            options.processes,
            lambda amount: bar.advance(task, amount),
        )
    summary = ratios(done, protocol)
    written = document(inputs_of(options, protocol), done, protocol, summary, costs, begun)
    if options.report:
        (options.report / DOCUMENT).write_text(written, encoding="utf-8")
        draw(options.report, done, protocol)
    if options.output == "json":
        sys.stdout.write(written)
    else:
        print_parts(told(done, protocol, summary))
    return 0


def writable(folder: Path | None) -> None:
    """Open a file of the report, so that a wrong path is said before the run and not after."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DOCUMENT).open("ab").close()
    except OSError as error:
        raise CommandError(
            f"--report: {folder} cannot be written ({error.strerror}); name another directory"
        ) from None


def document(
    inputs: dict[str, object],
    done: list[Scored],
    protocol: Protocol,
    summary: list[Record],
    costs: list[Cost],
    begun: reference.Started,
) -> str:
    """Return the JSON document."""
    whole = {
        "schema": SCHEMA,
        "inputs": inputs,
        "results": [record for one in done for record in records(one, protocol)],
        "ratios": summary,
        "timing": timing(costs, begun),
    }
    return msgspec.json.format(msgspec.json.encode(whole), indent=1).decode() + "\n"


def timing(costs: list[Cost], begun: reference.Started) -> dict[str, object]:
    """Return what depends on the machine; null where Tidal was not run."""
    ticks = sum(cost.series * cost.ticks for cost in costs)
    series = sum(cost.series for cost in costs)
    return {
        **msgspec.structs.asdict(reference.machine(begun)),
        "cpu_seconds_per_series_tick": sum(cost.tick_cpu_seconds for cost in costs) / ticks
        if ticks
        else None,
        "bytes_per_series": round(sum(cost.state_bytes for cost in costs) / series)
        if series
        else None,
        "records": costs,
    }
