"""One node and its pods: the pure step from a state and an event to state and writes.

Time passes inside a step: everything due until the event's moment happens before the event, in
order of moment and uid. A pod is admitted when it is first seen; bound before the former holder's
devices are free, it is rejected for good, as the real kubelet does it.
"""

from math import inf

import msgspec

from scheduler.simulation.kubelet import lives
from scheduler.simulation.kubelet.facts import GPU, Facts
from scheduler.simulation.kubelet.images import Images
from scheduler.simulation.kubelet.ledger import Ledger
from scheduler.simulation.kubelet.lives import Life
from scheduler.simulation.kubelet.manners import Manners
from scheduler.simulation.kubelet.writes import ReportImages, Write

ADMISSION_ERROR = "UnexpectedAdmissionError"
BAD_ANNOTATION = "SimulationAnnotationInvalid"


class Seen(msgspec.Struct, frozen=True):
    """A pod's object appeared or changed."""

    facts: Facts


class Vanished(msgspec.Struct, frozen=True):
    """A pod's object is no longer there."""

    uid: str


class Told(msgspec.Struct, frozen=True):
    """The API server took the terminal phase of a pod, or has no such pod any more."""

    uid: str


class Passed(msgspec.Struct, frozen=True):
    """Nothing but time."""


Event = Seen | Vanished | Told | Passed


class NodeState(msgspec.Struct, frozen=True):
    """One node."""

    name: str
    ledger: Ledger
    lives: dict[str, Life] = {}
    """By uid."""
    images: Images = Images()

    def due_seconds(self) -> float:
        """Return when something next happens by itself; infinite without."""
        ends = min((life.due_seconds for life in self.lives.values()), default=inf)
        return min(ends, self.images.due_seconds())


Stepped = tuple[NodeState, tuple[Write, ...]]


def step(node: NodeState, event: Event, now_seconds: float, manners: Manners) -> Stepped:
    """Return the node after the event, and what its kubelet tells the API server."""
    node, before = _elapsed(node, now_seconds, manners)
    match event:
        case Seen(facts=facts):
            node, after = _seen(node, facts, now_seconds, manners)
        case Vanished(uid=uid):
            node, after = _vanished(node, uid, now_seconds, manners), ()
        case Told(uid=uid):
            node, after = _told(node, uid)
        case Passed():
            after = ()
    # a start of 0 seconds, or an image that is already there, is due at once
    node, at_once = _elapsed(node, now_seconds, manners)
    return node, before + after + at_once


def _elapsed(node: NodeState, now_seconds: float, manners: Manners) -> Stepped:
    writes: list[Write] = []
    while due := [life for life in node.lives.values() if life.due_seconds <= now_seconds]:
        life = min(due, key=lambda one: (one.due_seconds, one.facts.uid))
        changed, told = lives.elapsed(life, manners)
        node = _put(node, life.facts.uid, changed)
        writes.extend(told)
    if node.images.due_seconds() <= now_seconds:
        images = node.images.tell(now_seconds)
        node = msgspec.structs.replace(node, images=images)
        writes.append(ReportImages(node.name, images.listed(now_seconds)))
    return node, tuple(writes)


def _seen(node: NodeState, facts: Facts, now_seconds: float, manners: Manners) -> Stepped:
    known = node.lives.get(facts.uid)
    if known is not None:
        changed, told = lives.seen(known, facts, now_seconds, manners)
        return _put(node, facts.uid, changed), told
    return _new(node, facts, now_seconds, manners)


def _new(node: NodeState, facts: Facts, now_seconds: float, manners: Manners) -> Stepped:
    if facts.phase in {"Succeeded", "Failed"}:
        return _with_life(node, lives.over(facts))
    ledger = node.ledger.freed({uid for uid, life in node.lives.items() if life.active})
    free = ledger.free()
    if facts.refusal:
        return _with_life(node, lives.refused(facts, BAD_ANNOTATION, facts.refusal))
    if len(free) < facts.gpus:
        message = _too_few(facts.gpus, len(free))
        return _with_life(node, lives.refused(facts, ADMISSION_ERROR, message))
    devices = _devices(ledger, facts, f"{manners.seed}/{node.name}")
    node = msgspec.structs.replace(node, ledger=ledger.give(facts.uid, devices))
    return _begun(node, facts, devices, now_seconds, manners)


def _begun(
    node: NodeState, facts: Facts, devices: tuple[int, ...], now_seconds: float, manners: Manners
) -> Stepped:
    node = _with_image(node, facts, now_seconds, manners)
    if facts.phase == "Running":
        node, writes = _with_life(node, lives.resumed(facts, devices, now_seconds))
    else:
        there = node.images.ready_seconds(facts.image, now_seconds) or now_seconds
        node, writes = _with_life(node, lives.admitted(facts, devices, there))
    if facts.deleting:
        begun = node.lives[facts.uid]
        node = _put(node, facts.uid, lives.stopped(begun, now_seconds, manners))
    return node, writes


def _with_image(node: NodeState, facts: Facts, now_seconds: float, manners: Manners) -> NodeState:
    images = node.images
    if not facts.image or images.ready_seconds(facts.image, now_seconds) is not None:
        return node
    mib = manners.image_mib if facts.image_mib is None else facts.image_mib
    rate = inf if facts.phase == "Running" else manners.pull_mib_per_second
    return msgspec.structs.replace(node, images=images.pull(facts.image, mib, rate, now_seconds))


def _devices(ledger: Ledger, facts: Facts, salt: str) -> tuple[int, ...]:
    old = facts.published
    if old is not None and len(old) == facts.gpus and set(old) <= set(ledger.free()):
        return old
    return ledger.pick(facts.gpus, salt)


def _too_few(requested: int, available: int) -> str:
    return (
        "Pod was rejected: Allocate failed due to requested number of devices unavailable for "
        f"{GPU}. Requested: {requested}, Available: {available}, which is unexpected"
    )


def _vanished(node: NodeState, uid: str, now_seconds: float, manners: Manners) -> NodeState:
    life = node.lives.get(uid)
    if life is None:
        return node
    return _put(node, uid, lives.vanished(life, now_seconds, manners))


def _told(node: NodeState, uid: str) -> Stepped:
    life = node.lives.get(uid)
    if life is None:
        return node, ()
    changed, writes = lives.told(life)
    return _put(node, uid, changed), writes


def _with_life(node: NodeState, step: lives.Step) -> Stepped:
    life, writes = step
    return _put(node, life.facts.uid, life), writes


def _put(node: NodeState, uid: str, life: Life | None) -> NodeState:
    others = {one: each for one, each in node.lives.items() if one != uid}
    if life is not None:
        others[uid] = life
    return msgspec.structs.replace(node, lives=others)
