"""One pod's life on its node: stages, what each event does to them, what is told. Pure.

    pulling -> starting -> running -> exited -> reporting -> done -> removing
    starting | running -> stopping -> exited
    pulling -> exited

`stopping` lasts preStop plus the process's own time after SIGTERM, at most the grace period (2 s
are always left for SIGTERM). A container that stopped is seen at the next relist, then the
terminal phase is reported and the devices are free. When the API server has taken that report
(`told`) the pod is `done`; then its object is deleted, if somebody asked for it. A pod whose object
vanished while it ran is stopped all the same, and keeps its devices until it has.
"""

from enum import Enum
from math import inf

import msgspec

from scheduler.simulation.kubelet.facts import Facts
from scheduler.simulation.kubelet.ledger import share
from scheduler.simulation.kubelet.manners import Manners
from scheduler.simulation.kubelet.writes import Remove, Report, Write

SIGTERM_LEAST_SECONDS = 2.0
"""minimumGracePeriodInSeconds of the real kubelet: left for SIGTERM after any preStop."""
KILLED_CODE = 137


class Stage(Enum):
    """Where a pod is in its life."""

    PULLING = "pulling"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    EXITED = "exited"
    REPORTING = "reporting"
    DONE = "done"
    REMOVING = "removing"


OVER = frozenset({Stage.REPORTING, Stage.DONE, Stage.REMOVING})
"""The containers are known to be gone and the terminal phase is on its way to the API server, or
there: the pod's devices are no longer its own. A kubelet knows this before the server does, so a
pod bound right after the server heard of it is never refused."""


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """One pod on its node."""

    facts: Facts
    stage: Stage
    due_seconds: float = inf
    """When the stage goes on by itself."""
    devices: tuple[int, ...] = ()
    ready: bool = False
    """As told last."""
    stopping_seconds: float = inf
    """When the termination began."""
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    vanished: bool = False
    """The object is gone; there is nobody to tell."""

    @property
    def active(self) -> bool:
        """The pod may hold devices."""
        return self.stage not in OVER


Step = tuple[Life, tuple[Write, ...]]


def admitted(facts: Facts, devices: tuple[int, ...], image_seconds: float) -> Step:
    """Return a pod that got its devices and waits for its image until `image_seconds`."""
    life = Life(facts=facts, stage=Stage.PULLING, due_seconds=image_seconds, devices=devices)
    return life, (report(life, "Pending", devices=devices),)


def refused(facts: Facts, reason: str, message: str) -> Step:
    """Return a pod that the node did not take; its terminal phase is being reported."""
    life = Life(facts=facts, stage=Stage.REPORTING, reason=reason, message=message)
    return life, (report(life, "Failed"),)


def resumed(facts: Facts, devices: tuple[int, ...], now_seconds: float) -> Step:
    """Return a pod that an earlier process of the fake kubelet had brought to Running."""
    life = Life(
        facts=facts, stage=Stage.RUNNING, due_seconds=_end(facts, now_seconds), devices=devices
    )
    return _told_ready(life)


def over(facts: Facts) -> Step:
    """Return a pod found in a terminal phase."""
    return _removed_if_asked(Life(facts=facts, stage=Stage.DONE))


def seen(life: Life, facts: Facts, now_seconds: float, manners: Manners) -> Step:
    """Return the pod after its object changed."""
    life = _with(life, facts=facts)
    match life.stage:
        case Stage.PULLING | Stage.STARTING | Stage.RUNNING if facts.deleting:
            return stopped(life, now_seconds, manners), ()
        case Stage.RUNNING:
            return _told_ready(life)
        case Stage.STOPPING:
            return _with(life, due_seconds=_stopping_due(life, now_seconds, manners)), ()
        case Stage.DONE:
            return _removed_if_asked(life)
        case _:
            return life, ()


def vanished(life: Life, now_seconds: float, manners: Manners) -> Life | None:
    """Return the pod after its object went away; None where nothing of it is left."""
    if life.stage in OVER:
        return None
    life = _with(life, vanished=True)
    if life.stage in {Stage.STOPPING, Stage.EXITED}:
        return life
    return stopped(life, now_seconds, manners)


def told(life: Life) -> Step:
    """Return the pod after the API server took its terminal phase."""
    if life.stage is not Stage.REPORTING:
        return life, ()
    return _removed_if_asked(_with(life, stage=Stage.DONE))


def stopped(life: Life, now_seconds: float, manners: Manners) -> Life:
    """Return the pod as its termination begins; without a container there is nothing to stop."""
    if life.stage is Stage.PULLING:
        return _exited(life, now_seconds, KILLED_CODE, manners)
    stopping = _with(life, stage=Stage.STOPPING, stopping_seconds=now_seconds)
    return _with(stopping, due_seconds=_stopping_due(stopping, now_seconds, manners))


def elapsed(life: Life, manners: Manners) -> tuple[Life | None, tuple[Write, ...]]:
    """Return the pod after its due moment; None where nothing of it is left."""
    at = life.due_seconds
    match life.stage:
        case Stage.PULLING:
            start = life.facts.start_seconds
            wait = manners.start_seconds if start is None else start
            return _with(life, stage=Stage.STARTING, due_seconds=at + wait), ()
        case Stage.STARTING:
            running = _with(life, stage=Stage.RUNNING, due_seconds=_end(life.facts, at))
            ready = _with(running, ready=life.facts.gates_open)
            return ready, (report(ready, "Running"),)
        case Stage.RUNNING:
            return _exited(life, at, 0, manners), ()
        case Stage.STOPPING:
            return _stopping_elapsed(life, manners)
        case Stage.EXITED if life.vanished:
            return None, ()
        case _:
            done = _with(life, stage=Stage.REPORTING, due_seconds=inf, ready=False)
            return done, (report(done, "Failed" if life.exit_code else "Succeeded"),)


def report(life: Life, phase: str, devices: tuple[int, ...] | None = None) -> Report:
    """Return the status of the pod in `phase`."""
    facts = life.facts
    return Report(
        uid=facts.uid,
        namespace=facts.namespace,
        name=facts.name,
        containers=facts.containers,
        phase=phase,
        ready=life.ready,
        containers_ready=phase == "Running" and life.stage is Stage.RUNNING,
        devices=devices,
        exit_code=life.exit_code if phase in {"Succeeded", "Failed"} and not life.reason else None,
        reason=life.reason,
        message=life.message,
    )


def _stopping_elapsed(life: Life, manners: Manners) -> Step:
    ends, code = _ending(life, manners)
    if life.due_seconds >= ends:
        return _exited(life, life.due_seconds, code, manners), ()
    unready = _with(life, due_seconds=ends, ready=False)
    return unready, () if life.vanished else (report(unready, "Running"),)


def _stopping_due(life: Life, now_seconds: float, manners: Manners) -> float:
    ends = max(now_seconds, _ending(life, manners)[0])
    unready = life.stopping_seconds + manners.unready_seconds
    return min(ends, max(now_seconds, unready)) if life.ready else ends


def _ending(life: Life, manners: Manners) -> tuple[float, int]:
    """Return when the process ends, and with which status."""
    facts = life.facts
    own = manners.exit_seconds if facts.exit_seconds is None else facts.exit_seconds
    before = min(facts.pre_stop_seconds, facts.grace_seconds)
    left = max(SIGTERM_LEAST_SECONDS, facts.grace_seconds - before)
    code = facts.exit_code if own <= left else KILLED_CODE
    return life.stopping_seconds + before + min(own, left), code


def _exited(life: Life, at_seconds: float, code: int, manners: Manners) -> Life:
    lag = manners.relist_seconds * share(f"{manners.seed}/{life.facts.uid}/relist")
    return _with(life, stage=Stage.EXITED, due_seconds=at_seconds + lag, exit_code=code)


def _told_ready(life: Life) -> Step:
    if life.ready == life.facts.gates_open:
        return life, ()
    changed = _with(life, ready=life.facts.gates_open)
    return changed, (report(changed, "Running"),)


def _removed_if_asked(life: Life) -> Step:
    if not life.facts.deleting:
        return life, ()
    facts = life.facts
    gone = _with(life, stage=Stage.REMOVING)
    return gone, (Remove(uid=facts.uid, namespace=facts.namespace, name=facts.name),)


def _end(facts: Facts, at_seconds: float) -> float:
    return inf if facts.run_seconds is None else at_seconds + facts.run_seconds


_with = msgspec.structs.replace
