"""Tidal as `kube_throughput` runs it: watches and extender in a process of their own."""

import http.client
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from scheduler.adapters.cluster.assembly import Assembler
from scheduler.adapters.cluster.watching import Watching
from scheduler.apiserver.client import Api
from scheduler.extender import process
from scheduler.extender.counts import BOUNDS, Told, VerbCounts
from scheduler.https import Tls
from scheduler.planning.actions import Plan
from scheduler.planning.policy import parse
from scheduler.planning.snapshot import Reservation
from scheduler.planning.standing import standing_of
from scheduler.planning.supply import open_reservations
from tests.benchmarks.throughputpods import GPU, POLL_SECONDS
from tests.controlplane.plane import ControlPlane
from tests.controlplane.settings import Extender

GPU_MODEL = "H100-SXM-80GB"
DECODE = {
    "tokens": "generated",
    "capacity_tokens_per_second": {GPU_MODEL: 1000},
    "target": {"kind": "Deployment", "namespace": "default", "name": "chat"},
}
POLICY = parse({"version": 1, "models": {"chat": {"roles": {"decode": DECODE}}}})
PUBLISH_SECONDS = 1.0
START_SECONDS = 60.0


class Verb(msgspec.Struct, frozen=True):
    """What the extender counted of one verb."""

    calls: int
    refused: int
    errors: int
    mean_seconds: float
    below: dict[str, int]
    """Upper bound in seconds -> calls that took no longer, of the bounds that any call met."""


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
