"""All runs of a comparison, spread over processes, as records.

A record is one (policy, setting, seed). Runs do not know of each other; what depends on several
(the equal-SLO rule, the excess over the bound) is added at the end.
"""

import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from multiprocessing import active_children, get_context
from pathlib import Path

import msgspec

from scheduler.simulation import bound, compare, contenders
from scheduler.simulation.compare import BOUND, TIDAL, Record
from scheduler.simulation.contenders import Contender
from scheduler.simulation.events import FileSink, Sink
from scheduler.simulation.reference import start
from scheduler.simulation.run import Setup, run
from scheduler.simulation.score import Figures
from scheduler.simulation.timeline import Timeline, TimelineFold

TIMELINE_BIN_SECONDS = 300.0

Announce = Callable[[float, str], None]
"""Takes the share of all runs that is done, 0 to 1, and what was done last."""


class Entry(msgspec.Struct, frozen=True):
    """One run to be made; `events` names the file for its event stream, "" for none."""

    contender: Contender
    seed: int
    events: str = ""
    timeline: bool = False
    """Whether the run is folded for a picture too."""


class Timing(msgspec.Struct, frozen=True):
    """What one run cost."""

    policy: str
    setting: str
    seed: int
    wall_seconds: float


class Done(msgspec.Struct, frozen=True):
    """A run's figures and cost, and its timeline where that was asked for."""

    entry: Entry
    figures: Figures
    wall_seconds: float
    timeline: Timeline | None = None


def entries(
    names: Sequence[str], seeds: Sequence[int], events: str, *, timelines: bool = False
) -> tuple[Entry, ...]:
    """Return Tidal and every setting of the named rivals, for each seed.

    Events are Tidal's only; `timelines` are of all runs with the first seed.
    """
    rivals = [one for name in names if name != BOUND for one in contenders.grid(name)]
    return tuple(
        Entry(
            contender,
            seed,
            events if contender.policy == TIDAL else "",
            timelines and seed == seeds[0],
        )
        for seed in seeds
        for contender in (contenders.tidal(), *rivals)
    )


def perform(setup: Setup, todo: Sequence[Entry], processes: int, announce: Announce) -> list[Done]:
    """Make all runs and return them in the order asked for."""
    if len(todo) == 1 or processes == 1:
        return [
            make(setup, entry, _within(number, len(todo), entry, announce))
            for number, entry in enumerate(todo)
        ]
    with ProcessPoolExecutor(
        processes,
        mp_context=get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),  # Ctrl-C reaches all; the parent ends them
    ) as pool:
        futures = [pool.submit(make, setup, entry) for entry in todo]
        try:
            for count, future in enumerate(as_completed(futures), start=1):
                announce(count / len(todo), _name(future.result().entry))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in active_children():  # or each would first finish what it has taken
                worker.terminate()
            raise
        return [future.result() for future in futures]


def make(setup: Setup, entry: Entry, on_share: Callable[[float], None] = lambda _: None) -> Done:
    """Make one run."""
    begun = start().wall_seconds
    fold = _fold(setup, entry.seed) if entry.timeline else None
    with ExitStack() as stack:
        sinks: list[Sink] = [fold] if fold else []
        if entry.events:
            sinks.append(FileSink(stack.enter_context(Path(entry.events).open("wb"))))
        figures = run(setup, entry.contender, entry.seed, sinks, on_share)
    timeline = fold.timeline(setup.demand(entry.seed).end_seconds) if fold else None
    return Done(entry, figures, start().wall_seconds - begun, timeline)


def _fold(setup: Setup, seed: int) -> TimelineFold:
    demand = setup.demand(seed)
    return TimelineFold(
        step_seconds=demand.step_seconds,
        start_seconds=demand.start_seconds,
        end_seconds=demand.end_seconds,
        bin_seconds=TIMELINE_BIN_SECONDS,
    )


def _within(number: int, total: int, entry: Entry, announce: Announce) -> Callable[[float], None]:
    return lambda share: announce((number + share) / total, _name(entry))


def _name(entry: Entry) -> str:
    setting = f" {entry.contender.setting}" if entry.contender.setting else ""
    return f"{entry.contender.policy}{setting}, seed {entry.seed}"


def records(setup: Setup, done: Sequence[Done], names: Sequence[str]) -> list[Record]:
    """Return one record a run, the bound's too where asked for, with the equal-SLO marks."""
    found: list[Record] = [
        {
            "policy": one.entry.contender.policy,
            "setting": one.entry.contender.setting,
            "seed": one.entry.seed,
            **one.figures.record(),
        }
        for one in done
    ]
    if BOUND in names:
        seeds = sorted({one.entry.seed for one in done})
        least = {seed: bound.online_gpu_hours(setup.world, setup.demand(seed)) for seed in seeds}
        found = [{**r, "excess": r["online_gpu_hours"] / least[r["seed"]] - 1} for r in found]
        found += [_bound_record(seed, hours) for seed, hours in least.items()]
    return compare.mark(found)


def timelines(done: Sequence[Done], marked: Sequence[Record]) -> dict[str, Timeline]:
    """Return, of the runs with a timeline, those that count at equal SLO, by policy and setting."""
    counted = {(r["policy"], r["setting"], r["seed"]) for r in marked if r["equal_slo"]}
    return {
        f"{one.entry.contender.policy} {one.entry.contender.setting}".strip(): one.timeline
        for one in done
        if one.timeline
        and (one.entry.contender.policy, one.entry.contender.setting, one.entry.seed) in counted
    }


def timings(done: Sequence[Done]) -> list[Timing]:
    """Return what each run cost."""
    return [
        Timing(
            one.entry.contender.policy,
            one.entry.contender.setting,
            one.entry.seed,
            one.wall_seconds,
        )
        for one in done
    ]


def _bound_record(seed: int, online_gpu_hours: float) -> Record:
    return {
        "policy": BOUND,
        "setting": "",
        "seed": seed,
        "productive_utilisation": 1.0,
        "slo_attainment": 1.0,
        "slo_attainment_worst_model": 1.0,
        "online_gpu_hours": online_gpu_hours,
        "wasted_gpu_hours": 0.0,
        "excess": 0.0,
        "violations": 0,
    }
