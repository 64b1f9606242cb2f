"""`scalerctl demo --kubeconfig FILE`: the same on a real API server and kube-scheduler.

Nodes, engines and batch processes are played, everything between them is real. A morning's tide
passes in minutes. Progress goes to standard error, the table to standard output; the folder
`--out` gets `report.json`, `demo.png`, the policy, the daemon's log and its ledger. Whatever was
made in the cluster is removed at the end. Ends with status 1 where an invariant broke, with 130
after Ctrl-C.
"""

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml
from rich.table import Table

from scheduler.apiserver.client import ApiError, ApiUnreachableError, ConfigurationError
from scheduler.cli import arguments, words
from scheduler.cli.inputs import inputs_of, setup_of, traces_of
from scheduler.cli.run import port
from scheduler.cli.terminal import PROGRAM, CommandError, print_parts
from scheduler.cli.terminal import table as plain_table
from scheduler.extender.process import PortInUseError
from scheduler.planning.policy import parse
from scheduler.simulation import reference
from scheduler.simulation.cluster import JOB_STREAM, stream, workloads
from scheduler.simulation.clusterfile import ClusterSpec
from scheduler.simulation.demand import DAY_SECONDS, Demand, build
from scheduler.simulation.demandfile import Trace
from scheduler.simulation.demo import DemoError
from scheduler.simulation.demomanifests import NAMESPACE, policy_document
from scheduler.simulation.generated import generate, tide_of
from scheduler.simulation.jobs import DrawnJobs, JobSource, ListedJobs
from scheduler.simulation.picture import draw
from scheduler.simulation.run import Setup
from scheduler.wiring.clusterdemo import play
from scheduler.wiring.demovalues import Audience, ClusterDemo, Played, Scene

SCHEMA = "tidal.demo.cluster/1"
MODELS = ("chat", "code", "reason")
DEFAULT_NODES = 16
DEFAULT_MINUTES = 5.0
DEFAULT_RATE = 60.0
DEFAULT_EXTENDER_PORT = 9331
HISTORY_SECONDS = 2 * DAY_SECONDS
MORNING_SECONDS = 8 * 3600.0
PEAKS = (0.3, 0.5, 0.65)
"""Where in the run the models' demand is highest, as a share of it."""
PEAK_WIDTH = 0.13
WARM_UP_SECONDS = 20.0
"""Of the wall: until the first replicas serve; not scored."""
BACKLOG = 32
"""Jobs kept waiting: each is an object on somebody's API server."""
BIN_SECONDS = 300.0
SPARE_DAYS = 0.5
HOUR = 3600.0
BROKEN = 1
INTERRUPTED = 130
OWN_OPTIONS = ("context", "minutes", "rate", "scheduler_name", "extender_port", "keep")


def add_options(group: argparse._ArgumentGroup) -> None:
    """Add what only this form of the demo takes; absent ones are None."""
    group.add_argument("--kubeconfig", metavar="FILE", type=Path)
    group.add_argument("--context", metavar="NAME", help="of the kubeconfig")
    group.add_argument(
        "--minutes", type=arguments.positive, help=f"to play; default {DEFAULT_MINUTES:g}"
    )
    group.add_argument(
        "--rate",
        type=arguments.positive,
        help=f"world seconds per second; default {DEFAULT_RATE:g}",
    )
    group.add_argument(
        "--scheduler-name", metavar="NAME", help="of the pods; default default-scheduler"
    )
    group.add_argument(
        "--extender-port",
        type=port,
        help=f"that kube-scheduler asks; default {DEFAULT_EXTENDER_PORT}",
    )
    group.add_argument(
        "--keep", action="store_true", default=None, help="leave everything in the cluster"
    )


def refuse_options(options: argparse.Namespace) -> None:
    """Raise `CommandError` for options that say nothing without --kubeconfig."""
    for name in OWN_OPTIONS:
        if getattr(options, name) is not None:
            raise CommandError(f"--{name.replace('_', '-')}: needs --kubeconfig")


def handle(options: argparse.Namespace) -> int:
    """Play, then report."""
    begun = reference.start()
    demo, inputs = demo_of(options)
    prepare(demo)
    try:
        with _ended_by_sigterm():
            played = play(demo, Audience(shown=_Lines().shown, said=said))
    except (DemoError, PortInUseError) as error:
        said(str(error))
        return BROKEN
    except (ApiError, ApiUnreachableError, ConfigurationError) as error:
        raise CommandError(f"--kubeconfig: {error}") from None
    except KeyboardInterrupt:
        said("interrupted; what is left in the cluster, the next demo removes")
        return INTERRUPTED
    timing = msgspec.structs.asdict(reference.machine(begun))
    timing["play_seconds"] = played.wall_seconds
    write(demo, played, {"inputs": inputs, "results": record(played), "timing": timing})
    print_parts([tide_table(played), result_table(played)])
    print(f"played in {words.span(played.wall_seconds)}; see {demo.out}")
    if played.counts.violations:
        return BROKEN
    return 0 if played.complete else INTERRUPTED


def said(line: str) -> None:
    """Say a line on standard error."""
    print(f"{PROGRAM}: {line}", file=sys.stderr, flush=True)


# ---- what is played --------------------------------------------------------------------------


def demo_of(options: argparse.Namespace) -> tuple[ClusterDemo, dict[str, Any]]:
    """Return what the options describe, and the inputs for the report."""
    minutes, rate = options.minutes or DEFAULT_MINUTES, options.rate or DEFAULT_RATE
    length = minutes * 60.0 * rate
    _refuse_others(options)
    options.days = length / DAY_SECONDS
    if options.nodes is None and options.cluster is None:
        options.nodes = DEFAULT_NODES
    traces = traces_of(options)
    if not traces:
        options.history = HISTORY_SECONDS + MORNING_SECONDS
        traces = pressed_tides(length, rate, options.history, options.seed)
    setup = setup_of(options, traces)
    inputs = inputs_of(options, setup, [options.seed])
    inputs |= {"minutes": minutes, "rate": rate, "built_in_demand": list(MODELS)}
    cluster = renamed(setup.cluster)
    setup = msgspec.structs.replace(setup, cluster=cluster)
    roles = workloads(setup.world, tuple(traces), tuple(setup.gpus_by_model))
    for one in roles:
        if one.pods_per_replica > 1:
            raise CommandError(
                f"--world: a replica of {one.model} has {one.pods_per_replica} pods, and the demo "
                "makes Deployments; choose an engine with one"
            )
    document = policy_document(setup.policy_for(options.seed), roles, rate)
    return ClusterDemo(
        kubeconfig=options.kubeconfig,
        context=options.context,
        scheduler_name=options.scheduler_name or "default-scheduler",
        cluster=cluster,
        world=setup.world,
        demand=demand_of(setup, rate, options.seed),
        workloads=roles,
        policy=parse(document),
        jobs=job_source(setup, options.seed),
        rate=rate,
        seed=options.seed,
        out=options.out,
        api_port=options.port,
        extender_port=options.extender_port or DEFAULT_EXTENDER_PORT,
        keep=bool(options.keep),
    ), inputs


def _refuse_others(options: argparse.Namespace) -> None:
    if options.days != 1.0:
        raise CommandError("--days: not with --kubeconfig; use --minutes and --rate")
    if options.faults != "none":
        raise CommandError("--faults: not with --kubeconfig; break the cluster by hand")


def pressed_tides(length: float, rate: float, history: float, seed: int) -> dict[str, Trace]:
    """Return days whose tide rises and falls within the run, each model's at its own time.

    The same every day of the known past, so the forecaster can know it.
    """
    days = (history + length) / DAY_SECONDS + SPARE_DAYS
    begins = MORNING_SECONDS + WARM_UP_SECONDS * rate
    made = {}
    for model, share in zip(MODELS, PEAKS, strict=True):
        peak = (begins + share * length) / HOUR
        tide = msgspec.structs.replace(
            tide_of(model), peak_hour=peak % 24, width_hours=PEAK_WIDTH * length / HOUR
        )
        made[model] = generate(model, days, seed, BIN_SECONDS, tide)
    return made


def demand_of(setup: Setup, rate: float, seed: int) -> Demand:
    """Return the demand, with a short warm-up before scored time."""
    return build(
        setup.world,
        setup.traces,
        history_seconds=setup.history_seconds,
        days=setup.days,
        total_gpus_by_model=setup.gpus_by_model,
        peak_share=setup.peak_share,
        demand_shares=setup.demand_shares,
        seed=seed,
        warm_up_seconds=WARM_UP_SECONDS * rate,
    )


def job_source(setup: Setup, seed: int) -> JobSource:
    """Return where Jobs come from; rigid ones, since played pods cannot share what is left."""
    if setup.jobs is not None:
        rigid = (msgspec.structs.replace(one, min_pods=one.pods) for one in setup.jobs)
        return ListedJobs(tuple(rigid))
    batch = setup.world.batch
    fewer = batch.model_copy(update={"backlog": min(batch.backlog, BACKLOG), "elastic_share": 0.0})
    return DrawnJobs(fewer, setup.cluster, stream(seed, JOB_STREAM))


def renamed(cluster: ClusterSpec) -> ClusterSpec:
    """Return the cluster with names that nobody else's nodes have."""
    return ClusterSpec(
        tuple(
            msgspec.structs.replace(node, name=f"{NAMESPACE}-{node.name}") for node in cluster.nodes
        )
    )


def prepare(demo: ClusterDemo) -> None:
    """Make the folder, clear what an earlier demo left in it, write the policy."""
    try:
        demo.out.mkdir(parents=True, exist_ok=True)
        for old in (demo.log, *demo.out.glob(f"{demo.ledger.name}*")):
            old.unlink(missing_ok=True)
        document = demo.policy.model_dump(mode="json")
        demo.policy_file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise CommandError(
            f"--out: {demo.out} cannot be written ({error.strerror}); name another folder"
        ) from None


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, so that it leaves nothing behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# ---- what is shown ---------------------------------------------------------------------------


class _Lines:
    """A line every few seconds of the wall."""

    def __init__(self) -> None:
        self._looks = 0

    def shown(self, scene: Scene) -> None:
        """Show a scene, unless one was shown a moment ago."""
        self._looks += 1
        if self._looks % 10 == 1:
            said(line(scene))


def line(scene: Scene) -> str:
    """Return the scene as a line."""
    left = "warm-up" if scene.now_seconds < 0 else f"{scene.now_seconds / HOUR:.2f} h"
    gpus = ", ".join(f"{count} {name}" for name, count in scene.gpus.items())
    ready = " ".join(f"{key} {count}" for key, count in scene.replicas.items())
    jobs = ", ".join(f"{count} {state}" for state, count in scene.jobs.items()) or "none"
    return f"{left}: GPUs {gpus}; ready {ready}; jobs {jobs}; asked {scene.filter_calls} times"


def tide_table(played: Played) -> Table:
    """Return GPUs by place over time, a row for a tenth of the run."""
    timeline = played.timeline
    bands = (
        timeline.ready,
        timeline.online_productive,
        timeline.online_idle,
        [kept + lost for kept, lost in zip(timeline.batch_kept, timeline.batch_lost, strict=True)],
        timeline.empty,
    )
    width = max(1, len(timeline.ready) // 10)
    rows = []
    for first in range(0, len(timeline.ready), width):
        at = (timeline.start_seconds + first * timeline.bin_seconds) / HOUR
        means = (sum(part) / len(part) for band in bands if (part := band[first : first + width]))
        rows.append((f"{at:.2f}", *(f"{mean:.1f}" for mean in means)))
    return plain_table(("HOUR", "GPUS", "ONLINE BUSY", "ONLINE IDLE", "LENT", "FREE"), rows)


def result_table(played: Played) -> Table:
    """Return what it came to, a row each."""
    return plain_table(("", ""), [(name, _cell(value)) for name, value in record(played).items()])


def _cell(value: object) -> str:
    return f"{value:,.3f}" if isinstance(value, float) else str(value)


def record(played: Played) -> dict[str, Any]:
    """Return the figures and counts of the play."""
    figures = played.figures
    chosen = (
        "productive_utilisation",
        "allocated_utilisation",
        "slo_attainment",
        "slo_attainment_worst_model",
        "gpu_hours",
        "online_productive_gpu_hours",
        "batch_productive_gpu_hours",
        "batch_gpu_hours_lent",
        "batch_gpu_hours_lost",
        "loans",
        "moves",
    )
    return {
        "complete": played.complete,
        **{name: getattr(figures, name) for name in chosen},
        "starts": figures.starts["all"].count,
        "start_seconds_p50": figures.starts["all"].p50_seconds,
        **msgspec.structs.asdict(played.counts),
    }


def write(demo: ClusterDemo, played: Played, document: dict[str, Any]) -> None:
    """Write the report and the picture."""
    body = msgspec.json.encode({"schema": SCHEMA, **document})
    (demo.out / "report.json").write_bytes(msgspec.json.format(body, indent=1) + b"\n")
    title = f"Tidal on {demo.cluster.gpus} GPUs of a real API server"
    draw(demo.out / "demo.png", title, played.timeline, {})
