"""`scalerctl fake-kubelet`: plays the kubelets of many GPU nodes on a real API server.

Nodes are created, pods bound to them live and end; no GPU, image or network is real. Runs until
Ctrl-C or SIGTERM and leaves nodes and pods as they are. What the nodes do is said on standard
error when it changes. Ends with status 1 where it cannot go on.
"""

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import Any

from scheduler.apiserver.client import Api, ApiError, ApiUnreachableError, ConfigurationError
from scheduler.cli import arguments
from scheduler.cli.inputs import DEFAULT_NODES, named
from scheduler.cli.terminal import PROGRAM, CommandError, Subparsers
from scheduler.simulation.clusterfile import (
    DEFAULT_GPU_MODELS,
    GPUS_PER_NODE,
    LEAF_NODES,
    ClusterSpec,
    load_cluster,
    parse_cluster,
)
from scheduler.simulation.kubelet.manners import Manners
from scheduler.simulation.kubelet.shell import FakeKubelet, Summary

BROKEN = 1
SAY_SECONDS = 5.0
GROUP_OPTIONS = ("nodes", "gpus", "gpu_model", "leaf")


def add(subparsers: Subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "fake-kubelet", help="play the kubelets of GPU nodes on a real API server"
    )
    parser.add_argument(
        "--kubeconfig", required=True, type=Path, metavar="FILE", help="of the cluster to play on"
    )
    parser.add_argument("--cluster", type=Path, metavar="FILE", help="nodes, as for simulate")
    parser.add_argument(
        "--nodes", type=arguments.count, help=f"equal ones; default {DEFAULT_NODES}"
    )
    parser.add_argument(
        "--gpus", type=arguments.count, help=f"of each node; default {GPUS_PER_NODE}"
    )
    parser.add_argument("--gpu-model", metavar="NAME", help=f"default {DEFAULT_GPU_MODELS[0]}")
    parser.add_argument(
        "--leaf", type=arguments.count, help=f"nodes under one switch; default {LEAF_NODES}"
    )
    _add_manners(parser)
    parser.add_argument(
        "--rate", type=arguments.positive, default=1.0, help="pods' seconds per second; default 1"
    )
    parser.add_argument(
        "--heartbeats",
        action="store_true",
        help="renew node leases, for a cluster that watches node health",
    )
    parser.set_defaults(handle=handle)


def _add_manners(parser: argparse.ArgumentParser) -> None:
    usual = Manners()
    for option, seconds, what in (
        ("--start", usual.start_seconds, "from the image being there to ready"),
        ("--exit", usual.exit_seconds, "from SIGTERM to the end"),
        ("--relist", usual.relist_seconds, "longest until a dead container is seen"),
    ):
        parser.add_argument(
            option,
            type=arguments.duration,
            default=seconds,
            metavar="DURATION",
            help=f"{what}; default {seconds:g}s",
        )
    parser.add_argument("--image-mib", type=arguments.count, default=usual.image_mib, metavar="MIB")
    parser.add_argument(
        "--pull-rate", type=arguments.positive, default=usual.pull_mib_per_second, metavar="MIB/S"
    )
    parser.add_argument("--seed", type=arguments.seed, default=usual.seed)


def handle(options: argparse.Namespace) -> int:
    """Play until a signal comes."""
    cluster = _cluster(options)
    try:
        api = Api.load(options.kubeconfig)
    except ConfigurationError as error:
        raise CommandError(f"--kubeconfig: {error}") from None
    kubelet = FakeKubelet(
        api,
        cluster,
        _manners(options),
        time.time,
        rate=options.rate,
        heartbeats=options.heartbeats,
        refused=_say,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        kubelet.start()
    except (ApiError, ApiUnreachableError) as error:
        _say(f"the nodes cannot be registered: {error}")
        return BROKEN
    try:
        return _play(kubelet)
    finally:
        kubelet.stop()
        api.close()


def _play(kubelet: FakeKubelet) -> int:
    said: Summary | None = None
    while kubelet.alive:
        now = kubelet.summary()
        if now != said:
            _say(words(now))
            said = now
        time.sleep(SAY_SECONDS)
    return BROKEN


def words(summary: Summary) -> str:
    """Return one line."""
    pods = ", ".join(f"{count} {stage}" for stage, count in summary.pods.items()) or "none"
    return f"{summary.nodes} nodes, {summary.gpus_held}/{summary.gpus} GPUs held, pods: {pods}"


def _say(line: str) -> None:
    print(f"{PROGRAM}: {line}", file=sys.stderr, flush=True)


def _manners(options: argparse.Namespace) -> Manners:
    return Manners(
        start_seconds=options.start,
        exit_seconds=options.exit,
        image_mib=options.image_mib,
        pull_mib_per_second=options.pull_rate,
        relist_seconds=options.relist,
        seed=options.seed,
    )


def _cluster(options: argparse.Namespace) -> ClusterSpec:
    given = [name for name in GROUP_OPTIONS if getattr(options, name) is not None]
    if options.cluster:
        if given:
            option = given[0].replace("_", "-")
            raise CommandError(f"--{option}: says what --cluster says; give one of the two")
        with named("--cluster"):
            return load_cluster(options.cluster)
    group: dict[str, Any] = {
        "name": "node",
        "count": DEFAULT_NODES if options.nodes is None else options.nodes,
        "gpus": GPUS_PER_NODE if options.gpus is None else options.gpus,
        "gpu_model": options.gpu_model or DEFAULT_GPU_MODELS[0],
        "leaf_nodes": LEAF_NODES if options.leaf is None else options.leaf,
    }
    with named("--nodes, --gpus, --gpu-model, --leaf"):
        return parse_cluster({"groups": [group]})
