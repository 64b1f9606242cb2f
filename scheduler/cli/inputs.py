"""The arguments that say what world is run, and what they become; `simulate` and `demo` take them.

Every file is read and checked here, before anything starts; an error names the option, or the
file, the field and the fix.
"""

import argparse
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scheduler.adapters.policyfile import PolicyFile
from scheduler.cli import arguments
from scheduler.cli.terminal import CommandError
from scheduler.planning.policy import Policy, PolicyError
from scheduler.simulation.clusterfile import ClusterSpec, build, load_cluster
from scheduler.simulation.demandfile import Trace, load_demand
from scheduler.simulation.documents import DocumentError
from scheduler.simulation.faults import Fault, load_faults
from scheduler.simulation.jobfile import load_jobs
from scheduler.simulation.jobs import JobSpec
from scheduler.simulation.run import Setup
from scheduler.simulation.worldfile import load_world

DEFAULT_HISTORY_SECONDS = 2 * 86400.0
DEFAULT_NODES = 64


def add_world(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what world is run; the demo takes them too."""
    parser.add_argument(
        "--demand",
        type=arguments.named_path,
        action="append",
        default=[],
        metavar="MODEL=FILE",
        help="a demand trace; repeat for more models",
    )
    cluster = parser.add_mutually_exclusive_group()
    # argparse sees a flag of an exclusive pair only where its value is not the default
    cluster.add_argument(
        "--nodes", type=arguments.count, help=f"of 8 GPUs each; default {DEFAULT_NODES}"
    )
    cluster.add_argument("--cluster", type=Path, metavar="FILE")
    parser.add_argument("--world", type=Path, metavar="FILE")
    parser.add_argument("--policy", type=Path, metavar="FILE")
    parser.add_argument("--jobs", default="unlimited", metavar="FILE|unlimited|none")
    parser.add_argument("--faults", default="none", metavar="FILE|none")
    parser.add_argument(
        "--history",
        type=arguments.duration,
        metavar="DURATION",
        help="the known past; default 2d, or half of the shortest trace",
    )
    parser.add_argument("--days", type=arguments.positive, help="scored days; default: all")
    parser.add_argument("--peak-share", type=arguments.positive, default=0.6)
    parser.add_argument(
        "--demand-share",
        type=arguments.named_share,
        action="append",
        default=[],
        metavar="MODEL=SHARE",
    )


def traces_of(options: argparse.Namespace) -> dict[str, Trace]:
    """Return the traces that the arguments name."""
    paths = arguments.once(options.demand, "--demand")
    return {model: load_demand(path) for model, path in sorted(paths.items())}


def setup_of(options: argparse.Namespace, traces: dict[str, Trace]) -> Setup:
    """Return what the arguments describe; every input is read and checked here."""
    cluster = _cluster(options)
    shortest = min(trace.end_seconds - trace.start_seconds for trace in traces.values())
    known = options.history
    with named("--world"):
        world = load_world(options.world)
    setup = Setup(
        world=world,
        cluster=cluster,
        traces=traces,
        history_seconds=min(DEFAULT_HISTORY_SECONDS, shortest / 2) if known is None else known,
        days=options.days,
        peak_share=options.peak_share,
        demand_shares=arguments.once(options.demand_share, "--demand-share"),
        jobs=_jobs(options.jobs, cluster),
        faults=_faults(options.faults, cluster, tuple(traces)),
        policy=_policy(options.policy),
    )
    setup.check()
    return setup


@contextmanager
def named(option: str) -> Iterator[None]:
    """Put the option before each error of the document that it names."""
    try:
        yield
    except (DocumentError, PolicyError) as error:
        raise CommandError(*(f"{option}: {line}" for line in error.errors)) from None


def inputs_of(options: argparse.Namespace, setup: Setup, seeds: list[int]) -> dict[str, Any]:
    """Return every parameter, each file with its hash."""
    files = {f"demand.{model}": path for model, path in arguments.once(options.demand, "").items()}
    for name in ("world", "policy", "cluster"):
        if getattr(options, name):
            files[name] = getattr(options, name)
    for name in ("jobs", "faults"):
        if getattr(options, name) not in ("unlimited", "none"):
            files[name] = Path(getattr(options, name))
    policies = {
        str(seed): hashlib.sha256(setup.policy_for(seed).model_dump_json().encode()).hexdigest()
        for seed in seeds
    }
    return {
        "nodes": len(setup.cluster.nodes),
        "gpus": setup.cluster.gpus,
        "history_seconds": setup.history_seconds,
        "days": setup.days,
        "peak_share": setup.peak_share,
        "demand_share": setup.demand_shares,
        "jobs": options.jobs if options.jobs in ("unlimited", "none") else "file",
        "faults": "none" if options.faults == "none" else "file",
        "compare": getattr(options, "compare", []),
        "seeds": seeds,
        "files_sha256": {name: arguments.sha256(path) for name, path in sorted(files.items())},
        "world_sha256": hashlib.sha256(setup.world.model_dump_json().encode()).hexdigest(),
        "policy_sha256": policies,
    }


def _cluster(options: argparse.Namespace) -> ClusterSpec:
    if options.cluster:
        with named("--cluster"):
            return load_cluster(options.cluster)
    return build(DEFAULT_NODES if options.nodes is None else options.nodes)


def _faults(given: str, cluster: ClusterSpec, models: tuple[str, ...]) -> tuple[Fault, ...]:
    if given == "none":
        return ()
    with named("--faults"):
        return load_faults(Path(given), cluster, models)


def _policy(given: Path | None) -> Policy | None:
    if given is None:
        return None
    with named("--policy"):
        return PolicyFile(given).current()


def _jobs(given: str, cluster: ClusterSpec) -> tuple[JobSpec, ...] | None:
    match given:
        case "unlimited":
            return None
        case "none":
            return ()
        case _:
            with named("--jobs"):
                return load_jobs(Path(given), cluster)
