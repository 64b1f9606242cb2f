"""`scalerctl forecast MODEL`: what each series of a model will be, with its record so far."""

import argparse
from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from forecasting import SeriesForecast
from scheduler.cli import words
from scheduler.cli.server import add_server, named, show
from scheduler.cli.terminal import Cell, Subparsers, table
from scheduler.daemon.documents.shapes import Outlook


def add(subparsers: Subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser("forecast", help="the forecast of one model")
    parser.add_argument("model", metavar="MODEL", help="a model of the policy")
    add_server(parser)
    parser.set_defaults(handle=handle)


def handle(args: argparse.Namespace) -> int:
    """Show the forecast."""
    show(args, named("/v1/forecast", args.model), Outlook, tell)
    return 0


def tell(outlook: Outlook) -> Iterator[Table | Text]:
    """Yield for each series its record, the rates at each horizon, the peaks within each lead."""
    age = words.span(outlook.now_seconds - outlook.issued_at_seconds)
    yield Text(f"rates per second; issued {age} before the last observation")
    quantiles = tuple(f"P{quantile * 100:g}" for quantile in outlook.quantiles)
    for series in outlook.series:
        yield table(
            ("SERIES", "STATUS", "LAST", "COVERAGE OF P90", "SKILL", "WEIGHTS"), [_record(series)]
        )
        yield table(("IN", *quantiles), _rows(outlook.horizons_seconds, series.at))
        yield table(("PEAK WITHIN", *quantiles), _rows(outlook.leads_seconds, series.peak))


def _record(series: SeriesForecast) -> tuple[Cell, ...]:
    weights = sorted(series.weights.items(), key=lambda item: (-item[1], item[0]))
    return (
        series.key,
        words.metrics(series.status),
        words.rate(series.last),
        words.share(series.coverage),
        words.ratio(series.skill),
        " ".join(f"{name}={weight:.2f}" for name, weight in weights) or words.UNKNOWN,
    )


def _rows(
    spans_seconds: Sequence[float], rates: Sequence[Sequence[float]]
) -> list[tuple[Cell, ...]]:
    pairs = zip(spans_seconds, rates, strict=True)
    return [(words.span(seconds), *map(words.rate, row)) for seconds, row in pairs]
