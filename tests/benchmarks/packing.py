"""Single pods on a cluster of shared GPUs: how much of it each policy comes to allocate.

The experiment of Weng et al. (USENIX ATC 2023), "Beware of Fragmentation", on lists of the openb
schema, with its rivals. Each policy knows the list's mix of shapes, none knows the order.

    python -m tests.benchmarks.packing --nodes nodes.csv --pods pods.csv --seeds 42-51 \
        --policies fgd,tidal --window 1 -o json

Figures are in percent of the list's GPUs: `allocated_percent` once arrived GPUs reach
`arrived_percent`; `fragmentation_percent` after the paper's measure, of which
`fragmentation_floor_percent` is due to shapes without GPU alone, to which every idle GPU is
fragment. Rivals place pods one by one whatever the window. Output: `tidal.packing/1`.
"""

import argparse
import csv
import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import msgspec
import numpy as np

from binpacking.cards import Fleet, Host, Population
from binpacking.fragmentation import Mixture
from scheduler.cli.arguments import count, names_of
from scheduler.simulation import reference
from tests.benchmarks import packing_rivals as rivals
from tests.benchmarks.options import Options, seeds
from tests.benchmarks.packing_fgd import Admission, typical
from tests.benchmarks.packing_lists import ListError, Pod, read_hosts, read_pods
from tests.benchmarks.packing_protocol import Count, Taken, arrivals, in_windows, one_by_one
from tests.benchmarks.packing_rehearsal import order_pays
from tests.benchmarks.packing_through import Through
from tests.benchmarks.packing_tidal import Tidal
from tests.benchmarks.packing_windows import Windows

SCHEMA = "tidal.packing/1"
COLUMNS = ("policy", "seed", "window", "order", "pod", "node", "gpus")
INVALID = 2
REHEARSED_PODS = 20_000
MOST_REHEARSALS = 8
"""Small lists are rehearsed more often, as chance weighs more. Their seeds are pairs, those of
`--seeds` whole numbers: no order is both rehearsed and measured."""


class World(msgspec.Struct, frozen=True):
    """What a run is given; the order of arrivals is known to the protocol only."""

    hosts: tuple[Host, ...]
    pods: tuple[Pod, ...]
    mixture: Mixture
    """Typical shapes, as FGD knows them; fragmentation is measured by it."""
    population: Population
    """All shapes with their counts."""
    seed: int
    window: int
    ordered: bool
    """Whether `tidal` orders the pods of a window, as rehearsed for these lists."""

    @property
    def capacity_milli(self) -> int:
        """Milli-GPU of the whole list."""
        return sum(sum(host.cards) for host in self.hosts)


Run = Callable[[World, Sequence[Pod]], Iterator[Taken]]


def _rival(score: rivals.Score) -> Run:
    return lambda world, order: one_by_one(rivals.Rival(Fleet(world.hosts), score), order)


def _random(world: World, order: Sequence[Pod]) -> Iterator[Taken]:
    chance = np.random.default_rng((world.seed, 1))  # another stream than the arrivals'
    return one_by_one(rivals.RandomRival(Fleet(world.hosts), chance), order)


def _fgd(world: World, order: Sequence[Pod]) -> Iterator[Taken]:
    return one_by_one(Admission(Fleet(world.hosts), world.mixture), order)


def _tidal(world: World, order: Sequence[Pod]) -> Iterator[Taken]:
    single = Tidal(world.hosts, world.population)
    if world.window == 1:
        return one_by_one(single, order)
    windows = Windows(single, world.population, ordered=world.ordered)
    return in_windows(windows, order, world.window)


def _extender(world: World, order: Sequence[Pod]) -> Iterator[Taken]:
    return one_by_one(Through(world.hosts, world.population), order)


POLICIES: dict[str, Run] = {
    "random": _random,
    "bestfit": _rival(rivals.best_fit),
    "dotprod": _rival(rivals.dot_product),
    "gpupacking": _rival(rivals.gpu_packing),
    "gpuclustering": _rival(rivals.gpu_clustering),
    "fgd": _fgd,
    "tidal": _tidal,
    "extender": _extender,
}


def run(policy: str, world: World, placements: TextIO | None) -> tuple[list[dict[str, Any]], float]:
    """The records of one policy and seed, and the seconds of CPU it took."""
    order = arrivals(world.pods, world.capacity_milli, world.seed)
    began = time.process_time()
    taken = tuple(POLICIES[policy](world, order))
    seconds = time.process_time() - began
    count = Count(world.hosts, world.mixture)
    for one in taken:
        count.add(one)
    if placements is not None:
        _write(placements, (policy, world.seed, world.window), taken, Fleet(world.hosts).names)
    count.close()
    head = {"policy": policy, "seed": world.seed}
    return [{**head, **record} for record in count.records], seconds


def _write(
    placements: TextIO, head: tuple[str, int, int], taken: tuple[Taken, ...], names: tuple[str, ...]
) -> None:
    rows = csv.writer(placements, lineterminator="\n")
    rows.writerows((*head, order, *_cells(one, names)) for order, one in enumerate(taken))


def _cells(taken: Taken, names: tuple[str, ...]) -> tuple[str, str, str]:
    if taken.seat is None:
        return taken.pod.name, "", ""
    milli = taken.pod.shape.card_milli
    cards = ";".join(f"{card}:{milli}" for card in taken.seat.cards)
    return taken.pod.name, names[taken.seat.row], cards


def document(options: argparse.Namespace, placements: TextIO | None) -> dict[str, Any]:
    """The whole output."""
    since = reference.start()
    hosts, pods = read_hosts(options.nodes), read_pods(options.pods)
    shapes = Counter(pod.shape for pod in pods)
    mixture, population = typical(shapes.elements()), tuple(sorted(shapes.items()))
    began = time.process_time()
    windowed = "tidal" in options.policies and options.window > 1
    ordered = windowed and _rehearsed(hosts, pods, population, options.window)
    rehearsal_seconds = time.process_time() - began
    if placements is not None:
        placements.write(",".join(COLUMNS) + "\n")
    results: list[dict[str, Any]] = []
    timings: list[dict[str, Any]] = []
    for policy in options.policies:
        for seed in options.seeds:
            world = World(hosts, pods, mixture, population, seed, options.window, ordered)
            records, seconds = run(policy, world, placements)
            results.extend(records)
            timings.append({"policy": policy, "seed": seed, "cpu_seconds": seconds})
            print(f"{policy} seed {seed}: {_last(records)}", file=sys.stderr)
    return {
        "schema": SCHEMA,
        "inputs": {**_inputs(options), "rehearsed_order": ordered if windowed else None},
        "results": results,
        "timing": {
            **msgspec.structs.asdict(reference.machine(since)),
            "rehearsal_cpu_seconds": rehearsal_seconds,
            "records": timings,
        },
    }


def _rehearsed(
    hosts: tuple[Host, ...], pods: tuple[Pod, ...], population: Population, window: int
) -> bool:
    """Whether to order windows of these lists, by orders that are none of any seed."""
    capacity = sum(sum(host.cards) for host in hosts)
    few = len(arrivals(pods, capacity, (1, 0)))
    rehearsals = min(max(REHEARSED_PODS // few, 2), MOST_REHEARSALS)
    streams = [
        [pod.shape for pod in arrivals(pods, capacity, (1, number))] for number in range(rehearsals)
    ]
    return order_pays(hosts, population, streams, window)


def _last(records: list[dict[str, Any]]) -> str:
    last = records[-1]
    return f"{last['allocated_percent']:.2f} % allocated at {last['arrived_percent']} % arrived"


def _inputs(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "nodes": _file(options.nodes),
        "pods": _file(options.pods),
        "seeds": list(options.seeds),
        "policies": list(options.policies),
        "window": options.window,
    }


def _file(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def table(measured: dict[str, Any]) -> Iterator[str]:
    """Means over seeds, a line a policy and level."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for record in measured["results"]:
        groups.setdefault((record["policy"], record["arrived_percent"]), []).append(record)
    yield f"{'policy':<14}{'arrived':>8}{'allocated':>11}{'fragments':>11}{'4-GPU':>7}{'8-GPU':>7}"
    for (policy, level), records in groups.items():
        columns = ("allocated_percent", "fragmentation_percent")
        allocated, fragments = (_mean(records, column) for column in columns)
        four, eight = (_mean(records, f"placed_share_{size}gpu") for size in (4, 8))
        yield (
            f"{policy:<14}{level:>6} %{allocated:>9.2f} %{fragments:>9.2f} %"
            f"{four:>7.3f}{eight:>7.3f}"
        )


def _mean(records: list[dict[str, Any]], column: str) -> float:
    known = [record[column] for record in records if record[column] is not None]
    return sum(known) / len(known) if known else float("nan")


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = Options("packing", __doc__)
    parser.add_argument("--nodes", type=Path, required=True, help="CSV: sn, cpu_milli, ...")
    parser.add_argument("--pods", type=Path, required=True, help="CSV: name, cpu_milli, ...")
    parser.add_argument("--seeds", type=seeds, default=seeds("42-51"))
    parser.add_argument("--policies", type=names_of(tuple(POLICIES)), default=list(POLICIES))
    parser.add_argument("--window", type=count, default=1, help="pods placed together")
    parser.add_argument("--placements", type=Path, help="CSV to write: where each pod went")
    parser.add_argument("-o", "--output", choices=("json", "table"), default="table")
    options = parser.parse_args()
    try:
        measured = _measured(options)
    except (ListError, OSError) as error:
        print(error, file=sys.stderr)
        return INVALID
    if options.output == "json":
        print(json.dumps(measured))
    else:
        print("\n".join(table(measured)))
    return 0


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    if options.placements is None:
        return document(options, None)
    with options.placements.open("w", newline="", encoding="utf-8") as file:
        return document(options, file)


if __name__ == "__main__":
    sys.exit(main())
