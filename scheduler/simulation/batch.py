"""The life of one batch job: starts, progress, checkpoints, notice, SIGTERM, and what is lost.

A `Run` knows no nodes and no steps. It is told what happens (bound, notified, terminated, torn
away) at exact times and moves itself through its phases; `wakes_seconds` says when it must be
looked at next. Progress is in GPU-seconds, so a gang of n pods of g GPUs makes n x g per second.

    idle -> starting -> working <-> writing
                        working  -> writing -> paused   (notified, writes on notice)
    any of these -> exiting -> idle                     (SIGTERM; GPUs are held until gone)
"""

from math import inf
from typing import Literal

from scheduler.simulation.jobs import JobSpec
from scheduler.simulation.worldfile import Batch

_LEAST_DECLARED_SECONDS = 60.0

Phase = Literal["idle", "starting", "working", "writing", "paused", "exiting", "done"]


class Run:
    """A job and how far it has come."""

    __slots__ = (
        "_begun",
        "_done_due",
        "_exit_saves",
        "_exit_seconds",
        "_first_start_seconds",
        "_lost",
        "_pods",
        "_progress",
        "_restarts",
        "_saved",
        "_since",
        "_write_due",
        "attempt",
        "deadline_seconds",
        "last_checkpoint_seconds",
        "noticed",
        "phase",
        "spec",
        "wakes_seconds",
    )

    def __init__(self, spec: JobSpec, batch: Batch) -> None:
        """Begin with no progress, not placed; `batch` says how long containers come and go."""
        self.spec = spec
        self._first_start_seconds = batch.first_start_seconds
        self._exit_seconds = batch.exit_seconds
        self.phase: Phase = "idle"
        self.attempt = 0
        self.noticed = False
        self.deadline_seconds: float | None = None
        self.last_checkpoint_seconds: float | None = None
        self.wakes_seconds = inf
        self._pods = 0
        self._progress = self._saved = self._lost = 0.0
        self._since = 0.0
        self._write_due = self._done_due = inf
        self._exit_saves = self._begun = self._restarts = False

    def start(self, pods: int, now_seconds: float) -> None:
        """All pods of a new attempt are bound."""
        self._pods = pods
        self._restarts, self._begun = self._begun, True
        lasts = self.spec.restart_seconds if self._restarts else self._first_start_seconds
        self._enter("starting", now_seconds, lasts)

    def resize(self, pods: int, now_seconds: float) -> None:
        """The gang works on with another number of pods."""
        self.advance(now_seconds)
        self._settle(now_seconds)
        self._pods = pods
        if self.phase == "working":
            self._plan_work(now_seconds)

    def notify(self, deadline_seconds: float, now_seconds: float) -> None:
        """Give notice: what can write a checkpoint on notice begins at once."""
        self.advance(now_seconds)
        self.noticed = True
        self.deadline_seconds = deadline_seconds
        if not self.spec.writes_on_notice:
            return
        if self.phase == "working":
            self._settle(now_seconds)
            self._enter("writing", now_seconds, self.spec.checkpoint_write_seconds)
        elif self.phase == "starting":
            # Nothing was done since the last checkpoint, so there is nothing to write.
            self._settle(now_seconds)
            self._enter("paused", now_seconds, inf)

    def terminate(self, now_seconds: float) -> None:
        """Send SIGTERM; the pods are gone when the phase is idle again."""
        self.advance(now_seconds)
        if self.phase == "idle":
            self._forget_notice()
        if self.phase in ("exiting", "idle", "done"):
            return
        write = self._write_left(now_seconds)
        self._settle(now_seconds)
        self._exit_saves = write <= self.spec.grace_seconds
        saves_seconds = write if self._exit_saves else 0.0
        self._enter("exiting", now_seconds, max(saves_seconds, self._exit_seconds))

    def tear_away(self, now_seconds: float) -> None:
        """The pods are gone at once, with all that was not saved."""
        self.advance(now_seconds)
        if self.phase == "idle":
            self._forget_notice()
        elif self.phase != "done":
            self._settle(now_seconds)
            self._go(saved=False)

    def advance(self, now_seconds: float) -> None:
        """Pass through every change of phase up to and including `now_seconds`."""
        while self.wakes_seconds <= now_seconds:
            self._turn(self.wakes_seconds)

    @property
    def writing_since_seconds(self) -> float | None:
        """Since when it writes a checkpoint at its own time; None while it does not."""
        return self._since if self.phase == "writing" and not self.noticed else None

    def kept_gpu_seconds(self, now_seconds: float) -> float:
        """Return progress not thrown away so far."""
        if self.phase != "working":
            return self._progress
        return min(self.spec.work_gpu_seconds, self._progress + self._worked(now_seconds))

    def lost_gpu_seconds(self, now_seconds: float) -> float:
        """Return progress thrown away and time spent restarting, so far."""
        restarting = self.phase == "starting" and self._restarts
        return self._lost + (self._worked(now_seconds) if restarting else 0.0)

    def remaining_seconds(self, now_seconds: float) -> float:
        """Return what its owner would say is left, a coming restart included."""
        spec = self.spec
        pods = self._pods if self.phase not in ("idle", "exiting") else spec.pods
        done = self.kept_gpu_seconds(now_seconds) / spec.gpus
        left = max(_LEAST_DECLARED_SECONDS, spec.declared_seconds - done) * spec.pods / pods
        if self.phase in ("idle", "exiting"):
            return left + (spec.restart_seconds if self._begun else 0.0)
        return left + (self.wakes_seconds - now_seconds if self.phase == "starting" else 0.0)

    def _worked(self, now_seconds: float) -> float:
        """GPU-seconds held in this phase."""
        return (now_seconds - self._since) * self._pods * self.spec.gpus_per_pod

    def _settle(self, now_seconds: float) -> None:
        """Book what the phase has brought so far, and count on from now."""
        if self.phase == "working":
            self._progress = self.kept_gpu_seconds(now_seconds)
        elif self.phase == "starting":
            self._lost = self.lost_gpu_seconds(now_seconds)
        if self.phase in ("working", "starting"):
            self._since = now_seconds

    def _enter(self, phase: Phase, now_seconds: float, lasts_seconds: float) -> None:
        self.phase = phase
        self._since = now_seconds
        self.wakes_seconds = now_seconds + lasts_seconds

    def _turn(self, now_seconds: float) -> None:
        """The phase ends of itself."""
        self._settle(now_seconds)
        match self.phase:
            case "starting":
                self._work(now_seconds)
            case "writing":
                self._saved = self._progress
                self.last_checkpoint_seconds = now_seconds
                self._rest_or_work(now_seconds)
            case "exiting":
                if self._exit_saves and self._saved < self._progress:
                    self.last_checkpoint_seconds = now_seconds
                self._go(saved=self._exit_saves)
            case "working" if self._done_due > now_seconds:
                self._enter("writing", now_seconds, self.spec.checkpoint_write_seconds)
            case _:
                self._progress = self.spec.work_gpu_seconds
                self._enter("done", now_seconds, inf)

    def _rest_or_work(self, now_seconds: float) -> None:
        if self.noticed and self.spec.writes_on_notice:
            self._enter("paused", now_seconds, inf)
        else:
            self._work(now_seconds)

    def _work(self, now_seconds: float) -> None:
        interval = self.spec.checkpoint_interval_seconds
        self._write_due = inf if interval is None else now_seconds + interval
        self._enter("working", now_seconds, inf)
        self._plan_work(now_seconds)

    def _plan_work(self, now_seconds: float) -> None:
        left = self.spec.work_gpu_seconds - self._progress
        self._done_due = now_seconds + left / (self._pods * self.spec.gpus_per_pod)
        self.wakes_seconds = min(self._done_due, self._write_due)

    def _write_left(self, now_seconds: float) -> float:
        """Return how long saving everything takes, inf where SIGTERM saves nothing."""
        if self.phase in ("paused", "starting"):
            return self._exit_seconds if self.phase == "paused" else inf
        if not self.spec.writes_on_notice:
            return inf
        if self.phase == "writing":
            return self.wakes_seconds - now_seconds
        return self.spec.checkpoint_write_seconds

    def _go(self, *, saved: bool) -> None:
        if not saved:
            self._lost += self._progress - self._saved
            self._progress = self._saved
        self._saved = self._progress
        self._pods = 0
        self._forget_notice()
        self.phase = "idle"
        self.wakes_seconds = inf

    def _forget_notice(self) -> None:
        self.noticed = False
        self.deadline_seconds = None
