"""`scalerctl forecast NAME`: what demand will be, what it was, and how far that can be relied on.

NAME is a model (all its series), a role such as chat/decode (the series that sizes it), or one
series such as chat/requests. `-o json` prints the same document, complete; `--png` draws it too.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import fill

from rich.table import Table
from rich.text import Text

from forecasting import SeriesForecast
from scheduler.cli import words
from scheduler.cli.fan import fan
from scheduler.cli.server import add_server, named, show
from scheduler.cli.terminal import Cell, CommandError, Subparsers, table
from scheduler.daemon.documents.shapes import Outlook, SeriesOutlook

COLUMNS = 80
LEAST_SHOWN = 0.005
"""A weight below would read as 0 %."""


def add(subparsers: Subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser("forecast", help="the forecast of one model")
    parser.add_argument(
        "model", metavar="MODEL", help="a model of the policy, MODEL/ROLE, or one series of it"
    )
    parser.add_argument("--png", type=Path, metavar="FILE", help="also draw it into this file")
    add_server(parser)
    parser.set_defaults(handle=handle)


def handle(args: argparse.Namespace) -> int:
    """Show the forecast, and draw it where that is asked for."""
    outlook = show(args, named("/v1/forecast", args.model), Outlook, tell)
    if args.png is not None:
        from scheduler.cli.fanpicture import draw  # noqa: PLC0415 - matplotlib takes half a second

        try:
            draw(args.png, outlook)
        except OSError as error:
            raise CommandError(f"--png: {args.png}: {error.strerror}; name another file") from None
    return 0


def tell(outlook: Outlook) -> Iterator[Table | Text]:
    """Yield for each series its remarks, its chart, its quantiles and its record."""
    age = words.span(outlook.now_seconds - outlook.issued_at_seconds)
    yield Text(f"{outlook.model}: issued {age} before the last observation")
    for one in outlook.series:
        yield from _series(outlook, one)


def _series(outlook: Outlook, one: SeriesOutlook) -> Iterator[Table | Text]:
    forecast = one.forecast
    head = Text.assemble(f"{forecast.key}: ", words.metrics(forecast.status))
    if forecast.status != "absent":
        head.append(f", last {words.figure(forecast.last)}")
    head.append(f"; all rates in {one.unit}")
    yield Text("\n").join([head, *map(_remark, one.remarks)])
    if forecast.status == "absent" and not any(map(any, forecast.peak)):
        return
    yield Text(
        fan(
            one.past,
            outlook.horizons_seconds,
            forecast.at,
            outlook.quantiles,
            outlook.bin_seconds,
        )
    )
    quantiles = tuple(f"P{quantile * 100:g}" for quantile in outlook.quantiles)
    yield table(("IN", *quantiles), _rows(outlook.horizons_seconds, forecast.at))
    yield table(("PEAK WITHIN", *quantiles), _rows(outlook.leads_seconds, forecast.peak))
    yield from _judgement(outlook, forecast)
    yield table(("SERIES", "VALUE", "MEANING"), _nature(one))


def _remark(remark: str) -> Text:
    return Text(fill(remark, COLUMNS, initial_indent="- ", subsequent_indent="  "))


def _rows(
    spans_seconds: Sequence[float], rates: Sequence[Sequence[float]]
) -> list[tuple[Cell, ...]]:
    pairs = zip(spans_seconds, rates, strict=True)
    return [(words.span(seconds), *map(words.figure, row)) for seconds, row in pairs]


def _judgement(outlook: Outlook, forecast: SeriesForecast) -> Iterator[Table | Text]:
    judged = f"P{outlook.judged_quantile * 100:g}"
    rows = _record(forecast)
    if rows:
        yield table((f"{judged} IN", "HELD", "VS YESTERDAY", "VS LAST VALUE"), rows)
        yield Text(
            f"HELD: share of recent targets at or below {judged}. VS: gain in pinball loss over\n"
            f"that guess with a band of the same kind."
        )
    ahead = words.span(outlook.judged_horizon_seconds)
    yield Text(fill(f"{judged} in {ahead} is made of {_weights(forecast.weights)}.", COLUMNS))


def _record(forecast: SeriesForecast) -> list[tuple[Cell, ...]]:
    return [
        (
            words.span(each.horizon_seconds),
            words.share(each.coverage),
            words.percent(each.skill_yesterday),
            words.percent(each.skill_last),
        )
        for each in forecast.record
        if each.coverage is not None
    ]


def _nature(one: SeriesOutlook) -> Iterator[tuple[Cell, ...]]:
    """Yield what the series is like, each figure with what it means."""
    found = one.diagnosis
    yield ("known", words.span(found.known_seconds), "of the last four weeks")
    yield ("zero", words.share(found.zero_share), "of it nothing came")
    yield ("tide of 24 h", _strength(found.season_day), "0 none, 1 nothing else (STL)")
    yield ("tide of 7 d", _strength(found.season_week), "the same, beside that of 24 h")
    yield ("as yesterday", _strength(found.autocorrelation_day), "correlation of hours 24 h apart")
    yield ("as last week", _strength(found.autocorrelation_week), "correlation of hours 7 d apart")
    yield ("errors", *_errors(one))


def _weights(weights: dict[str, float]) -> str:
    heaviest = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{name} {weight:.0%}" for name, weight in heaviest if weight >= LEAST_SHOWN)
    return shown or words.UNKNOWN


def _strength(value: float | None) -> str:
    return words.UNKNOWN if value is None else f"{value:.2f}"


def _errors(one: SeriesOutlook) -> tuple[str, str]:
    """Return whether errors are random, and what that rests on."""
    errors = one.diagnosis.errors
    if errors is None:
        return words.UNKNOWN, "too few to say whether they are random"
    test = f"(Ljung-Box p {errors.p_value:.2g})"
    if errors.random:
        return "random", f"nothing left to learn from {errors.count} of them {test}"
    before = words.span(errors.lag_seconds)
    return f"{errors.correlation:+.2f}", f"correlation with errors {before} before {test}"
