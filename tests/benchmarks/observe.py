"""How fast, how large and how far behind the reader of a large cluster is.

Nodes and bound pods are made on the test control plane. A reader in a process of its own then
connects as the daemon does; its seconds to the first consistent view and its memory are taken,
with the snapshots that it assembles every few seconds as a tick does.
After that pods are annotated with the time of the write at a steady rate, and the lag is the time
until the write is seen in `observed()`, coalesced as a daemon would. Output: `tidal.observe/1`;
exit status 1 where a target is missed.

    python -m tests.benchmarks.observe --nodes 5000 --pods 50000 -o json
"""

import argparse
import itertools
import json
import multiprocessing
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

from scheduler.adapters.cluster.assembly import Assembler
from scheduler.adapters.cluster.watching import Watching
from scheduler.apiserver.client import Api
from scheduler.apiserver.objects import Pod
from scheduler.cli.arguments import count, positive
from scheduler.planning.actions import Plan
from scheduler.planning.policy import parse
from scheduler.planning.standing import standing_of
from scheduler.simulation import reference
from tests.benchmarks.observecluster import CONNECTIONS, GPU, fill, has_gpu, pod_name
from tests.benchmarks.options import Options
from tests.controlplane.plane import ControlPlane, missing_programs

SCHEMA = "tidal.observe/1"
STAMP = "tidal.dev/stamp"
COALESCE_SECONDS = 0.05
SYNC_SECONDS = 120.0
DRAIN_SECONDS = 5.0
TICK_SECONDS = 5.0
POLICY = {
    "version": 1,
    "models": {
        "chat": {
            "roles": {
                "decode": {
                    "target": {"kind": "Deployment", "name": "chat"},
                    "tokens": "generated",
                    "capacity_tokens_per_second": {"NVIDIA-H100-80GB-HBM3": 1000},
                }
            }
        }
    },
}
FIRST_VIEW_SECONDS = 10.0
MOST_RSS_MIB = 1024.0
LAG_P99_SECONDS = 1.0


class Target(msgspec.Struct, frozen=True):
    """A measure and its limit."""

    measured: float
    limit: float
    met: bool


class Seen(msgspec.Struct, frozen=True):
    """What the reader reports."""

    first_view_seconds: float
    nodes: int
    gpu_pods: int
    rss_mib: float
    peak_rss_mib: float
    lags_seconds: tuple[float, ...] = ()
    problems: tuple[str, ...] = ()


# ---- the reader ------------------------------------------------------------------------------


def read(kubeconfig: str, pipe: Connection) -> None:
    """Follow the cluster; report at the first view, and at the end with all lags."""
    changed = threading.Event()
    began = time.monotonic()
    watching = Watching(Api.load(Path(kubeconfig)), (GPU,), changed.set)
    watching.start()
    while not watching.synced and time.monotonic() - began < SYNC_SECONDS:
        changed.wait(1.0)
        changed.clear()
    first = report(watching, time.monotonic() - began)
    pipe.send_bytes(msgspec.json.encode(first))
    threading.Thread(target=assemble, args=(watching,), daemon=True).start()
    lags = tuple(follow(watching, changed, pipe))
    last = report(watching, first.first_view_seconds)
    pipe.send_bytes(msgspec.json.encode(msgspec.structs.replace(last, lags_seconds=lags)))
    watching.stop()


def assemble(watching: Watching) -> None:
    """Make snapshots, and what the extender gets of them, as the daemon's ticks do."""
    assembler, policy = Assembler(), parse(POLICY)
    while True:
        snapshot = assembler.snapshot(watching.observed(), policy, time.time())
        standing_of(snapshot, Plan(at_seconds=snapshot.now_seconds, source="quick"), policy)
        time.sleep(TICK_SECONDS)


def follow(watching: Watching, changed: threading.Event, pipe: Connection) -> Iterator[float]:
    """Yield the lag of every write seen, until the pipe says stop."""
    before = watching.observed().pods
    while not pipe.poll():
        changed.wait(COALESCE_SECONDS)
        time.sleep(COALESCE_SECONDS)
        changed.clear()
        pods = watching.observed().pods
        now = time.monotonic()
        for old, new in zip(before, pods, strict=True):
            if old.metadata.resource_version != new.metadata.resource_version:
                yield now - float(stamp(new))
        before = pods


def stamp(pod: Pod) -> str:
    """The time of the write, by the clock that all processes of a machine share."""
    return pod.metadata.annotations[STAMP]


def report(watching: Watching, first_view_seconds: float) -> Seen:
    """What is known now."""
    observed = watching.observed()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    rss, peak = (int(status[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM"))
    return Seen(
        round(first_view_seconds, 3),
        len(observed.nodes),
        len(observed.pods),
        round(rss, 1),
        round(peak, 1),
        problems=watching.problems,
    )


# ---- the measurement -------------------------------------------------------------------------


def write_steadily(api: Api, pods: Iterable[int], per_second: float, seconds: float) -> int:
    """Annotate pods in turn with the time of the write; return how many were written."""
    began = time.monotonic()
    total = int(per_second * seconds)

    def write(turn: int, number: int) -> None:
        time.sleep(max(0.0, began + turn / per_second - time.monotonic()))
        change = {"metadata": {"annotations": {STAMP: str(time.monotonic())}}}
        api.patch(f"/api/v1/namespaces/default/pods/{pod_name(number)}", change, "merge")

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        turns = enumerate(itertools.islice(itertools.cycle(pods), total))
        return sum(1 for _ in pool.map(lambda turn: write(*turn), turns))


def measure(
    nodes: int, pods: int, per_second: float, seconds: float
) -> tuple[dict[str, object], dict[str, object]]:
    """Build the cluster, read it, write to it; what was seen, and how fast."""
    with ControlPlane() as plane:
        api = Api.load(plane.kubeconfig)
        create_seconds = timed(lambda: fill(api, nodes, pods))
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        arguments = (str(plane.kubeconfig), theirs)
        reader = multiprocessing.get_context("spawn").Process(target=read, args=arguments)
        reader.start()
        first = msgspec.json.decode(ours.recv_bytes(), type=Seen)
        print(f"  first view after {first.first_view_seconds} s", file=sys.stderr, flush=True)
        gpu_pods = [number for number in range(pods) if has_gpu(number)]
        began = time.monotonic()
        writes = write_steadily(api, gpu_pods, per_second, seconds)
        written_seconds = time.monotonic() - began
        time.sleep(DRAIN_SECONDS)
        ours.send_bytes(b"stop")
        last = msgspec.json.decode(ours.recv_bytes(), type=Seen)
        reader.join()
        api.close()
    expected = (nodes, len(gpu_pods))
    if (first.nodes, first.gpu_pods) != expected:
        raise RuntimeError(f"the reader saw {first}; expected nodes and GPU pods: {expected}")
    result = {
        "nodes": last.nodes,
        "gpu_pods": last.gpu_pods,
        "writes": writes,
        "seen": len(last.lags_seconds),
        "problems": last.problems,
    }
    return result, figures(last, create_seconds, writes / written_seconds)


def timed(work: Callable[[], None]) -> float:
    """Seconds that the work took."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def figures(last: Seen, create_seconds: float, writes_per_second: float) -> dict[str, object]:
    """What the reader met, beside its limits."""
    lags = sorted(last.lags_seconds)
    p99 = round(lags[int(0.99 * (len(lags) - 1))], 4)
    limits = {
        "first_view_seconds": (last.first_view_seconds, FIRST_VIEW_SECONDS),
        "peak_rss_mib": (last.peak_rss_mib, MOST_RSS_MIB),
        "event_lag_p99_seconds": (p99, LAG_P99_SECONDS),
    }
    return {
        "first_view_seconds": last.first_view_seconds,
        "rss_mib": last.rss_mib,
        "peak_rss_mib": last.peak_rss_mib,
        "event_lag_p50_seconds": round(statistics.median(lags), 4),
        "event_lag_p99_seconds": p99,
        "create_seconds": round(create_seconds, 1),
        "writes_per_second": round(writes_per_second, 1),
        "targets": {
            name: Target(got, limit, got <= limit) for name, (got, limit) in limits.items()
        },
    }


def document(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return the whole document."""
    since = reference.start()
    result, timing = measure(chosen.nodes, chosen.pods, chosen.events_per_second, chosen.seconds)
    names = ("nodes", "pods", "events_per_second", "seconds")
    machine = msgspec.structs.asdict(reference.machine(since))
    machine["command_peak_rss_mib"] = machine.pop("peak_rss_mib")  # the control plane's too
    made = {
        "schema": SCHEMA,
        "inputs": {name: getattr(chosen, name) for name in names},
        "results": [result],
        "timing": {**machine, **timing},
    }
    return dict(msgspec.to_builtins(made))


def main() -> int:
    """Measure and print; 1 where a target is missed, 2 where the binaries are missing."""
    parser = Options("observe", __doc__)
    parser.add_argument("--nodes", type=count, default=5000)
    parser.add_argument("--pods", type=count, default=50_000)
    parser.add_argument("--events-per-second", type=positive, default=200.0)
    parser.add_argument("--seconds", type=positive, default=30.0)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    chosen = parser.parse_args()
    missing = missing_programs()
    if missing:
        print(f"error: no {', '.join(missing)}: run `make controlplane`", file=sys.stderr)
        return 2
    made = document(chosen)
    if chosen.output == "json":
        print(json.dumps(made, indent=2))
    else:
        figures_of = {**made["results"][0], **made["timing"]}
        print("\n".join(f"{name}: {value}" for name, value in figures_of.items()))
    return 0 if all(target["met"] for target in made["timing"]["targets"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
