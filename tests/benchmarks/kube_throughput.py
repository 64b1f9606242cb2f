"""Pods per second of a real kube-scheduler, with Tidal as its extender and without any.

One control plane, one set of nodes. Each run makes its pods first, then starts a kube-scheduler of
its own for them; the span from the first to the last bind is what a watcher saw. Runs alternate,
each round in the reverse order of the one before, so that all contenders meet the same machine:

  none      no extender
  trivial   an extender that lets every node pass: the cost of asking alone
  tidal     Tidal's extender as deploy/ configures it, but over plain HTTP on loopback, fed once a
            second with standings of the watched cluster by a process of its own; no pod is Tidal's
  mtls      the same over mTLS, as between pods: scheduler and extender share the cores here, so
            both ends of the encryption stand in each pod's time
  reserved  as tidal, and every other pod is of a role that has a GPU reserved for each

Exit status 1 where the median of `tidal` is below 0.9 of `none`, or an answer was wrong.
Output: `tidal.kube_throughput/1`.

    python -m tests.benchmarks.kube_throughput --nodes 1000 --gpus 8 --pods 1000 -o json
"""

import argparse
import json
import sys
import time
from contextlib import ExitStack, closing
from statistics import median
from typing import Any

import msgspec

from scheduler.apiserver.client import Api
from scheduler.cli.arguments import count
from scheduler.planning.snapshot import Reservation
from scheduler.simulation import reference
from scheduler.simulation.clusterfile import ClusterSpec, parse_cluster
from scheduler.simulation.kubelet.registration import register
from tests.benchmarks.options import Options
from tests.benchmarks.throughputpods import ROLE, Binds, Contender, clear, create, owner_of, pod
from tests.benchmarks.throughputtidal import GPU_MODEL, Verb, counted, tidal
from tests.benchmarks.trivial_extender import trivial_extender
from tests.controlplane.plane import ControlPlane, missing_programs
from tests.controlplane.settings import Extender

SCHEMA = "tidal.kube_throughput/1"
LEAF_NODES = 16
RUN_SECONDS = 300.0
RESERVED_SECONDS = 3600.0
LEAST_RATIO = 0.9
CONTENDERS: tuple[Contender, ...] = ("none", "trivial", "tidal", "mtls", "reserved")


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one contender; a line of `timing.records`."""

    extender: Contender
    round: int
    pods: int
    bound: int
    misplaced: int
    """Pods of the role that are not where their GPUs were reserved."""
    span_seconds: float
    pods_per_second: float
    verbs: dict[str, Verb] = {}
    wrong: str = ""


# ---- the cluster -----------------------------------------------------------------------------


def cluster(nodes: int, gpus: int) -> ClusterSpec:
    """Return the nodes."""
    group = {"name": "gpu", "count": nodes, "gpus": gpus, "gpu_model": GPU_MODEL}
    return parse_cluster({"groups": [{**group, "leaf_nodes": LEAF_NODES}]})


def reserved(nodes: ClusterSpec, pods: int, now_seconds: float) -> tuple[Reservation, ...]:
    """Reserve a GPU for each of so many pods, from the last node on."""
    spots = (node.name for node in reversed(nodes.nodes) for _ in range(node.gpus))
    return tuple(
        Reservation(
            id=f"{ROLE}-{number}",
            owner=ROLE,
            parts=((spot, 1),),
            created_seconds=now_seconds,
            expires_seconds=now_seconds + RESERVED_SECONDS,
        )
        for number, spot in zip(range(pods), spots, strict=False)
    )


def workload() -> dict[str, Any]:
    """Return the role's Deployment, at no replicas: the pods say themselves whose they are."""
    made = pod("chat", "nobody", "")
    labels = {"app": "chat"}
    template = {"metadata": {"labels": labels}, "spec": made["spec"]}
    return {
        "metadata": {"name": "chat"},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
    }


# ---- the measurement -------------------------------------------------------------------------


def run(
    plane: ControlPlane, api: Api, nodes: ClusterSpec, contender: Contender, pods: int, turn: int
) -> Run:
    """Make the pods, let a new kube-scheduler bind them, and take them away again."""
    scheduler = f"{contender}-{len(plane.schedulers)}"
    owned = sum(bool(owner_of(contender, number)) for number in range(pods))
    kept = reserved(nodes, owned, time.time())
    create(api, contender, scheduler, pods)
    verbs: dict[str, Verb] = {}
    with ExitStack() as stack:
        extender, port = None, 0
        if contender == "trivial":
            extender = Extender(url=stack.enter_context(trivial_extender()), preempt_verb="")
        elif contender != "none":
            extender, port = stack.enter_context(tidal(plane, kept, mtls=contender == "mtls"))
        binds = Binds(api, pods)
        stack.callback(binds.stop)
        running = plane.start_scheduler(scheduler, extender=extender)
        stack.callback(running.stop)
        binds.done.wait(RUN_SECONDS)
        if port:
            verbs = counted(port)
    clear(api)
    spots = {node for one in kept for node, _ in one.parts}
    return result(contender, turn, pods, binds, verbs, spots)


def result(
    contender: Contender, turn: int, pods: int, binds: Binds, verbs: dict[str, Verb], kept: set[str]
) -> Run:
    """Put one run together, and say what is wrong with it."""
    times = sorted(binds.at.values())
    span = times[-1] - times[0] if times else 0.0
    misplaced = sum(owner == ROLE and node not in kept for owner, node in binds.where.values())
    asked = verbs["filter"].calls if "filter" in verbs else 0
    faults = {
        f"{len(times)} of {pods} pods were bound": len(times) < pods,
        f"{misplaced} pods are not where their GPUs were reserved": misplaced > 0,
        f"the extender was asked {asked} times": bool(verbs) and asked < pods,
        "the extender had errors": any(one.errors for one in verbs.values()),
    }
    return Run(
        extender=contender,
        round=turn,
        pods=pods,
        bound=len(times),
        misplaced=misplaced,
        span_seconds=round(span, 3),
        pods_per_second=round((len(times) - 1) / span, 1) if span else 0.0,
        verbs=verbs,
        wrong="; ".join(sentence for sentence, is_so in faults.items() if is_so),
    )


def measure(nodes: int, gpus: int, pods: int, rounds: int) -> list[Run]:
    """Return all runs, in their order."""
    spec = cluster(nodes, gpus)
    runs = []
    with ControlPlane() as plane, closing(Api.load(plane.kubeconfig)) as api:
        register(api, spec, time.time)
        api.post("/apis/apps/v1/namespaces/default/deployments", workload())
        for turn in range(rounds):
            for contender in CONTENDERS if turn % 2 == 0 else reversed(CONTENDERS):
                runs.append(run(plane, api, spec, contender, pods, turn))
                print(f"  {runs[-1]}", file=sys.stderr, flush=True)
    return runs


def document(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return the whole document."""
    since = reference.start()
    runs = measure(options.nodes, options.gpus, options.pods, options.rounds)
    rates = {
        contender: median(one.pods_per_second for one in runs if one.extender == contender)
        for contender in CONTENDERS
    }
    ratios = {name: round(rate / rates["none"], 3) for name, rate in rates.items()}
    names = ("nodes", "gpus", "pods", "rounds")
    return {
        "schema": SCHEMA,
        "inputs": {name: getattr(options, name) for name in names},
        "results": [
            {"extender": one.extender, "round": one.round, "wrong": one.wrong} for one in runs
        ],
        "timing": {
            **msgspec.structs.asdict(reference.machine(since)),
            "ratio": ratios["tidal"],
            "least_ratio": LEAST_RATIO,
            "ratios": ratios,
            "median_pods_per_second": rates,
            "records": msgspec.to_builtins(runs),
        },
    }


def main() -> int:
    """Measure and print; 1 where the ratio is missed or an answer was wrong, 2 without binaries."""
    parser = Options("kube_throughput", __doc__)
    parser.add_argument("--nodes", type=count, default=1000)
    parser.add_argument("--gpus", type=count, default=8)
    parser.add_argument("--pods", type=count, default=1000)
    parser.add_argument("--rounds", type=count, default=2, help="runs of each contender")
    parser.add_argument("-o", "--output", choices=("json", "table"), default="table")
    options = parser.parse_args()
    most = options.nodes * options.gpus
    if not 2 <= options.pods <= most:
        parser.error(f"--pods: {options.pods} is not from 2 to {most}, --nodes x --gpus")
    missing = missing_programs()
    if missing:
        print(f"error: no {', '.join(missing)}: run `make controlplane`", file=sys.stderr)
        return 2
    made = document(options)
    timing = made["timing"]
    if options.output == "json":
        print(json.dumps(made))
    else:
        for name, rate in timing["median_pods_per_second"].items():
            print(f"{name}: {rate:.1f} pods/s, ratio {timing['ratios'][name]:.3f}")
    sound = not any(one["wrong"] for one in made["results"])
    return 0 if sound and timing["ratio"] >= LEAST_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
