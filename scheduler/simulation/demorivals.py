"""The rivals of the demo: which settings to run, so that each is found at equal SLO, beside it.

A rival's settings are ordered from stingy to generous; attainment grows along them, so the
stingiest that attains Tidal's SLO is found by bisection. Tidal's attainment is known only
at the end of the demo: until then the bisection follows the attainment so far, on spare cores,
and after it runs what it still lacks. Of what was run, the equal-SLO rule of `compare` chooses.
Each run is a process of its own, which can be ended at any time.
"""

import os
from collections.abc import Mapping
from multiprocessing.connection import Connection

import msgspec

from scheduler.child import Child
from scheduler.simulation import rivals
from scheduler.simulation.compare import Record, attains, choose
from scheduler.simulation.contenders import Contender
from scheduler.simulation.run import Setup, run
from scheduler.simulation.score import Figures
from scheduler.simulation.timeline import Timeline, TimelineFold

NICENESS = 10
"""The demo's own processes come first."""
SETTINGS: Mapping[str, tuple[float, ...]] = {
    "static": tuple(sorted(rivals.STATIC_SHARES)),
    "hpa": tuple(sorted(rivals.HPA_TARGETS, reverse=True)),
}
"""From stingy to generous."""


class RivalRun(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of one rival, run to its end."""

    policy: str
    setting: str
    figures: Figures
    timeline: Timeline

    def record(self, seed: int) -> Record:
        """Return its record, as `simulate` writes one."""
        named = {"policy": self.policy, "setting": self.setting, "seed": seed}
        return {**named, **self.figures.record()}


class RivalError(RuntimeError):
    """A rival's run failed; its traceback is on standard error."""


class RivalSearch:
    """Runs settings until each rival's is found; `pursue` it until it is, then `stop`."""

    def __init__(self, names: tuple[str, ...], setup: Setup, seed: int, bin_seconds: float) -> None:
        """Begin with nothing run; timelines have bins of `bin_seconds`."""
        self._names = names
        self._setup = setup
        self._seed = seed
        self._bin_seconds = bin_seconds
        self._jobs: dict[Contender, Child] = {}
        self._done: dict[Contender, RivalRun] = {}

    def pursue(self, tidal: Record, processes: int) -> bool:
        """Start what the bisections ask for, on so many processes; return whether all is found.

        `tidal` may be a guess, as long as a later call has the truth.
        """
        self._collect()
        needed = self._needed(tidal)
        for contender in needed:
            if len(self._jobs) < processes:
                self._start(contender)
        return not needed

    def drop_vain(self, tidal: Record) -> None:
        """End the runs that a guess has started and the truth does not ask for."""
        self._collect()
        for contender in set(self._jobs).difference(self._needed(tidal)):
            self._end(contender)

    def runs(self) -> tuple[RivalRun, ...]:
        """Return all runs that have ended, rival by rival, from stingy to generous."""
        order = [Contender(name, f"{value:g}") for name in self._names for value in SETTINGS[name]]
        return tuple(self._done[one] for one in order if one in self._done)

    def chosen(self, tidal: Record) -> dict[str, RivalRun]:
        """Return each rival's run that counts beside Tidal's."""
        found = {}
        for name in self._names:
            mine = [one for one in self.runs() if one.policy == name]
            if mine:
                records = [one.record(self._seed) for one in mine]
                best, _ = choose(records, tidal)
                found[name] = mine[records.index(best)]
        return found

    def stop(self) -> None:
        """End what still runs."""
        for contender in tuple(self._jobs):
            self._end(contender)

    def _needed(self, tidal: Record) -> list[Contender]:
        stands = (self._stands_at(name, tidal) for name in self._names)
        return [contender for contender in stands if contender]

    def _stands_at(self, name: str, tidal: Record) -> Contender | None:
        """Return the setting at which the bisection stands, or None when it is over."""
        low, high = 0, len(SETTINGS[name])
        while low < high:
            middle = (low + high) // 2
            contender = Contender(name, f"{SETTINGS[name][middle]:g}")
            found = self._done.get(contender)
            if found is None:
                return contender
            if attains(found.record(self._seed), tidal):
                high = middle
            else:
                low = middle + 1
        return None

    def _start(self, contender: Contender) -> None:
        if contender in self._jobs:
            return
        name = f"tidal-rival-{contender.policy}-{contender.setting}"
        self._jobs[contender] = Child(
            name, _child, self._setup, contender, self._seed, self._bin_seconds
        )

    def _collect(self) -> None:
        for contender, job in tuple(self._jobs.items()):
            if not job.pipe.poll():
                continue
            try:
                body = job.pipe.recv_bytes()
            except EOFError:
                raise RivalError(f"{contender.policy} {contender.setting} failed") from None
            self._done[contender] = msgspec.msgpack.decode(body, type=RivalRun)
            self._end(contender)

    def _end(self, contender: Contender) -> None:
        self._jobs.pop(contender).stop(0.0)


def rival_run(setup: Setup, contender: Contender, seed: int, bin_seconds: float) -> RivalRun:
    """Make one run in this process."""
    demand = setup.demand(seed)
    fold = TimelineFold(
        step_seconds=demand.step_seconds,
        start_seconds=demand.start_seconds,
        end_seconds=demand.end_seconds,
        bin_seconds=bin_seconds,
    )
    figures = run(setup, contender, seed, (fold,))
    return RivalRun(
        policy=contender.policy,
        setting=contender.setting,
        figures=figures,
        timeline=fold.timeline(demand.end_seconds),
    )


def _child(
    pipe: Connection, setup: Setup, contender: Contender, seed: int, bin_seconds: float
) -> None:
    os.nice(NICENESS)
    made = rival_run(setup, contender, seed, bin_seconds)
    pipe.send_bytes(msgspec.msgpack.encode(made))
