"""One pod among slots and newer binds: what is kept for whom, before any node is looked at.

Made from the `index` for each question, and read by `verdicts` for each node. Tables of the index
are taken over as long as no newer bind, and no reservation's end, has changed them.
"""

from collections.abc import Mapping, Sequence

import msgspec

from binpacking.cards import PodShape
from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.shares import NO_SHARE, Share
from scheduler.planning.crowding import Bounds, bounds_for
from scheduler.planning.index import Index, Mode, mode_at
from scheduler.planning.preference import Taken, kept
from scheduler.planning.slots import Slot, by_node, gpus_of, open_slots, shares_of
from scheduler.planning.standing import Bind, Place, PodAsk


class Bench(msgspec.Struct, frozen=True):
    """One ask against the standing and the newer binds."""

    index: Index
    mode: Mode
    ask: PodAsk
    taken: dict[str, int]
    """Node -> whole GPUs of binds that the standing does not show."""
    shares: dict[str, tuple[Share, ...]]
    """Node -> parts of cards of such binds, and of slots that are kept for others."""
    pods: dict[str, tuple[PodShape, ...]]
    """The same by pod."""
    mine: frozenset[str]
    """Nodes of slots that are open to this pod; empty where it has none."""
    whole: frozenset[str]
    """Those of them whose reservations can be had in all their parts, or have begun."""
    held: dict[str, list[Slot]]
    """Node -> slots that are kept for others."""
    kept: dict[str, int]
    """Node -> whole GPUs of those slots."""
    leaf: tuple[str, ...] | None
    """Leaf of the group's bound pods, for a pod without slots."""
    bounds: Bounds | None
    """What bars the role from failure domains; None: nothing does."""
    lacking: str
    """What a pod of Tidal's without slots waits for; empty for any other pod."""
    trusted: bool = False
    """Whether kube-scheduler's word that a node has room counts where nobody's GPUs are kept.

    It counts a pod from the moment it has chosen its node to the moment its object is gone or
    terminal, so it knows sooner than an observation, and never too soon.
    """

    def needs(self, place: Place) -> int:
        """Return how many whole GPUs the pod takes of the node."""
        if self.ask.share == NO_SHARE:
            return self.ask.gpus
        others = self.shares.get(place.name, ())
        return place.opened((*others, self.ask.share)) - place.opened(others)

    def occupied(self, name: str) -> Taken:
        """Return what the standing does not show of the node: newer binds, and GPUs kept."""
        gpus, pods = self.kept.get(name, 0), self.pods.get(name, ())
        return (*pods, kept(gpus)) if gpus else pods


def bench_of(
    index: Index,
    binds: Sequence[Bind],
    ask: PodAsk,
    now_seconds: float,
    names: Sequence[str] = (),
    *,
    trusted: bool = False,
) -> Bench:
    """Lay out the ask; on `names` kube-scheduler has found room for one such pod.

    `trusted`: its accounting is believed also against the standing, as `Bench.trusted` says.
    """
    standing = index.standing
    mode = mode_at(standing, now_seconds)
    others = [bind for bind in binds if bind.uid != ask.uid]
    newer = {bind.uid for bind in others} | {ask.uid}
    bound = [*(bind for bind in standing.bound if bind.uid not in newer), *others]
    slots = _slots(index, bound, others, ask, now_seconds)
    mine, rest = _split(ask, slots) if ask.owner in index.owners else ([], slots)
    known = rest is index.slots
    held = index.held if known else by_node(rest)
    siblings = [bind.node for bind in bound if ask.group and bind.group == ask.group]
    pods = _pods(index, others)
    shares = _shares(index, others) if index.sharing else {}
    taken = _taken(index, pods, shares)
    planned = mine if mode == "plan" else []
    nodes = frozenset(slot.node for slot in planned)
    return Bench(
        index=index,
        mode=mode,
        ask=ask,
        taken=taken,
        shares=_with_slots(shares, held) if index.sharing else shares,
        pods=pods,
        mine=nodes,
        whole=nodes if siblings else _whole(index, slots, planned, taken, shares, names),
        held=held,
        kept=index.kept if known and not shares else gpus_of(held, index.places, shares),
        leaf=_leaf(index, siblings),
        bounds=bounds_for(index, others, ask),
        lacking=index.lacking.get(ask.owner, "") if mode == "plan" else "",
        trusted=trusted,
    )


def _slots(
    index: Index,
    bound: Sequence[Bind],
    newer: Sequence[Bind],
    ask: PodAsk,
    now_seconds: float,
) -> Sequence[Slot]:
    """Return the open slots: those of the index, where neither binds nor time have changed them."""
    again = {ask.uid, *(bind.uid for bind in newer)} & index.begun
    touched = again or any(bind.owner in index.owners for bind in newer)
    if touched or now_seconds >= index.slots_until_seconds:
        return tuple(open_slots(index.standing.reservations, bound, now_seconds))
    return index.slots


def _whole(
    index: Index,
    slots: Sequence[Slot],
    mine: Sequence[Slot],
    taken: Mapping[str, int],
    shares: Mapping[str, tuple[Share, ...]],
    names: Sequence[str],
) -> frozenset[str]:
    """Return the nodes of slots whose reservation has room for each of its parts.

    Else the first pod of a gang would sit on its GPUs while the others wait for theirs.
    """
    if not mine:
        return frozenset()
    parts: dict[str, list[Slot]] = {slot.reservation: [] for slot in mine}
    for slot in slots:
        if slot.reservation in parts:
            parts[slot.reservation].append(slot)
    needs = {key: gpus_of(by_node(each), index.places, shares) for key, each in parts.items()}
    vouched = {slot.node for slot in mine}.intersection(names)

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


def _split(ask: PodAsk, slots: Sequence[Slot]) -> tuple[list[Slot], list[Slot]]:
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
        fits = slot.owner == ask.owner and slot.group == group and _holds(slot, ask)
        (mine if fits and ask.owner else kept).append(slot)
    return mine, kept


def _holds(slot: Slot, ask: PodAsk) -> bool:
    return slot.gpus >= ask.gpus and (slot.gpus > 0 or slot.share.holds(ask.share))


def _shares(index: Index, binds: Sequence[Bind]) -> dict[str, tuple[Share, ...]]:
    shares: dict[str, tuple[Share, ...]] = {}
    for bind in binds:
        if bind.share != NO_SHARE and bind.uid not in index.seen:
            shares[bind.node] = (*shares.get(bind.node, ()), bind.share)
    return shares


def _taken(
    index: Index,
    pods: Mapping[str, Sequence[PodShape]],
    shares: Mapping[str, tuple[Share, ...]],
) -> dict[str, int]:
    """Return the whole GPUs of newer binds, cards that these open for sharers among them."""
    taken = {}
    for node, here in pods.items():
        gpus = sum(pod.cards for pod in here if pod.card_milli == WHOLE_GPU_MILLI)
        place, parts = index.places.get(node), shares.get(node, ())
        taken[node] = gpus + (place.opened(parts) if place and parts else 0)
    return taken


def _with_slots(
    shares: dict[str, tuple[Share, ...]], held: Mapping[str, Sequence[Slot]]
) -> dict[str, tuple[Share, ...]]:
    kept = {node: shares_of(slots) for node, slots in held.items()}
    return shares | {node: (*shares.get(node, ()), *parts) for node, parts in kept.items() if parts}


def _pods(index: Index, binds: Sequence[Bind]) -> dict[str, tuple[PodShape, ...]]:
    pods: dict[str, tuple[PodShape, ...]] = {}
    for bind in binds:
        if bind.uid not in index.seen:
            pods[bind.node] = (*pods.get(bind.node, ()), bind.shape)
    return pods


def _leaf(index: Index, siblings: Sequence[str]) -> tuple[str, ...] | None:
    leaves = (index.places[node].leaf for node in siblings if node in index.places)
    return min(leaves, default=None)
