"""All forecasts of a backtest, spread over processes.

A fleet is forecast by one Tidal, so it is one task; the rivals of its series are tasks of a few
series each. Workers report their progress through a queue.
"""

import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from multiprocessing import active_children, get_context
from multiprocessing.queues import SimpleQueue
from typing import Any

import msgspec

from forecasting.backtest import (
    TIDAL,
    Fleet,
    Protocol,
    Scored,
    Series,
    fleets,
    rival_curves,
    scored,
    tidal_curves,
)
from forecasting.backtest.footprint import bytes_of
from forecasting.forecast import State
from forecasting.grid import Floats

_RIVAL_SERIES = 4
_LOOK_SECONDS = 0.2

Announce = Callable[[float], None]
"""Takes how many series-methods have been done since the last call."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What Tidal cost on one fleet, without the first tick, which takes in the history."""

    group: str
    bin_seconds: float
    series: int
    ticks: int
    start_cpu_seconds: float
    tick_cpu_seconds: float
    state_bytes: int


class _Task(msgspec.Struct, frozen=True):
    """Either a fleet for Tidal or some series for the rivals, by their place in the list."""

    series: tuple[Series, ...]
    places: tuple[int, ...]
    methods: tuple[str, ...]


class _Answer(msgspec.Struct, frozen=True):
    task: _Task
    curves: list[dict[str, Floats]]
    cost: Cost | None


def perform(
    several: Sequence[Series],
    protocol: Protocol,
    methods: Sequence[str],
    processes: int,
    announce: Announce,
) -> tuple[list[Scored], list[Cost]]:
    """Forecast every series with every method; the answers stand in the order of the series."""
    todo = _tasks(several, methods)
    if processes == 1:
        answers = [_answer(task, protocol, announce) for task in todo]
    else:
        answers = _spread(todo, protocol, min(processes, len(todo)), announce)
    curves: list[dict[str, Floats]] = [{} for _ in several]
    for answer in answers:
        for place, found in zip(answer.task.places, answer.curves, strict=True):
            curves[place] |= found
    done = [
        scored(one, protocol, {name: found[name] for name in methods})
        for one, found in zip(several, curves, strict=True)
    ]
    return done, [answer.cost for answer in answers if answer.cost]


def _tasks(several: Sequence[Series], methods: Sequence[str]) -> list[_Task]:
    """The long ones first."""
    todo = []
    if TIDAL in methods:
        place = {id(series): number for number, series in enumerate(several)}
        todo = [
            _Task(fleet.series, tuple(place[id(series)] for series in fleet.series), (TIDAL,))
            for fleet in sorted(fleets(several), key=lambda fleet: -len(fleet.series))
        ]
    rivals = tuple(name for name in methods if name != TIDAL)
    for start in range(0, len(several) if rivals else 0, _RIVAL_SERIES):
        part = tuple(several[start : start + _RIVAL_SERIES])
        todo.append(_Task(part, tuple(range(start, start + len(part))), rivals))
    return todo


def _answer(task: _Task, protocol: Protocol, announce: Announce) -> _Answer:
    if task.methods == (TIDAL,):
        return _tidal(task, protocol, announce)
    curves = []
    for series in task.series:
        found = rival_curves(series, protocol, task.methods)
        curves.append(dict(zip(task.methods, found, strict=True)))
        announce(len(task.methods))
    return _Answer(task, curves, None)


def _tidal(task: _Task, protocol: Protocol, announce: Announce) -> _Answer:
    begun = time.process_time()
    marks: list[float] = []
    last: list[State] = []

    def on_tick(state: State, done: int, total: int) -> None:
        marks.append(time.process_time())
        last[:] = [state]
        announce(len(task.series) / total)

    fleet = Fleet(task.series)
    found = tidal_curves(fleet, protocol, on_tick)
    cost = Cost(
        group=task.series[0].group,
        bin_seconds=fleet.bin_seconds,
        series=len(task.series),
        ticks=len(marks) - 1,
        start_cpu_seconds=marks[0] - begun,
        tick_cpu_seconds=marks[-1] - marks[0],
        state_bytes=bytes_of(last[0]),
    )
    return _Answer(task, [{TIDAL: curve} for curve in found], cost)


_progress: "SimpleQueue[float] | None" = None


def _begin(queue: "SimpleQueue[float]") -> None:
    """Set a worker up: Ctrl-C reaches all processes, and the parent ends the others."""
    global _progress  # noqa: PLW0603 -- a queue can only be handed over at the start of a worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _progress = queue


def _work(task: _Task, protocol: Protocol) -> _Answer:
    assert _progress is not None  # noqa: S101 -- set by _begin
    return _answer(task, protocol, _progress.put)


def _spread(
    todo: list[_Task], protocol: Protocol, processes: int, announce: Announce
) -> list[_Answer]:
    context = get_context("spawn")
    queue: SimpleQueue[float] = context.SimpleQueue()
    with ProcessPoolExecutor(
        processes, mp_context=context, initializer=_begin, initargs=(queue,)
    ) as pool:
        waiting: set[Future[Any]] = set()
        futures = [pool.submit(_work, task, protocol) for task in todo]
        try:
            waiting = set(futures)
            while waiting:
                done, waiting = wait(waiting, timeout=_LOOK_SECONDS)
                while not queue.empty():
                    announce(queue.get())
                for future in done:
                    future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in active_children():  # or each would first finish what it has taken
                worker.terminate()
            raise
        return [future.result() for future in futures]
