"""The arguments of `scalerctl backtest`, and the histories and protocol that they become.

Everything is read and checked before anything is forecast; an error names the option, or the
file and the field, and the fix.
"""

import argparse
import os
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from forecasting.backtest import RIVAL_METHODS, TIDAL, Protocol, ProtocolError, Series
from forecasting.backtest.protocol import origins
from scheduler.cli import arguments
from scheduler.simulation.demandfile import COUNTS, Trace, load_demand

DEFAULT_GROUP = "all"
METHODS = (TIDAL, *RIVAL_METHODS)
_NAME = r"[a-zA-Z0-9](?:[-a-zA-Z0-9._]*[a-zA-Z0-9])?"


class Given(msgspec.Struct, frozen=True):
    """One `[GROUP/]NAME=FILE`."""

    group: str
    name: str
    path: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--demand",
        type=given,
        action="extend",
        nargs="+",
        default=[],
        metavar="[GROUP/]NAME=FILE",
        help="recorded demand; as many as there are. Each group is judged alone",
    )
    parser.add_argument(
        "--fields",
        type=arguments.names_of(COUNTS),
        default=list(COUNTS),
        metavar="FIELD,...",
        help=f"default {','.join(COUNTS)}",
    )
    for name, default, what in (
        ("--horizons", "10m,30m,60m,6h,24h", "score the rate of the bin that ends so far ahead"),
        ("--leads", "10m,30m,60m", "score the largest rate until then"),
    ):
        parser.add_argument(
            name,
            type=_listed(arguments.duration),
            default=default,
            metavar="DURATION,...",
            help=f"{what}; default {default}",
        )
    parser.add_argument(
        "--quantiles", type=_listed(_quantile), default=".5,.9,.95,.99", metavar="SHARE,..."
    )
    parser.add_argument(
        "--methods",
        type=arguments.names_of(METHODS),
        default=list(METHODS),
        metavar="NAME,...",
        help=f"default: all of {', '.join(METHODS)}",
    )
    parser.add_argument(
        "--first-origin",
        type=arguments.duration,
        default="7d",
        metavar="DURATION",
        help="how much of each file is history before the first forecast; default 7d",
    )
    parser.add_argument(
        "--step",
        type=arguments.duration,
        default="30m",
        metavar="DURATION",
        help="from one forecast that is scored to the next; default 30m",
    )
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="write backtest.json and pictures there"
    )
    parser.add_argument(
        "--processes", type=arguments.count, default=len(os.sched_getaffinity(0)), metavar="N"
    )
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")


def given(text: str) -> Given:
    """Return the parts of [GROUP/]NAME=FILE."""
    found = re.fullmatch(rf"(?:({_NAME})/)?({_NAME})=(.+)", text)
    if not found:
        raise ArgumentTypeError(
            f"{text!r} is not [GROUP/]NAME=FILE; use letters, digits, - . _ in names"
        )
    return Given(found[1] or DEFAULT_GROUP, found[2], Path(found[3]))


def _listed(read: Callable[[str], float]) -> Callable[[str], tuple[float, ...]]:
    """Return a reader of a comma-separated, ascending list."""

    def reader(text: str) -> tuple[float, ...]:
        values = tuple(read(part) for part in text.split(","))
        if list(values) != sorted(set(values)):
            raise ArgumentTypeError(f"{text!r} is not ascending; give each value once, least first")
        return values

    return reader


def _quantile(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise ArgumentTypeError(f"{text!r} is no quantile; write a share between 0 and 1 as .9")
    return value


def protocol_of(options: argparse.Namespace) -> Protocol:
    """Return what is asked of every method."""
    return Protocol(
        horizons_seconds=options.horizons,
        leads_seconds=options.leads,
        quantiles=options.quantiles,
        first_origin_seconds=options.first_origin,
        step_seconds=options.step,
    )


def histories(options: argparse.Namespace, protocol: Protocol) -> list[Series]:
    """Return the series of all files, each checked against the protocol.

    Raises:
        ValueError: no file, one given twice, one that cannot be read or is too short.
    """
    if not options.demand:
        raise ValueError("--demand: missing; give at least one NAME=FILE")
    named: dict[tuple[str, str], Given] = {}
    for one in options.demand:
        if named.setdefault((one.group, one.name), one) is not one:
            raise ValueError(
                f"--demand: {one.group}/{one.name} is given twice; give each name once in a group"
            )
    found = []
    for key in sorted(named):
        one = named[key]
        trace = load_demand(one.path)
        several = [_series(one, trace, field) for field in options.fields]
        try:
            origins(several[0], protocol)
        except ProtocolError as error:
            raise ValueError(f"{one.path}: {error}") from None
        found += several
    return found


def _series(one: Given, trace: Trace, field: str) -> Series:
    """Return a field of a trace as rates, its first bin on the common grid of its width."""
    return Series(
        group=one.group,
        name=one.name,
        field=field,
        bin_seconds=trace.bin_seconds,
        first_bin=int(np.floor(trace.start_seconds / trace.bin_seconds)),
        rate=np.where(trace.valid, getattr(trace, field), 0.0) / trace.bin_seconds,
        valid=trace.valid,
    )


def inputs_of(options: argparse.Namespace, protocol: Protocol) -> dict[str, object]:
    """Return every parameter, each file with its hash."""
    return {
        **msgspec.structs.asdict(protocol),
        "fields": options.fields,
        "methods": options.methods,
        "files_sha256": {
            f"{one.group}/{one.name}": arguments.sha256(one.path)
            for one in sorted(options.demand, key=lambda one: (one.group, one.name))
        },
    }
