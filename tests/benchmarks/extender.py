"""Latency of the extender's verbs, alone and while plans are solved beside it.

A real extender process answers keep-alive connections on loopback. A worker solves packings of
the same cluster's size without end, at the daemon's worker's priority; it is halted by signal
for the idle half of each round, so that both halves meet the same machine. Output:
`tidal.extender/1`.

    python -m tests.benchmarks.extender --nodes 1000 --concurrency 4 --calls 2000 -o json
"""

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from typing import Any

import msgspec

from binpacking.cards import PodShape
from binpacking.inventory import Device, Holder, Node
from binpacking.ladder import solve
from binpacking.problem import Effort, Gang, OnlineRequest, Problem, Shape, Supply
from scheduler.cli.arguments import count
from scheduler.daemon.worker import NICENESS
from scheduler.extender import process
from scheduler.planning.actions import Plan, StopJob
from scheduler.planning.policy import parse
from scheduler.planning.pricing import priced
from scheduler.planning.snapshot import Job, Pod, Reservation, Snapshot
from scheduler.planning.standing import Standing, standing_of
from scheduler.planning.targets import OWNER_ANNOTATION
from scheduler.simulation import reference
from tests.benchmarks.options import Options

SCHEMA = "tidal.extender/1"
SEED = 0
GPUS = 8
LEAF_NODES = 16
ROUNDS = 4
WARM_UP_CALLS = 50
START_SECONDS = 60.0
ROLE = "chat/decode"
HEAD = (
    "POST /{verb} HTTP/1.1\r\nHost: extender\r\nContent-Type: application/json\r\n"
    "Content-Length: {length}\r\n\r\n"
)
DECODE = {"tokens": "generated", "capacity_tokens_per_second": {"H": 1}}
TO_COME = tuple((PodShape(8000 * gpus, 0, gpus, 1000), 8 // gpus) for gpus in (1, 2, 4, 8))
POLICY = {"version": 1, "models": {"chat": {"roles": {"decode": DECODE}}}}


class Call(msgspec.Struct, frozen=True):
    """One measured call."""

    verb: str
    planning: bool
    seconds: float
    ok: bool


def name(number: int) -> str:
    """Return a node's name."""
    return f"gpu-{number:05}"


def cluster(nodes: int) -> Snapshot:
    """Return a cluster where jobs hold about half of the GPUs."""
    draw = random.Random(SEED)  # noqa: S311  # a layout, not a secret
    jobs: list[Job] = []
    built = []
    for number in range(nodes):
        held = draw.choice((0, 2, 4, 8))
        if held:
            jobs.append(job(number, held))
        built.append(node(number, held))
    return Snapshot(now_seconds=1e6, nodes=tuple(built), jobs=tuple(jobs))


def job(number: int, gpus: int) -> Job:
    """Return a running job of one pod on one node."""
    pod = Pod(name=f"job-{number}-0", uid=f"uid-job-{number}", gpus=gpus, node=name(number))
    return Job(
        id=f"job-{number}",
        tenant="batch",
        priority=1,
        state="running",
        pods=1,
        gpus_per_pod=gpus,
        min_pods=1,
        max_pods=1,
        submitted_seconds=0.0,
        started_seconds=0.0,
        expected_remaining_seconds=3600.0,
        placed=(pod,),
    )


def node(number: int, held: int) -> Node:
    """Return a node whose first `held` devices belong to its job."""
    holders = (Holder(f"job-{number}"),)
    return Node(
        name=name(number),
        gpu_model="H",
        switch_path=("core", f"leaf-{number // LEAF_NODES}"),
        cpu_milli=128_000,
        cpu_held_milli=8000 * held,
        devices=tuple(
            Device(index, f"{number}-{index}", 81920, holders=holders if index < held else ())
            for index in range(GPUS)
        ),
    )


def standing(snapshot: Snapshot) -> Standing:
    """Return what a plan leaves behind that reserves every eighth node and stops some jobs."""
    reserved = tuple(
        Reservation(
            id=f"{ROLE}-{number}",
            owner=ROLE,
            parts=((name(number), 4),),
            created_seconds=snapshot.now_seconds,
            expires_seconds=snapshot.now_seconds + 300.0,
        )
        for number in range(0, len(snapshot.nodes), 8)
    )
    stops = tuple(
        StopJob(
            job=one.id,
            expected_attempt=0,
            for_role=ROLE,
            code="recall_now",
            sentence=f"{ROLE} needs {one.id}",
        )
        for one in snapshot.jobs[::10]
    )
    plan = Plan(
        at_seconds=snapshot.now_seconds,
        source="full",
        actions=stops,
        reservations=reserved,
        to_come=TO_COME,
        prices=priced(snapshot.nodes, TO_COME),
    )
    return standing_of(snapshot, plan, parse(POLICY))


def pod(number: int, gpus: int, owner: str) -> dict[str, Any]:
    """Return a small v1.Pod as kube-scheduler sends it."""
    wants = {"limits": {"nvidia.com/gpu": str(gpus)}, "requests": {"nvidia.com/gpu": str(gpus)}}
    return {
        "metadata": {
            "name": f"pod-{number}",
            "namespace": "default",
            "uid": f"uid-{number}",
            "labels": {"app": "llm"},
            "annotations": {OWNER_ANNOTATION: owner},
        },
        "spec": {
            "containers": [{"name": "main", "image": "llm:v1", "resources": wants}],
            "priority": 1000,
            "schedulerName": "default-scheduler",
        },
        "status": {"phase": "Pending"},
    }


def body(verb: str, number: int, snapshot: Snapshot) -> bytes:
    """Return one call's body; every other pod belongs to the role with reservations."""
    asked = pod(number, (1, 2, 4)[number % 3], ROLE if number % 2 else "")
    if verb == "preempt":
        offers = {
            one.placed[0].node: {"Pods": [{"UID": one.placed[0].uid}], "NumPDBViolations": 0}
            for one in snapshot.jobs
        }
        envelope: dict[str, Any] = {
            "Pod": asked,
            "NodeNameToVictims": None,
            "NodeNameToMetaVictims": offers,
        }
    else:
        names = [one.name for one in snapshot.nodes]
        envelope = {"Pod": asked, "Nodes": None, "NodeNames": names}
    return msgspec.json.encode(envelope)


async def client(
    port: int, bodies: dict[str, list[bytes]], calls: int, *, planning: bool
) -> list[Call]:
    """Call the verbs in turn on one connection and return the measurements."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    measured = []
    for number, verb in zip(range(calls * len(bodies)), itertools.cycle(bodies), strict=False):
        payload = bodies[verb][number % len(bodies[verb])]
        head = HEAD.format(verb=verb, length=len(payload)).encode()
        started = time.perf_counter()
        writer.write(head + payload)
        status = await reader.readuntil(b"\r\n\r\n")
        length = int(status.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        answer = await reader.readexactly(length)
        seconds = time.perf_counter() - started
        ok = b" 200 " in status and (verb != "filter" or answer.endswith(b'"Error":""}'))
        measured.append(Call(verb, planning, seconds, ok or b'"Error":""' in answer))
    writer.close()
    await writer.wait_closed()
    return measured


async def clients(
    port: int, bodies: dict[str, list[bytes]], calls: int, concurrency: int, *, planning: bool
) -> list[Call]:
    """Run `concurrency` clients together; `calls` is per verb over all of them."""
    share = max(1, calls // concurrency)
    together = (client(port, bodies, share, planning=planning) for _ in range(concurrency))
    return [call for calls in await asyncio.gather(*together) for call in calls]


def problem(snapshot: Snapshot) -> Problem:
    """Return a packing question of the cluster's size."""
    draw = random.Random(SEED)  # noqa: S311  # a layout, not a secret
    supplies = tuple(
        Supply(one.name, one.gpu_model, one.leaf, one.free_gpus, GPUS) for one in snapshot.nodes
    )
    online = tuple(
        OnlineRequest(
            key=f"model-{number}/decode",
            shape=Shape(*draw.choice(((1, 1), (1, 2), (1, 4), (1, 8), (2, 8)))),
            capacity_milli={"H": 1000},
            shortage_milli=1000 * max(1, len(snapshot.nodes) // 20),
            limit=len(snapshot.nodes),
        )
        for number in range(16)
    )
    gangs = tuple(
        Gang(key=one.id, parts=one.parts, cost=one.gpus * draw.randint(60, 7200))
        for one in snapshot.jobs
    )
    return Problem(supplies=supplies, online=online, gangs=gangs)


def plan_for_ever(question: Problem, ready: Event) -> None:
    """Solve until killed, at the priority of the daemon's worker."""
    os.nice(NICENESS)
    ready.set()
    while True:
        solve(question, Effort(name="full", program=True))


@contextmanager
def planner(snapshot: Snapshot) -> Iterator[int]:
    """Run the planning load, halted, and yield its process id."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    worker = context.Process(target=plan_for_ever, args=(problem(snapshot), ready), daemon=True)
    worker.start()
    if worker.pid is None or not ready.wait(START_SECONDS):
        raise RuntimeError("the planning worker did not start")
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        yield worker.pid
    finally:
        worker.kill()
        worker.join()


def measure(nodes: int, concurrency: int, calls: int) -> list[Call]:
    """Return all calls; rounds alternate between the idle and the planning half."""
    snapshot = cluster(nodes)
    verbs = ("filter", "prioritize", "preempt")
    bodies = {verb: [body(verb, number, snapshot) for number in range(12)] for verb in verbs}
    measured: list[Call] = []
    extender = process.start("127.0.0.1", 0)
    try:
        with planner(snapshot) as worker:
            for planning in (False, True) * ROUNDS:
                os.kill(worker, signal.SIGCONT if planning else signal.SIGSTOP)
                extender.publish(standing(snapshot))
                arguments = (extender.port, bodies)
                asyncio.run(clients(*arguments, WARM_UP_CALLS, concurrency, planning=planning))
                share = -(-calls // ROUNDS)
                measured += asyncio.run(clients(*arguments, share, concurrency, planning=planning))
                print(f"planning={planning}: {len(measured)} calls", file=sys.stderr)
    finally:
        extender.stop()
    return measured


def record(verb: str, nodes: int, calls: list[Call]) -> dict[str, Any]:
    """Return one line of `timing.records`."""
    seconds = sorted(call.seconds for call in calls)
    return {
        "verb": verb,
        "nodes": nodes,
        "planning": calls[0].planning,
        "p50_seconds": seconds[len(seconds) // 2],
        "p99_seconds": seconds[min(len(seconds) - 1, len(seconds) * 99 // 100)],
        "calls": len(calls),
        "errors": sum(not call.ok for call in calls),
    }


def document(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return the whole document."""
    since = reference.start()
    calls = measure(options.nodes, options.concurrency, options.calls)
    groups: dict[tuple[str, bool], list[Call]] = {}
    for call in calls:
        groups.setdefault((call.verb, call.planning), []).append(call)
    records = [record(verb, options.nodes, group) for (verb, _), group in groups.items()]
    return {
        "schema": SCHEMA,
        "inputs": {
            "nodes": options.nodes,
            "concurrency": options.concurrency,
            "calls": options.calls,
            "seed": SEED,
        },
        "results": [
            {"verb": one["verb"], "planning": one["planning"], "errors": one["errors"]}
            for one in records
        ],
        "timing": {**msgspec.structs.asdict(reference.machine(since)), "records": records},
    }


def main() -> int:
    """Run the benchmark and return the exit status: 1 where a call went wrong."""
    parser = Options("extender", __doc__)
    parser.add_argument("--nodes", type=count, default=1000)
    parser.add_argument("--concurrency", type=count, default=4)
    parser.add_argument(
        "--calls", type=count, default=2000, help="per verb, idle and planning each"
    )
    parser.add_argument("-o", "--output", choices=("json", "table"), default="table")
    options = parser.parse_args()
    measured = document(options)
    if options.output == "json":
        print(json.dumps(measured))
    else:
        for one in measured["timing"]["records"]:
            print("  ".join(f"{key}={value}" for key, value in one.items()))
    return 1 if any(one["errors"] for one in measured["results"]) else 0


if __name__ == "__main__":
    sys.exit(main())
