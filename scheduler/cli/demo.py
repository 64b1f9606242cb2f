"""`scalerctl demo`: the real daemon and extender on a virtual cluster, through a day of tide.

With `--kubeconfig` the cluster is a real API server and kube-scheduler, see `clusterdemo`.
Shows progress while it plays, then a table on standard output; in the folder `--out` it leaves
`report.json`, `demo.png`, the event stream, the policy, the daemon's log and its ledger. Ends
with status 1 where an invariant broke.
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

from scheduler.adapters.ledger import open_ledger
from scheduler.cli import arguments, clusterdemo, words
from scheduler.cli.demoscreen import Screen
from scheduler.cli.inputs import (
    DEFAULT_HISTORY_SECONDS,
    add_world,
    inputs_of,
    setup_of,
    traces_of,
)
from scheduler.cli.run import port
from scheduler.cli.simulate import table
from scheduler.cli.terminal import PROGRAM, CommandError, Subparsers, print_parts
from scheduler.simulation import compare, reference
from scheduler.simulation.compare import TIDAL, Record
from scheduler.simulation.demand import DAY_SECONDS, WARM_UP_SECONDS
from scheduler.simulation.demandfile import Trace
from scheduler.simulation.demo import Audience, Demo, DemoError, Played, free_port, play
from scheduler.simulation.demorivals import SETTINGS, RivalError
from scheduler.simulation.generated import generate
from scheduler.simulation.picture import draw
from scheduler.simulation.remote import WorldRefusedError
from scheduler.simulation.worldserver import WorldGoneError

SCHEMA = "tidal.demo/1"
MODELS = ("chat", "code", "reason")
"""Of the built-in demand."""
SPARE_DAYS = 0.05
"""More trace than is run, so that the last bin has a neighbour."""
BROKEN = 1


def add(subparsers: Subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser("demo", help="play a day of tide on a virtual cluster")
    add_world(parser)
    parser.set_defaults(days=1.0)
    parser.add_argument("--seed", type=arguments.seed, default=1)
    parser.add_argument(
        "--out", type=Path, default=Path("reports/demo"), metavar="DIR", help="for all files"
    )
    parser.add_argument(
        "--port", type=port, default=0, help="of the daemon's API; 0, the default: any free one"
    )
    clusterdemo.add_options(parser.add_argument_group("on a real cluster without GPUs"))
    parser.set_defaults(handle=handle)


def handle(options: argparse.Namespace) -> int:
    """Play, then report."""
    if options.kubeconfig is not None:
        return clusterdemo.handle(options)
    clusterdemo.refuse_options(options)
    begun = reference.start()
    traces = traces_of(options) or built_in(options)
    setup = setup_of(options, traces)
    inputs = inputs_of(options, setup, [options.seed])
    inputs["built_in_demand"] = [] if options.demand else list(traces)
    inputs["compare"] = list(SETTINGS)
    demo = Demo(
        setup=setup,
        seed=options.seed,
        out=options.out,
        api_port=free_port(options.port),
        rivals=tuple(SETTINGS),
    )
    prepare(demo)
    try:
        with Screen() as screen, ended_by_sigterm():
            audience = Audience(opened=screen.opened, shown=screen.shown, said=screen.said)
            played = play(demo, audience)
    except (DemoError, RivalError, WorldGoneError, WorldRefusedError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return BROKEN
    results = records(demo, played)
    timing = msgspec.structs.asdict(reference.machine(begun))
    timing["play_seconds"] = played.play_seconds
    write(demo, played, {"inputs": inputs, "results": results, "timing": timing})
    print_parts([table(results)])
    print(
        f"played in {words.span(played.play_seconds)}, "
        f"{words.span(played.wall_seconds)} with the rivals; see {demo.out}"
    )
    return BROKEN if any(record["violations"] for record in results) else 0


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, so that it leaves no process behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def built_in(options: argparse.Namespace) -> dict[str, Trace]:
    """Return the generated tides, as long as the run needs; sets the history's default."""
    if options.history is None:
        options.history = DEFAULT_HISTORY_SECONDS
    known_days = (options.history + WARM_UP_SECONDS) / DAY_SECONDS
    days = known_days + options.days + SPARE_DAYS
    return {model: generate(model, days, options.seed) for model in MODELS}


def prepare(demo: Demo) -> None:
    """Make the folder, clear what an earlier demo left in it, write the policy."""
    try:
        demo.out.mkdir(parents=True, exist_ok=True)
        for old in (demo.log, *demo.out.glob(f"{demo.ledger.name}*")):
            old.unlink(missing_ok=True)
        document = demo.setup.policy_for(demo.seed).model_dump(mode="json")
        demo.policy.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise CommandError(
            f"--out: {demo.out} cannot be written ({error.strerror}); name another folder"
        ) from None


def records(demo: Demo, played: Played) -> list[Record]:
    """Return Tidal's record and those of all rival runs, the ones at equal SLO marked."""
    with open_ledger(demo.ledger) as ledger:
        gaps = len(ledger.gaps())
        ticks = ledger.next_number() - 1
    report = played.report
    tidal: Record = {
        "policy": TIDAL,
        "setting": "",
        "seed": demo.seed,
        **report.figures.record(),
        "ticks": ticks,
        "ledger_gaps": gaps,
        "daemon_restarts": played.restarts,
        "unplanned_seconds": report.unplanned_seconds,
        "placed_by_extender": report.placed_by_extender,
        "placed_by_default": report.placed_by_default,
    }
    return compare.mark([tidal, *(one.record(demo.seed) for one in played.rivals)])


def write(demo: Demo, played: Played, document: dict[str, Any]) -> None:
    """Write the report and the picture."""
    body = msgspec.json.encode({"schema": SCHEMA, **document})
    (demo.out / "report.json").write_bytes(msgspec.json.format(body, indent=1) + b"\n")
    beside = {f"{one.policy} {one.setting}": one.timeline for one in played.chosen.values()}
    title = f"Tidal on {demo.setup.cluster.gpus} GPUs"
    draw(demo.out / "demo.png", title, played.report.timeline, beside)
