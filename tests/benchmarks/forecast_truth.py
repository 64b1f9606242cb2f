"""How far forecasts are from the truth, on synthetic demand whose true quantiles are known.

    python -m tests.benchmarks.forecast_truth --families smooth,office --seeds 0-19 -o json

Measures: `gap` (loss over the true quantile's, coverage of peaks, coverage after a shift upwards),
`outage` (loss after an outage that is masked, over the loss where it is read as zero),
`first-day` (coverage in the first 24 hours of a series), `timing` (CPU and memory of a large
fleet). Output: `tidal.forecast_truth/1`. Two seeds of one scale over 18 days take under a minute
without `timing`.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

import msgspec

from scheduler.cli import arguments
from scheduler.cli.backtestinputs import METHODS
from scheduler.simulation import reference
from tests.benchmarks.options import Options, seeds
from tests.benchmarks.truthcommon import Record
from tests.benchmarks.truthcost import timing
from tests.benchmarks.truthfamilies import FAMILIES, Truth, generate
from tests.benchmarks.truthgap import gap
from tests.benchmarks.truthlife import first_day, outage

SCHEMA = "tidal.forecast_truth/1"
MEASURES = ("gap", "outage", "first-day", "timing")


def scales(text: str) -> list[float]:
    """Return requests per second of `.02,.5,20`."""
    return [arguments.positive(part) for part in text.split(",")]


def parsed() -> argparse.Namespace:
    """Read the arguments."""
    parser = Options("forecast_truth", __doc__)
    parser.add_argument("--families", type=arguments.names_of(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--seeds", type=seeds, default=seeds("0-19"))
    parser.add_argument("--scales", type=scales, default=[0.02, 0.5, 20.0])
    parser.add_argument("--measures", type=arguments.names_of(MEASURES), default=list(MEASURES))
    parser.add_argument(
        "--methods",
        type=arguments.names_of(METHODS),
        default=["tidal", "constant", "constant-scaled", "seasonal-naive-24h"],
    )
    parser.add_argument("--days", type=arguments.positive, default=28.0)
    parser.add_argument("--first-origin", type=arguments.duration, default="15d")
    parser.add_argument("--step", type=arguments.duration, default="60m")
    parser.add_argument("--samples", type=arguments.count, default=400, help="of the oracle")
    parser.add_argument("--timing-series", type=arguments.count, default=2000)
    parser.add_argument(
        "--timing-hours",
        type=arguments.count,
        default=8,
        help="whole rounds of learning anew, or the refits' share is wrong; default 8, one round",
    )
    parser.add_argument("--processes", type=arguments.count, default=len(os.sched_getaffinity(0)))
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    return parser.parse_args()


def main() -> int:
    """Measure and print; 2 where an argument is wrong."""
    options = parsed()
    begun = reference.start()
    truths = [
        generate(family, seed, scale, options.days)
        for family in options.families
        for scale in options.scales
        for seed in options.seeds
    ]
    measures: dict[str, Callable[[argparse.Namespace, Sequence[Truth]], list[Record]]] = {
        "gap": gap,
        "outage": outage,
        "first-day": first_day,
    }
    results: list[Record] = []
    for name in options.measures:
        if name in measures:
            results += measures[name](options, truths)
            print(f"  {name} done", file=sys.stderr, flush=True)
    cost = [timing(options)] if "timing" in options.measures else []
    left_out = ("output", "processes")  # they change no figure
    whole: Record = {
        "schema": SCHEMA,
        "inputs": {name: value for name, value in vars(options).items() if name not in left_out},
        "results": results,
        "timing": {**msgspec.structs.asdict(reference.machine(begun)), "records": cost},
    }
    show(whole, options.output)
    return 0


def show(whole: Record, output: str) -> None:
    """Print the document, or its records a line each."""
    if output == "json":
        print(msgspec.json.format(msgspec.json.encode(whole), indent=1).decode())
        return
    records = [*whole["results"], *whole["timing"]["records"]]  # type: ignore[misc, index]
    for record in records:
        print(" ".join(f"{name}={_short(value)}" for name, value in record.items()))


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
