"""Joins the parts into a daemon of a world behind HTTP; nothing here decides.

The world comes from outside behind HTTP; planner and extender are processes of their own, the
API is a thread, and the tick runs in the caller's. Everything is taken down in reverse order of
its start, also where a start fails half way.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec

from forecasting import State
from scheduler.adapters.ledger import SqliteLedger, open_ledger
from scheduler.adapters.policyfile import PolicyFile
from scheduler.apiserver import client as apiserver
from scheduler.daemon.api import Api, ApiServer
from scheduler.daemon.documents.shapes import Facts
from scheduler.daemon.loop import run
from scheduler.daemon.tick import Progress, Shell
from scheduler.daemon.worker import PlanningProcess
from scheduler.daemon.writebehind import WriteBehind
from scheduler.extender import process as extender_process
from scheduler.planning.actions import Plan
from scheduler.planning.snapshot import Snapshot
from scheduler.planning.standing import standing_of
from scheduler.simulation.remote import RemoteWorld
from scheduler.wiring.parts import (
    LOOPBACK,
    RETAIN_TICKS,
    SWITCH_SECONDS,
    KeptExtender,
    Watch,
    heartbeat,
    kept_forecaster,
    logger,
    until_signal,
)


class DaemonSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a daemon is started with; port 0 stands for any free one."""

    world_url: str
    policy: Path
    ledger: Path
    forecast_state: Path
    """What the forecaster has learnt, kept for the next start."""
    api_port: int
    extender_port: int
    verbose: bool = False


def run_daemon(settings: DaemonSettings) -> int:
    """Run until the world ends or a signal comes; return 1 where an invariant broke, else 0.

    Raises what the parts raise where they cannot start: `PolicyError`, `LedgerFormatError`,
    `PortInUseError`, `ApiPortError`, `WorldUnreachableError`, ValueError for the world's address.
    """
    log = logger(verbose=settings.verbose)
    sys.setswitchinterval(SWITCH_SECONDS)
    with ExitStack() as stack:
        stopped = stack.enter_context(until_signal())
        policy = PolicyFile(settings.policy)
        world = RemoteWorld(settings.world_url)
        stack.callback(world.close)
        ledger = stack.enter_context(open_ledger(settings.ledger, RETAIN_TICKS))
        planner = PlanningProcess()
        stack.callback(planner.stop)
        connect = partial(apiserver.Api.plain, world.url)
        start = partial(extender_process.start, LOOPBACK, binds_through=connect)
        extender = KeptExtender(start, settings.extender_port, log)
        stack.callback(extender.stop)
        extender_url = f"http://{LOOPBACK}:{extender.port}"
        world.register_extender(extender_url)
        members = policy.current().forecast.members
        forecaster = kept_forecaster(members, settings.forecast_state, stack, log)
        api = _api(ledger, planner, policy, extender, lambda: forecaster.state)
        server = ApiServer(api, LOOPBACK, settings.api_port)
        stack.callback(server.stop)
        watch = Watch(policy, planner, log)
        stack.enter_context(heartbeat(watch.beat))
        shell = Shell(
            observer=world,
            actuator=world,
            clock=world,
            ledger=stack.enter_context(WriteBehind(ledger)),
            forecaster=forecaster,
            planner=planner,
            policy=policy.current,
            publish=_publisher(extender, policy),
        )

        def on_tick(progress: Progress) -> None:
            if progress.last is not None:
                world.planned(progress.last.plan, progress.last.violations)
                watch.ticked(progress.last)
            api.publish(progress)

        log.info("started", api=f"http://{LOOPBACK}:{server.port}", extender=extender_url)
        last = run(shell, on_tick, stopped.is_set)
        log.info("stopped", tick=last.number - 1, violations=watch.violations)
    return 1 if watch.violations else 0


def _api(
    ledger: SqliteLedger,
    planner: PlanningProcess,
    policy: PolicyFile,
    extender: KeptExtender,
    series: Callable[[], State],
) -> Api:
    return Api(
        ledger,
        lambda: Facts(
            extender_port=extender.port,
            worker_failures=planner.failures,
            policy_errors=policy.error,
        ),
        series,
    )


def _publisher(extender: KeptExtender, policy: PolicyFile) -> Callable[[Snapshot, Plan], None]:
    def publish(snapshot: Snapshot, plan: Plan) -> None:
        extender.publish(standing_of(snapshot, plan, policy.current()))

    return publish
