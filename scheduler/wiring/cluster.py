"""Joins the parts into a daemon of a real cluster, one replica of several; nothing here decides.

Watches, lease, shared plan, policy and Events run in threads of their own; planner and extender
are processes. A tick follows every change, and at the policy's cadence without one. Everything is
taken down in reverse order of its start; the lease is given back last, when nothing acts any more.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from scheduler.adapters.cluster.access import Access
from scheduler.adapters.cluster.actuator import KubernetesActuator
from scheduler.adapters.cluster.authority import Authority
from scheduler.adapters.cluster.complaints import complaints
from scheduler.adapters.cluster.drivers.writing import Cluster
from scheduler.adapters.cluster.events import EventRecorder
from scheduler.adapters.cluster.leading import LedActuator, Publisher, Shared, own_state
from scheduler.adapters.cluster.lease import Leadership
from scheduler.adapters.cluster.observer import ClusterObserver
from scheduler.adapters.cluster.policymap import PolicyConfigMap
from scheduler.adapters.cluster.quickened import Quickened
from scheduler.adapters.cluster.shared import PlanReader, PlanWriter
from scheduler.adapters.cluster.watching import Watching
from scheduler.adapters.ledger import open_ledger
from scheduler.adapters.policyfile import PolicyFile
from scheduler.adapters.wallclock import WallClock, steady_seconds
from scheduler.apiserver.client import Api
from scheduler.daemon.api import Api as DaemonApi
from scheduler.daemon.api import ApiServer
from scheduler.daemon.documents.shapes import Facts
from scheduler.daemon.guard import Guard
from scheduler.daemon.loop import run
from scheduler.daemon.tick import Progress, Shell
from scheduler.daemon.worker import PlanningProcess
from scheduler.daemon.writebehind import WriteBehind
from scheduler.extender import process as extender_process
from scheduler.extender.process import ExtenderProcess
from scheduler.https import Tls
from scheduler.planning.actions import Plan
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import Snapshot
from scheduler.ports import GpuUse, Ledger, Signals, WorldStaleError
from scheduler.wiring.parts import (
    RETAIN_TICKS,
    SWITCH_SECONDS,
    KeptExtender,
    Log,
    PolicySource,
    Watch,
    heartbeat,
    kept_forecaster,
    logger,
    until_signal,
)

LOOK_SECONDS = 0.1
SAY_SECONDS = 10.0
BLIND_SECONDS = 1.0
USE_SECONDS = 60.0
STALE_SECONDS = 30.0
"""Silence of a watch, bookmarks included, that people are told of."""


class Follower(Protocol):
    """A part with a thread of its own."""

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> None:
        """End."""
        ...


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica is started with; port 0 stands for any free one."""

    kubeconfig: Path | None = None
    """None: the service account of the pod, or the user's default file."""
    context: str | None = None
    namespace: str
    """Of the lease, the shared plan and the policy."""
    identity: str
    """Unique to this process, such as the pod's name."""
    policy_file: Path | None = None
    policy_configmap: str = "tidal-policy"
    """Read where there is no `policy_file`."""
    ledger: Path
    forecast_state: Path
    """What the forecaster has learnt, kept for the next start."""
    listen: str
    api_port: int
    extender_port: int
    health_port: int | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_authority: Path | None = None
    """Who signed `tls_cert`; told to those who look for the API through a kubeconfig."""
    extender_client_ca: Path | None = None
    """Who must have signed the certificate that kube-scheduler shows."""
    bind: bool = False
    clock_rate: float = 1.0
    """Seconds of the world in one of the wall's; 1 anywhere but in a demonstration."""
    clock_origin: float | None = None
    """The instant at which world and wall agree; None: the start."""
    verbose: bool = False


Connect = Callable[[Callable[[], Policy]], Signals]
"""Makes the signals, given where the policy in force is read."""

Busy = Callable[[float], GpuUse | None]
"""Measures how busy the GPUs are at a time; None where nobody does."""


def run_on_cluster(settings: ClusterSettings, connect: Connect, busy: Busy) -> int:
    """Run until a signal comes; return 1 where an invariant broke, else 0.

    Raises what the parts raise where they cannot start: `PolicyError`, `LedgerFormatError`,
    `PortInUseError`, `ApiPortError`, `ConfigurationError`, `ApiError`, `ApiUnreachableError`,
    `TlsError`.
    """
    log = logger(verbose=settings.verbose)
    sys.setswitchinterval(SWITCH_SECONDS)
    with ExitStack() as stack:
        stopped = stack.enter_context(until_signal())
        return Replica(settings, connect, log, stack, busy).run(stopped)


class Replica:
    """One replica of Tidal, from its start to its end; `stack` takes it down."""

    def __init__(
        self,
        settings: ClusterSettings,
        connect: Connect,
        log: Log,
        stack: ExitStack,
        busy: Busy = lambda _: None,
    ) -> None:
        """Start every part but the ticks."""
        self._busy = busy
        self._use: tuple[float, GpuUse | None] = (float("-inf"), None)
        self._authority: Authority | None = None
        self._settings, self._log, self._stack = settings, log, stack
        self._api = Api.load(settings.kubeconfig, settings.context)
        stack.callback(self._api.close)
        self._clock = WallClock(settings.clock_rate, settings.clock_origin)
        self._recorder = EventRecorder(self._api, self._clock.now_seconds, settings.identity)
        self._follow(self._recorder)
        self._followed: Callable[[], None] = lambda: None
        reader = PlanReader(self._api, settings.namespace, self._plan_changed)
        self._follow(reader)
        self._shared = Shared(reader, PlanWriter(self._api, settings.namespace))
        self._leadership = self._lease()
        self._policy = self._policy_source()
        resources = self._policy.current().kubernetes.gpu_resources
        read = Quickened(self._clock.of_wall) if settings.clock_rate != 1.0 else None
        self._watching = Watching(self._api, resources, self._clock.wake, read=read)
        self._follow(self._watching)
        self._signals = connect(self._policy.current)
        members = self._policy.current().forecast.members
        self._forecaster = kept_forecaster(members, settings.forecast_state, stack, log)
        self._actuator = self._acting()
        stack.callback(self._actuator.close)
        self._planner = PlanningProcess()
        stack.callback(self._planner.stop)
        self._extender = KeptExtender(self._start_extender, settings.extender_port, log)
        stack.callback(self._extender.stop)
        self._publisher = Publisher(
            self._leadership,
            self._shared,
            self._policy.current,
            self._extender.publish,
            self._clock.now_seconds,
        )
        stack.callback(self._publisher.stop)
        self._followed = self._publisher.follow

    def run(self, stopped: threading.Event) -> int:
        """Tick until `stopped`; return 1 where an invariant broke, else 0."""
        stack = self._stack
        ledger = stack.enter_context(open_ledger(self._settings.ledger, RETAIN_TICKS))
        api = DaemonApi(ledger, self._facts, lambda: self._forecaster.state)
        server = self._serve(api)
        stack.callback(server.stop)
        watch = Watch(self._policy, self._planner, self._log)
        stack.enter_context(heartbeat(watch.beat))
        stack.enter_context(_ends(self._clock, stopped))

        def on_tick(progress: Progress) -> None:
            if progress.last is not None:
                watch.ticked(progress.last)
                self._measure(progress.last.snapshot.now_seconds)
            api.publish(progress)

        def on_blind(error: WorldStaleError) -> None:
            self._log.warning("blind", error=str(error))
            stopped.wait(BLIND_SECONDS)

        self._log.info("reading", server=self._api.server)
        if not self._read(stopped):
            return 0
        self._leadership.start()
        stack.callback(self._leadership.stop)
        self._log.info("started", api=server.port, extender=self._extender.port)
        shell = self._shell(stack.enter_context(WriteBehind(ledger)))
        last = run(shell, on_tick, stopped.is_set, on_blind)
        self._log.info("stopped", tick=last.number - 1, violations=watch.violations)
        return 1 if watch.violations else 0

    # ---- parts -----------------------------------------------------------------------------

    def _follow(self, part: Follower) -> None:
        part.start()
        self._stack.callback(part.stop)

    def _plan_changed(self) -> None:
        self._followed()

    def _lease(self) -> Leadership:
        def known_epoch() -> int:
            plan = self._shared.newest()
            return plan.epoch if plan else 0

        return Leadership(
            self._api,
            self._settings.namespace,
            self._settings.identity,
            steady_seconds,
            self._clock.now_seconds,
            on_change=self._clock.wake,
            known_epoch=known_epoch,
        )

    def _policy_source(self) -> PolicySource:
        if self._settings.policy_file is not None:
            return PolicyFile(self._settings.policy_file)
        source = PolicyConfigMap(
            self._api,
            self._settings.namespace,
            self._settings.policy_configmap,
            recorder=self._recorder,
            leading=lambda: self._leadership.is_leader,
            on_change=self._clock.wake,
        )
        self._follow(source)
        return source

    def _acting(self) -> KubernetesActuator:
        return KubernetesActuator(
            Cluster(
                api=self._api,
                observed=self._watching.observed,
                versions=lambda: self._watching.versions,
                policy=self._policy.current,
                now_seconds=self._clock.now_seconds,
                tell=self._recorder.tell,
            ),
        )

    def _start_extender(self, port: int) -> ExtenderProcess:
        settings = self._settings
        connect = partial(Api.load, settings.kubeconfig, settings.context)
        return extender_process.start(
            settings.listen,
            port,
            connect if settings.bind else None,
            settings.clock_rate,
            self._tls(settings.extender_client_ca),
            settings.health_port,
        )

    def _serve(self, api: DaemonApi) -> ApiServer:
        """Serve the API; who asks is checked where others than this machine can reach it."""
        settings = self._settings
        tls = self._tls()
        if settings.tls_authority is not None:
            self._authority = Authority(self._api, settings.namespace, settings.tls_authority)
            self._follow(self._authority)
        middleware = None
        if tls is not None:
            access = Access(self._api, steady_seconds)
            guard = Guard(access.user_of, access.may, lambda user: user.username)
            self._stack.callback(guard.close)
            middleware = guard.middleware()
        return ApiServer(api, settings.listen, settings.api_port, middleware, tls)

    def _tls(self, client_authority: Path | None = None) -> Tls | None:
        cert, key = self._settings.tls_cert, self._settings.tls_key
        if cert is None or key is None:
            return None
        return Tls(certificate=cert, key=key, client_authority=client_authority)

    def _shell(self, ledger: Ledger) -> Shell:
        return Shell(
            observer=ClusterObserver(
                self._watching,
                self._signals,
                self._policy.current,
                own_state(self._leadership, self._shared, self._blocked),
                self._clock.now_seconds,
            ),
            actuator=LedActuator(self._actuator, self._leadership, self._shared),
            clock=self._clock,
            ledger=ledger,
            forecaster=self._forecaster,
            planner=self._planner,
            policy=self._policy.current,
            publish=self._publish,
        )

    # ---- what is told ----------------------------------------------------------------------

    def _publish(self, snapshot: Snapshot, plan: Plan) -> None:
        """Give the plan to the extender and to the other replicas, and its shortages to users."""
        self._publisher(snapshot, plan)
        if self._leadership.is_leader:
            self._actuator.tell_shortages(plan.unplaced)

    def _blocked(self) -> dict[str, str]:
        return self._actuator.blocked(self._clock.now_seconds())

    def _read(self, stopped: threading.Event) -> bool:
        """Wait until the cluster has been read; return False where a signal came first."""
        said = 0.0
        begun = steady_seconds()
        while not (self._watching.synced and self._shared.synced):
            if stopped.wait(LOOK_SECONDS):
                return False
            waited = steady_seconds() - begun
            if waited - said >= SAY_SECONDS:
                said = waited
                self._log.warning("not_read_yet", problems=self._watching.problems)
        return True

    def _measure(self, now_seconds: float) -> None:
        """Ask how busy the GPUs are, once a minute."""
        if now_seconds - self._use[0] >= USE_SECONDS:
            self._use = (now_seconds, self._busy(now_seconds))

    def _facts(self) -> Facts:
        leads = self._leadership.is_leader
        holder = self._leadership.holder or "nobody"
        role = f"leads, epoch {self._leadership.epoch}" if leads else f"follows {holder}"
        return Facts(
            extender_port=self._extender.port,
            worker_failures=self._planner.failures,
            policy_errors=self._policy.error,
            leads=leads,
            leadership=f"this replica, {self._settings.identity}, {role}",
            problems=tuple(self._problems()),
            gpu_use=self._use[1],
        )

    def _problems(self) -> Iterator[str]:
        yield from self._watching.problems
        age = self._watching.staleness_seconds()
        if age > STALE_SECONDS:
            yield f"the API server is silent for {age:.0f} s"
        policy = self._policy.current()
        for key in policy.aimless():
            model, _, role = key.partition("/")
            yield f"models.{model}.roles.{role}.target: is missing; name the workload"
        led = (self._recorder.error, *self._actuator.problems) if self._leadership.is_leader else ()
        own = (self._signals.problem, self._leadership.error, *led)
        yield from (one for one in own if one)
        if self._authority is not None and self._authority.problem:
            yield self._authority.problem
        yield from self._shared.problems
        if isinstance(self._policy, PolicyConfigMap) and self._policy.problem:
            yield self._policy.problem
        yield from complaints(self._watching.observed(), policy)


@contextmanager
def _ends(clock: WallClock, stopped: threading.Event) -> Iterator[None]:
    """End the clock's waits once `stopped` is set."""

    def wait() -> None:
        stopped.wait()
        clock.stop()

    threading.Thread(target=wait, name="stopping", daemon=True).start()
    yield
    stopped.set()
