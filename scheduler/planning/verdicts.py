"""Answers to kube-scheduler: which nodes a pod may take, which is best, whom it may push out.

Pure and idempotent: the same standing, binds, ask and time give the same answer, and asking
changes nothing. The names offered are nodes where kube-scheduler's own accounting has found
room (filter, prioritise) or would find it without the offered victims (preempt).

How far the plan is believed depends on its age:
  plan       up to `plan_stale_seconds`: a pod with open slots gets its slots' nodes and no
             other, and only once all parts of a reservation can be had; any other pod gets GPUs
             that are free and that nobody else's slots claim, also a pod of a job or role whose
             plan has no place for it (a retry, a hand-made start), but not one of a job that
             the plan stops. A node missing from the standing is refused: the next observation,
             seconds away, will know it.
  heuristic  up to `heuristic_stale_seconds`: slots bind nobody to a node, but still keep others
             out until they expire. An unknown node passes, nothing is reserved there.
  open       after that: every name passes, as without Tidal.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from scheduler.planning import reasons
from scheduler.planning.slots import Slot, open_slots, possible_sums
from scheduler.planning.standing import Bind, Place, PodAsk, Standing
from scheduler.planning.targets import Targets

Mode = Literal["plan", "heuristic", "open"]
BEST_SCORE = 10
DEFAULT_RESOURCE = "nvidia.com/gpu"
"""Counted as a GPU also where no node offers it, so that nobody passes for want of nodes."""


class FilterVerdict(msgspec.Struct, frozen=True):
    """The names that pass, in the order given, and for each other name the reason."""

    passed: tuple[str, ...]
    refused: dict[str, str] = {}
    planned: bool = False
    """Whether the pod has slots of its own, so that no other node can pass."""


class Index(msgspec.Struct, frozen=True):
    """A standing with its look-up tables, made once per publication."""

    standing: Standing
    places: dict[str, Place]
    seen: frozenset[str]
    victims: dict[str, dict[str, int]]
    """Node -> uid -> GPUs."""
    free: dict[str, dict[str, int]]
    """Resource -> node -> free GPUs, of nodes that take pods."""
    resources: frozenset[str]
    """Names under which GPUs are asked for."""
    targets: Targets
    lacking: dict[str, str]
    """Role or job of Tidal's -> why a pod of it without slots gets nothing."""
    stopping: frozenset[str]


def index_of(standing: Standing) -> Index:
    """Return the standing with its look-up tables."""
    victims: dict[str, dict[str, int]] = {}
    for victim in standing.victims:
        victims.setdefault(victim.node, {})[victim.uid] = victim.gpus
    free: dict[str, dict[str, int]] = {}
    for place in standing.nodes:
        if place.schedulable:
            free.setdefault(place.resource, {})[place.name] = place.free
    return Index(
        standing=standing,
        free=free,
        places={place.name: place for place in standing.nodes},
        seen=frozenset(standing.seen),
        victims=victims,
        resources=frozenset({DEFAULT_RESOURCE, *(place.resource for place in standing.nodes)}),
        targets=Targets(standing.targets),
        lacking={key: reasons.not_reserved(key) for key, _ in standing.targets}
        | {job: reasons.not_lent(job) for job in standing.jobs},
        stopping=frozenset(standing.stopping),
    )


def mode_at(standing: Standing, now_seconds: float) -> Mode:
    """Return how far the plan is believed at this time."""
    age = now_seconds - standing.planned_at_seconds
    if age <= standing.plan_stale_seconds:
        return "plan"
    return "heuristic" if age <= standing.heuristic_stale_seconds else "open"


def filter_nodes(
    index: Index, binds: Sequence[Bind], ask: PodAsk, names: Sequence[str], now_seconds: float
) -> FilterVerdict:
    """Say which of `names` the pod may take; `binds` are those newer than the standing."""
    mode = mode_at(index.standing, now_seconds)
    if mode == "open" or ask.gpus == 0:
        return FilterVerdict(tuple(names))
    bench = _bench(index, binds, ask, now_seconds, names)
    refused = _refusals(bench, names)
    passed = tuple(name for name in names if name not in refused)
    return FilterVerdict(passed, refused, planned=bool(bench.mine))


def steals(
    index: Index,
    binds: Sequence[Bind],
    offers: Sequence[Bind],
    ask: PodAsk,
    names: Sequence[str],
    now_seconds: float,
) -> frozenset[str]:
    """Return those of `names` where the pod may take GPUs kept for others.

    It may where some of the offers are binds by now: enough of them that only kept GPUs are left,
    and not so many that kube-scheduler finds too few.
    """
    bench = _bench(index, binds, ask, now_seconds)
    found = set()
    for name in bench.kept.keys() & set(names) & index.places.keys():
        place = index.places[name]
        room = place.free + place.releasing - bench.taken.get(name, 0) - ask.gpus
        spare = room - bench.kept[name]
        if any(taken > 0 and spare < taken <= room for taken in possible_sums(offers, name)):
            found.add(name)
    return frozenset(found)


def guarded(index: Index, binds: Sequence[Bind], ask: PodAsk, now_seconds: float) -> frozenset[str]:
    """Return the nodes on which GPUs are kept for others."""
    return frozenset(_bench(index, binds, ask, now_seconds).held)


def prioritise(
    index: Index, binds: Sequence[Bind], ask: PodAsk, names: Sequence[str], now_seconds: float
) -> tuple[tuple[str, int], ...]:
    """Score names 0 to 10 by best fit: fewest GPUs left for others; one winner, ties by name."""
    bench = _bench(index, binds, ask, now_seconds)
    left = {name: _left(bench, name) for name in names}
    known = [(gpus, name) for name, gpus in left.items() if gpus is not None]
    winner = min(known)[1] if known else ""
    return tuple([(name, BEST_SCORE if name == winner else _score(left[name])) for name in names])


def preempt(
    index: Index,
    binds: Sequence[Bind],
    ask: PodAsk,
    candidates: Mapping[str, Sequence[str]],
    now_seconds: float,
) -> dict[str, tuple[str, ...]]:
    """Return node -> uids to evict, in the order offered, for nodes that filter then accepts.

    Only pods that the plan itself sends away may go, so a node is kept where the offered ones
    among them suffice. A node offered without victims is dropped: the daemon evicts by its own
    plan, and an answer with no victim would be an error. Without a fresh plan nothing is
    evicted; once the answers are open, candidates pass as offered.
    """
    match mode_at(index.standing, now_seconds):
        case "open":
            return {node: tuple(uids) for node, uids in candidates.items() if uids}
        case "heuristic":
            return {}
        case "plan":
            if ask.owner in index.stopping:
                return {}
            chosen = {node: _allowed(index, node, uids) for node, uids in candidates.items()}
            bench = _bench(index, binds, ask, now_seconds)
            kept = {}
            for node, uids in chosen.items():
                here = bench
                if node in bench.mine - bench.whole:  # of a gang: filter is asked about it alone
                    here = _bench(index, binds, ask, now_seconds, (node,))
                if uids and not _refusal(here, node, _freed(index, node, uids)):
                    kept[node] = uids
            return kept


class _Bench(msgspec.Struct, frozen=True):
    """One ask against the standing and the newer binds."""

    index: Index
    mode: Mode
    ask: PodAsk
    taken: dict[str, int]
    """Node -> GPUs of binds that the standing does not show."""
    mine: frozenset[str]
    """Nodes of slots that are open to this pod; empty where it has none."""
    whole: frozenset[str]
    """Those of them whose reservations can be had in all their parts, or have begun."""
    held: dict[str, list[Slot]]
    """Node -> slots that are kept for others."""
    kept: dict[str, int]
    """Node -> GPUs of those slots."""
    leaf: tuple[str, ...] | None
    """Leaf of the group's bound pods, for a pod without slots."""
    lacking: str
    """What a pod of Tidal's without slots waits for; empty for any other pod."""


def _bench(
    index: Index,
    binds: Sequence[Bind],
    ask: PodAsk,
    now_seconds: float,
    names: Sequence[str] = (),
) -> _Bench:
    """Lay out the ask; on `names` kube-scheduler has found room for one such pod."""
    standing = index.standing
    mode = mode_at(standing, now_seconds)
    others = [bind for bind in binds if bind.uid != ask.uid]
    newer = {bind.uid for bind in others} | {ask.uid}
    bound = [*(bind for bind in standing.bound if bind.uid not in newer), *others]
    slots = list(open_slots(standing.reservations, bound, now_seconds))
    mine, others_slots = _split(ask, slots)
    held: dict[str, list[Slot]] = {}
    for slot in others_slots:
        held.setdefault(slot.node, []).append(slot)
    siblings = [bind.node for bind in bound if ask.group and bind.group == ask.group]
    taken = _taken(index, others)
    planned = mine if mode == "plan" else []
    return _Bench(
        index=index,
        mode=mode,
        ask=ask,
        taken=taken,
        mine=frozenset(slot.node for slot in planned),
        whole=_whole(index, slots, planned, taken, names)
        if not siblings
        else frozenset(slot.node for slot in planned),
        held=held,
        kept={node: sum(slot.gpus for slot in each) for node, each in held.items()},
        leaf=_leaf(index, siblings),
        lacking=index.lacking.get(ask.owner, "") if mode == "plan" else "",
    )


def _whole(
    index: Index,
    slots: list[Slot],
    mine: list[Slot],
    taken: Mapping[str, int],
    names: Sequence[str],
) -> frozenset[str]:
    """Return the nodes of slots whose reservation has room for each of its parts.

    Else the first pod of a gang would sit on its GPUs while the others wait for theirs.
    """
    needs: dict[str, dict[str, int]] = {}
    for slot in slots:
        need = needs.setdefault(slot.reservation, {})
        need[slot.node] = need.get(slot.node, 0) + slot.gpus
    vouched = {slot.node for slot in mine}.intersection(names) if mine else frozenset()

    def room(node: str) -> int:
        place = index.places.get(node)
        if place is None or not place.schedulable:
            return 0
        coming = place.releasing if node in vouched else 0
        return place.free + coming - taken.get(node, 0)

    return frozenset(
        slot.node
        for slot in mine
        if len(needs[slot.reservation]) == 1
        or all(room(node) >= gpus for node, gpus in needs[slot.reservation].items())
    )


def _split(ask: PodAsk, slots: list[Slot]) -> tuple[list[Slot], list[Slot]]:
    """Return the slots that this pod may fill, and those kept for others.

    A group that has begun a reservation stays with it; any other pod of the owner may fill the
    reservations that no group has begun.
    """
    own = [slot for slot in slots if ask.owner and slot.owner == ask.owner]
    begun = bool(ask.group) and any(slot.group == ask.group for slot in own)
    group = ask.group if begun else ""
    mine: list[Slot] = []
    kept: list[Slot] = []
    for slot in slots:
        fits = slot.owner == ask.owner and slot.group == group and slot.gpus >= ask.gpus
        (mine if fits and ask.owner else kept).append(slot)
    return mine, kept


def _taken(index: Index, binds: Sequence[Bind]) -> dict[str, int]:
    taken: dict[str, int] = {}
    for bind in binds:
        if bind.uid not in index.seen:
            taken[bind.node] = taken.get(bind.node, 0) + bind.gpus
    return taken


def _leaf(index: Index, siblings: Sequence[str]) -> tuple[str, ...] | None:
    leaves = (index.places[node].leaf for node in siblings if node in index.places)
    return min(leaves, default=None)


def _refusals(bench: _Bench, names: Sequence[str]) -> dict[str, str]:
    """Return name -> reason; on a node of which nobody holds or took a part, free GPUs decide."""
    plain: dict[str, int] = {}
    if bench.mode == "plan" and bench.ask.owner in bench.index.stopping:
        return dict.fromkeys(names, reasons.stopping(bench.ask.owner))
    if bench.leaf is None and not bench.mine:
        plain = bench.index.free.get(bench.ask.resource, {})
    full = bench.lacking or reasons.FULL
    elsewhere = _planned(bench, "") if bench.mine else ""
    special = {*bench.taken, *bench.held, bench.ask.nominated}
    refused = {}
    for name in names:
        if bench.mine and name not in bench.mine:
            reason = elsewhere
        elif name in special or name not in plain:
            reason = _refusal(bench, name)
        else:
            reason = "" if plain[name] >= bench.ask.gpus else full
        if reason:
            refused[name] = reason
    return refused


def _refusal(bench: _Bench, name: str, freed: int | None = None) -> str:
    """Return why the pod may not take the node, or nothing.

    `freed` are GPUs of victims that preempt would evict. Without it, GPUs of pods on their way
    out count as free where kube-scheduler vouches for them: on the pod's own slots, and on the
    node that was emptied for it.
    """
    place, ask = bench.index.places.get(name), bench.ask
    if bench.mine and name not in bench.whole:
        return _planned(bench, name)
    if place is None:
        return reasons.UNKNOWN if bench.mode == "plan" else ""
    if not place.schedulable:
        return reasons.CLOSED
    if place.resource != ask.resource:
        return reasons.other_resource(place.resource, ask.resource)
    free = place.free - bench.taken.get(name, 0)
    if bench.mine:
        coming = place.releasing if freed is None else freed
        return "" if free + coming >= ask.gpus else reasons.planned_here(place.leaving)
    if freed is None:
        freed = _vouched(bench, name)
    return _common_refusal(bench, place, free + freed)


def _planned(bench: _Bench, name: str) -> str:
    """Return what the pod's slots wait for: the same on all nodes but its own."""
    places = bench.index.places
    awaited = [places[node] for node in sorted(bench.mine) if node in places]
    leaving = [who for place in awaited if place.free < bench.ask.gpus for who in place.leaving]
    if name in bench.mine:
        return reasons.planned_here(leaving)
    return reasons.planned_elsewhere(bench.mine, leaving)


def _common_refusal(bench: _Bench, place: Place, free: int) -> str:
    if free < bench.ask.gpus:
        return bench.lacking or reasons.FULL
    if bench.leaf is not None and place.leaf != bench.leaf:
        return reasons.OTHER_LEAF
    if free - bench.kept.get(place.name, 0) < bench.ask.gpus:
        first = min(slot.owner for slot in bench.held[place.name])
        return bench.lacking or reasons.kept_for(first)
    return ""


def _vouched(bench: _Bench, name: str) -> int:
    """GPUs of allowed victims on the node that kube-scheduler has emptied for this pod."""
    if bench.mode != "plan" or bench.ask.nominated != name:
        return 0
    return sum(bench.index.victims.get(name, {}).values())


def _allowed(index: Index, node: str, offered: Sequence[str]) -> tuple[str, ...]:
    allowed = index.victims.get(node, {})
    return tuple(uid for uid in offered if uid in allowed)


def _freed(index: Index, node: str, uids: Sequence[str]) -> int:
    allowed = index.victims[node]
    return sum(allowed[uid] for uid in uids)


def _left(bench: _Bench, name: str) -> int | None:
    """GPUs of the node left for others after the pod; None where the pod has no known room."""
    place = bench.index.places.get(name)
    if place is None:
        return None
    free = place.free + place.releasing - bench.taken.get(name, 0)
    left = free - bench.kept.get(name, 0) - bench.ask.gpus
    return left if left >= 0 else None


def _score(left: int | None) -> int:
    """One below the winner at best, so that kube-scheduler has no tie to break by chance."""
    return 0 if left is None else max(0, min(BEST_SCORE - 1, BEST_SCORE - left))
