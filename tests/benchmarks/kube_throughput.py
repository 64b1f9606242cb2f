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
import http.client
import json
import multiprocessing
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, Literal

import msgspec

from scheduler.adapters.cluster.assembly import Assembler
from scheduler.adapters.cluster.watching import Watching
from scheduler.apiserver.client import Api
from scheduler.cli.arguments import count
from scheduler.extender import process
from scheduler.extender.counts import BOUNDS, Told, VerbCounts
from scheduler.https import Tls
from scheduler.planning.actions import Plan
from scheduler.planning.policy import parse
from scheduler.planning.snapshot import Reservation
from scheduler.planning.standing import standing_of
from scheduler.planning.supply import open_reservations
from scheduler.planning.targets import GROUP_ANNOTATION, OWNER_ANNOTATION
from scheduler.simulation import reference
from scheduler.simulation.clusterfile import ClusterSpec, parse_cluster
from scheduler.simulation.kubelet.registration import register
from tests.benchmarks.options import Options
from tests.benchmarks.trivial_extender import trivial_extender
from tests.controlplane.plane import ControlPlane, missing_programs
from tests.controlplane.settings import Extender

SCHEMA = "tidal.kube_throughput/1"
GPU = "nvidia.com/gpu"
GPU_MODEL = "H100-SXM-80GB"
PODS = "/api/v1/namespaces/default/pods"
ROLE = "chat/decode"
DECODE = {
    "tokens": "generated",
    "capacity_tokens_per_second": {GPU_MODEL: 1000},
    "target": {"kind": "Deployment", "namespace": "default", "name": "chat"},
}
POLICY = parse({"version": 1, "models": {"chat": {"roles": {"decode": DECODE}}}})
LEAF_NODES = 16
CONNECTIONS = 16
PUBLISH_SECONDS = 1.0
RUN_SECONDS = 300.0
START_SECONDS = 60.0
POLL_SECONDS = 0.05
RESERVED_SECONDS = 3600.0
LEAST_RATIO = 0.9

Contender = Literal["none", "trivial", "tidal", "mtls", "reserved"]
CONTENDERS: tuple[Contender, ...] = ("none", "trivial", "tidal", "mtls", "reserved")


class Verb(msgspec.Struct, frozen=True):
    """What the extender counted of one verb."""

    calls: int
    refused: int
    errors: int
    mean_seconds: float
    below: dict[str, int]
    """Upper bound in seconds -> calls that took no longer, of the bounds that any call met."""


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


# ---- Tidal -----------------------------------------------------------------------------------


class Feed(msgspec.Struct, frozen=True):
    """What Tidal's process is started with; pickled."""

    kubeconfig: Path
    tls: Tls | None
    reservations: tuple[Reservation, ...]


def feed(pipe: Connection, given: Feed) -> None:
    """Run watches and extender as the daemon does; publish what is seen until the pipe closes."""
    api = Api.load(given.kubeconfig)
    watching = Watching(api, (GPU,))
    watching.start()
    extender = process.start("127.0.0.1", 0, tls=given.tls, health_port=0)
    assembler, reservations = Assembler(), given.reservations
    try:
        while not watching.synced:
            time.sleep(POLL_SECONDS)
        while True:
            began = time.monotonic()
            seen = assembler.snapshot(watching.observed(), POLICY, time.time(), reservations)
            reservations = open_reservations(seen)
            plan = Plan(at_seconds=seen.now_seconds, source="full", reservations=reservations)
            extender.publish(standing_of(seen, plan, POLICY))
            pipe.send((extender.port, extender.health_port))
            if pipe.poll(max(0.0, began + PUBLISH_SECONDS - time.monotonic())):
                return
    except (EOFError, OSError):
        return
    finally:
        extender.stop()
        watching.stop()
        api.close()


def certificates(plane: ControlPlane) -> Tls:
    """Write the extender's files."""
    server = plane.authority.server("127.0.0.1")
    certificate, key = plane.folder / "extender.crt", plane.folder / "extender.key"
    certificate.write_bytes(server.certificate)
    key.write_bytes(server.key)
    return Tls(certificate=certificate, key=key, client_authority=plane.ca)


@contextmanager
def tidal(
    plane: ControlPlane, reservations: tuple[Reservation, ...], *, mtls: bool
) -> Iterator[tuple[Extender, int]]:
    """Run Tidal, and yield how a kube-scheduler asks it and the port that tells its counters."""
    client = plane.authority.client("scheduler")
    files = certificates(plane) if mtls else None
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    given = Feed(plane.kubeconfig, files, reservations)
    child = context.Process(target=feed, args=(theirs, given), name="tidal")  # has a child itself
    child.start()
    theirs.close()
    try:
        if not ours.poll(START_SECONDS):
            raise RuntimeError("Tidal published nothing")
        port, health_port = ours.recv()
        yield (
            Extender(
                url=f"{'https' if mtls else 'http'}://127.0.0.1:{port}",
                prioritize_verb="prioritize",
                ignorable=True,
                timeout_seconds=1.0,
                certificate=client,
                authority=plane.authority.certificate,
            ),
            health_port,
        )
    finally:
        ours.close()
        child.join()


def counted(port: int) -> dict[str, Verb]:
    """Ask the extender what it has answered."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", "/v1/extender")
        told = msgspec.json.decode(connection.getresponse().read(), type=Told)
    return {name: verb(counts) for name, counts in told.verbs.items() if counts.calls}


def verb(counts: VerbCounts) -> Verb:
    """Reduce the counts of a verb."""
    ends = (*(str(bound) for bound in BOUNDS), "inf")
    below, total = {}, 0
    for end, calls in zip(ends, counts.buckets, strict=True):
        total += calls
        if calls:
            below[end] = total
    mean = counts.seconds / counts.calls
    return Verb(counts.calls, counts.refused, counts.errors, round(mean, 6), below)


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


def pod(name: str, scheduler: str, owner: str) -> dict[str, Any]:
    """Return a pod of one GPU."""
    marks = {OWNER_ANNOTATION: owner, GROUP_ANNOTATION: f"default/{name}"} if owner else {}
    limits = {"resources": {"limits": {GPU: "1"}}}
    return {
        "metadata": {"name": name, "annotations": marks},
        "spec": {
            "schedulerName": scheduler,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [{"name": "main", "image": "llm:v1", **limits}],
        },
    }


def workload() -> dict[str, Any]:
    """Return the role's Deployment, at no replicas: the pods say themselves whose they are."""
    made = pod("chat", "nobody", "")
    labels = {"app": "chat"}
    template = {"metadata": {"labels": labels}, "spec": made["spec"]}
    return {
        "metadata": {"name": "chat"},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
    }


def owner_of(contender: Contender, number: int) -> str:
    """Return whose the pod is."""
    return ROLE if contender == "reserved" and number % 2 else ""


def create(api: Api, contender: Contender, scheduler: str, pods: int) -> None:
    """Create the pods over parallel connections."""

    def one(number: int) -> None:
        api.post(PODS, pod(f"{scheduler}-{number:05}", scheduler, owner_of(contender, number)))

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for _ in pool.map(one, range(pods)):
            pass


def clear(api: Api) -> None:
    """Delete all pods by force, and wait until they are gone."""
    api.delete(PODS, gracePeriodSeconds="0")
    while json.loads(api.get(PODS, limit="1"))["items"]:
        time.sleep(POLL_SECONDS)


# ---- the watcher -----------------------------------------------------------------------------


class Spec(msgspec.Struct, frozen=True):
    """Where a pod is."""

    nodeName: str = ""  # noqa: N815  # the API's name


class Name(msgspec.Struct, frozen=True):
    """What a pod is called."""

    name: str = ""
    annotations: dict[str, str] = {}
    resourceVersion: str = ""  # noqa: N815  # the API's name


class Watched(msgspec.Struct, frozen=True):
    """A pod, reduced."""

    metadata: Name
    spec: Spec = Spec()


class Event(msgspec.Struct, frozen=True):
    """One line of a watch."""

    object: Watched


class Binds:
    """Sees pods bound: `at` is name -> monotonic seconds, `where` is name -> (owner, node)."""

    def __init__(self, api: Api, expected: int) -> None:
        """Watch from now on."""
        listed = msgspec.json.decode(api.get(PODS, limit="1"), type=Watched)
        version = listed.metadata.resourceVersion
        self.at: dict[str, float] = {}
        self.where: dict[str, tuple[str, str]] = {}
        self.done = threading.Event()
        self._expected = expected
        self._watch = api.watch(PODS, resourceVersion=version)
        self._thread = threading.Thread(target=self._follow, name="binds", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watch."""
        self._watch.close()
        self._thread.join()

    def _follow(self) -> None:
        decoder = msgspec.json.Decoder(Event)
        for line in self._watch:
            seen = decoder.decode(line).object
            name, node = seen.metadata.name, seen.spec.nodeName
            if node and name not in self.at:
                self.at[name] = time.monotonic()
                self.where[name] = (seen.metadata.annotations.get(OWNER_ANNOTATION, ""), node)
            if len(self.at) == self._expected:
                self.done.set()


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
