"""Everything that plays in a demonstration on a real cluster, look by look.

A look reads the API server's objects, lets the owners of Jobs act on them, keeps the backlog of
Jobs filled, and hands what changed to the record. The daemon ticks beside it in a thread.
"""

import threading
from collections import Counter
from contextlib import ExitStack
from queue import Empty, SimpleQueue

import msgspec

from scheduler.adapters.cluster.assembly import Assembler
from scheduler.adapters.cluster.observed import Observed
from scheduler.adapters.cluster.quickened import Quickened
from scheduler.adapters.cluster.watching import Watching
from scheduler.adapters.statefile import beside
from scheduler.adapters.wallclock import WallClock, steady_seconds
from scheduler.apiserver.client import Api, ApiError, ApiUnreachableError
from scheduler.apiserver.times import text
from scheduler.planning import marks
from scheduler.planning.snapshot import Snapshot
from scheduler.simulation import demomanifests as manifests
from scheduler.simulation.chronicle import Chronicle
from scheduler.simulation.demo import DemoError
from scheduler.simulation.events import Event, JobLine, Sink
from scheduler.simulation.load import LoadSignals
from scheduler.simulation.owners import Owners, Told
from scheduler.wiring import demoground
from scheduler.wiring.cluster import ClusterSettings, Replica
from scheduler.wiring.demorecord import Record
from scheduler.wiring.demovalues import Audience, ClusterDemo, Played, Scene
from scheduler.wiring.parts import LOOPBACK, Log, logger

LOOK_SECONDS = 0.5
"""Of the wall."""
UNASKED_SECONDS = 30.0
"""How long pods may wait before it is said that kube-scheduler does not ask."""
ALIGNED_SECONDS = 600.0
"""Bins of demand lie on the grid of the forecaster."""
STOP_SECONDS = 30.0
GPU_RESOURCES = ("nvidia.com/gpu",)


class _Daemon:
    """The daemon's replica, in a thread."""

    def __init__(self, demo: ClusterDemo, log: Log, origin: float, signals: LoadSignals) -> None:
        self._settings = ClusterSettings(
            kubeconfig=demo.kubeconfig,
            context=demo.context,
            namespace=manifests.NAMESPACE,
            identity="tidal-demo",
            policy_file=demo.policy_file,
            ledger=demo.ledger,
            forecast_state=beside(demo.ledger),
            listen=LOOPBACK,
            api_port=demo.api_port,
            extender_port=demo.extender_port,
            clock_rate=demo.rate,
            clock_origin=origin,
        )
        self._signals, self._log = signals, log
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="daemon", daemon=True)
        self.failure: BaseException | None = None
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it ticks, or is about to."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End it; does nothing the second time."""
        self._stopped.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        try:
            with ExitStack() as stack:
                Replica(self._settings, lambda _: self._signals, self._log, stack).run(
                    self._stopped
                )
        except BaseException as error:  # noqa: BLE001 - whatever it is, the play says it
            self.failure = error


class Stage:
    """Everything that plays, from its start to its end."""

    def __init__(self, demo: ClusterDemo, api: Api, stack: ExitStack, audience: Audience) -> None:
        self._demo, self._api, self._audience = demo, api, audience
        self._kubelets = demoground.Kubelets(
            demo.kubeconfig, demo.context, demo.cluster, demo.rate, demo.seed
        )
        stack.callback(self._kubelets.stop)
        origin = origin_of(WallClock().now_seconds(), demo.rate)
        self._clock = WallClock(demo.rate, origin)
        begins = self._clock.now_seconds() // ALIGNED_SECONDS * ALIGNED_SECONDS
        self._shift = begins - demo.demand.start_seconds
        self._queue: SimpleQueue[Event] = SimpleQueue()
        read = Quickened(self._clock.of_wall)
        self._watching = Watching(api, GPU_RESOURCES, read=read)
        self._watching.start()
        stack.callback(self._watching.stop)
        for one in demo.workloads:
            body = manifests.deployment(one, demo.world, demo.scheduler_name)
            api.post(demoground.DEPLOYMENTS, body)
        signals = self._signals(begins, self._queue.put)
        file = stack.enter_context(demo.log.open("a", encoding="utf-8"))
        self._daemon = _Daemon(demo, logger(verbose=False, file=file), origin, signals)
        stack.callback(self._daemon.stop)
        self._record = Record(demo)
        stack.callback(self._record.close)
        self._owners = Owners(demo.world.batch)
        self._assembler = Assembler()
        self._chronicle = Chronicle()
        self._scored = False
        self._unasked_since: float | None = None
        self._asking_known = False

    def play(self) -> Played:
        """Look until the demand ends, or until Ctrl-C; then stop the daemon and count."""
        begun = steady_seconds()
        complete = False
        try:
            while not complete:
                self._living()
                complete = self._look()
                demoground.pause(LOOK_SECONDS)
        except KeyboardInterrupt:
            self._audience.said("interrupted; what was played so far counts")
        self._record.ask_extender()
        self._daemon.stop()
        now = min(self._now(), self._demo.demand.end_seconds)
        self._drain()
        return self._record.played(
            now, self._owners.finished, steady_seconds() - begun, complete=complete
        )

    def _signals(self, begins: float, sink: Sink) -> LoadSignals:
        demo = self._demo
        return LoadSignals(
            demo.world,
            demo.demand,
            demo.workloads,
            begins_seconds=begins,
            drain_seconds=manifests.DRAIN_SECONDS,
            seed=demo.seed,
            sink=sink,
        )

    def _living(self) -> None:
        if self._daemon.failure is not None:
            raise self._daemon.failure
        if not self._daemon.alive:
            raise DemoError(f"the daemon has ended by itself; see {self._demo.log}")
        if not self._kubelets.alive:
            raise DemoError("the fake kubelets have ended by themselves")

    def _now(self) -> float:
        """Return the demand's time."""
        return self._clock.now_seconds() - self._shift

    # ---- one look --------------------------------------------------------------------------

    def _look(self) -> bool:
        """Read, act, record; return whether the demand has ended."""
        now, end = self._now(), self._demo.demand.end_seconds
        self._drain()
        if not self._watching.synced:
            return False
        observed = self._watching.observed()
        seen = self._assembler.snapshot(observed, self._demo.policy, now + self._shift)
        ended = now >= end
        census = ended or (now >= 0 and not self._scored)
        at = min(now, end) if self._scored or now < 0 else 0.0
        self._scored = now >= 0
        for line in self._chronicle.look(seen, at, self._shift):
            self._record.take(line)
        self._own(seen, at, census=census)
        if not ended:
            self._submit(now)
        self._record.see(observed)
        if self._record.ask_extender():
            self._complain(observed)
        self._audience.shown(self._scene(seen, now))
        return ended

    def _drain(self) -> None:
        """Record what physics has said meanwhile."""
        try:
            while True:
                self._record.take(self._queue.get_nowait())
        except Empty:
            return

    def _own(self, seen: Snapshot, at: float, *, census: bool) -> None:
        """Let the owners of Jobs follow, and do what they ask for."""
        jobs = {one.id: one for one in seen.jobs}
        for said in self._owners.look(jobs, at + self._shift, census=census):
            if isinstance(said, JobLine):
                self._record.take(msgspec.structs.replace(said, t=at))
            else:
                self._tell(said)

    def _tell(self, told: Told) -> None:
        notes = {}
        if told.last_checkpoint_seconds is not None:
            notes[marks.LAST_CHECKPOINT] = text(told.last_checkpoint_seconds)
        if told.acknowledged_seconds is not None:
            notes[marks.ACKNOWLEDGED] = text(told.acknowledged_seconds)
        body = {"metadata": {"annotations": notes}} if notes else {}
        if told.course is not None:
            body |= manifests.next_course(told.course)
        path = f"{demoground.JOBS}/{told.job.partition('/')[2]}"
        try:
            self._api.patch(path, body, "merge")
        except (ApiError, ApiUnreachableError) as error:
            self._audience.said(f"{told.job}: its owner was not heard: {error}")

    def _submit(self, now: float) -> None:
        """Keep the backlog of Jobs filled."""
        for spec in self._demo.jobs.due(now, self._owners.waiting):
            name = f"{manifests.NAMESPACE}/{spec.id}"
            course = self._owners.submit(name, spec)
            body = manifests.job(spec, self._demo.world.batch, course, self._demo.scheduler_name)
            try:
                self._api.post(demoground.JOBS, body)
            except (ApiError, ApiUnreachableError) as error:
                self._owners.withdraw(name)
                self._audience.said(f"{name}: not submitted: {error}")

    def _complain(self, observed: Observed) -> None:
        """Say once that kube-scheduler has never asked, though pods are placed or wait for long."""
        self._asking_known = self._asking_known or self._record.filter_calls > 0
        if self._asking_known or not observed.pods:
            return
        now = steady_seconds()
        if self._unasked_since is None:
            self._unasked_since = now
        placed = any(pod.spec.node_name for pod in observed.pods)
        if placed or now - self._unasked_since >= UNASKED_SECONDS:
            self._asking_known = True
            self._audience.said(unasked(self._demo))

    def _scene(self, seen: Snapshot, now: float) -> Scene:
        total = sum(len(node.devices) for node in seen.nodes)
        online = sum(pod.gpus for one in seen.replicas for pod in one.pods if pod.node)
        lent = sum(pod.gpus for job in seen.jobs for pod in job.placed if pod.node)
        ready = Counter(one.role for one in seen.replicas if one.state == "ready")
        return Scene(
            now_seconds=now,
            end_seconds=self._demo.demand.end_seconds,
            gpus={"online": online, "lent": lent, "free": total - online - lent},
            replicas={one.key: ready[one.key] for one in self._demo.workloads},
            jobs=dict(sorted(Counter(one.state for one in seen.jobs).items())),
            filter_calls=self._record.filter_calls,
        )


def origin_of(wall_seconds: float, rate: float) -> float:
    """Return the origin of a clock of this rate that now stands at the beginning of a bin.

    At rate 1 it is now, and the bin has begun before.
    """
    if rate == 1.0:
        return wall_seconds
    return wall_seconds - (-wall_seconds % ALIGNED_SECONDS) / (rate - 1.0)


def unasked(demo: ClusterDemo) -> str:
    """Return what the user adds to kube-scheduler's configuration."""
    return (
        f"kube-scheduler ({demo.scheduler_name}) does not ask Tidal, so it places pods by itself; "
        "add to its KubeSchedulerConfiguration:\n"
        "extenders:\n"
        f"- urlPrefix: {demo.extender_url}\n"
        "  filterVerb: filter\n"
        "  prioritizeVerb: prioritize\n"
        "  preemptVerb: preempt\n"
        "  weight: 1\n"
        "  ignorable: true\n"
        "  httpTimeout: 1s\n"
        "  nodeCacheCapable: true\n"
        "  managedResources:\n"
        "  - name: nvidia.com/gpu"
    )
