"""Which reserved parts still wait for their pod, and for whose.

A slot is one (node, GPUs) part of a live reservation. A pod of the owner that was bound there
since the reservation was made fills one slot.
A group (the pods of one replica or job) keeps to one reservation: the one that holds most of
its bound pods; the other slots of that reservation are then for this group alone.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from binpacking.shares import NO_SHARE, Share
from scheduler.planning.snapshot import Reservation
from scheduler.planning.standing import Bind, Place

NOTHING: Mapping[str, tuple[Share, ...]] = {}


class Slot(msgspec.Struct, frozen=True):
    """One reserved part that no pod has taken."""

    owner: str
    node: str
    gpus: int
    group: str
    """Group that has begun to fill the reservation; empty while any pod of the owner may."""
    expires_seconds: float
    share: Share
    """Of one card, where the part is that; then it has no GPUs."""
    reservation: str
    """The parts of one reservation are for the pods of one replica or job, which start together."""


def open_slots(
    reservations: Iterable[Reservation], binds: Iterable[Bind], now_seconds: float
) -> Iterator[Slot]:
    """Yield the unfilled parts of reservations that have not expired, in their order."""
    by_owner: dict[str, list[Bind]] = {}
    for bind in binds:
        by_owner.setdefault(bind.owner, []).append(bind)
    live = [one for one in reservations if one.expires_seconds > now_seconds]
    contested: dict[str, list[Reservation]] = {}
    for one in live:
        if one.owner in by_owner:
            contested.setdefault(one.owner, []).append(one)
        else:
            yield from _slots(one, list(one.parts), "")
    for owner, mine in contested.items():
        yield from _matched(mine, by_owner[owner])


def _slots(reservation: Reservation, parts: list[tuple[str, int]], group: str) -> Iterator[Slot]:
    for node, gpus in parts:
        yield Slot(
            owner=reservation.owner,
            node=node,
            gpus=gpus,
            group=group,
            share=reservation.share,
            expires_seconds=reservation.expires_seconds,
            reservation=reservation.id,
        )


def _matched(reservations: list[Reservation], binds: list[Bind]) -> Iterator[Slot]:
    """Let each group take the reservation that fits it best, then yield what is left."""
    parts = [list(one.parts) for one in reservations]
    groups = [""] * len(parts)
    on_node: dict[str, list[int]] = {}
    for at, one in enumerate(reservations):
        for node in dict(one.parts):
            on_node.setdefault(node, []).append(at)
    for group, pods in _grouped(binds):
        near = {at for pod in pods for at in on_node.get(pod.node, ())}
        best, taken = 0, list[tuple[str, int]]()
        for at in sorted(at for at in near if parts[at] and not groups[at]):
            found = _filled(reservations[at], parts[at], pods)
            if len(found) > len(taken):
                best, taken = at, found
            if len(taken) == len(pods):
                break
        if taken:
            for part in taken:
                parts[best].remove(part)
            groups[best] = group
    for one, rest, group in zip(reservations, parts, groups, strict=True):
        yield from _slots(one, rest, group)


def _grouped(binds: list[Bind]) -> Iterator[tuple[str, list[Bind]]]:
    """Yield the groups in order of name, then each pod without a group by itself."""
    groups: dict[str, list[Bind]] = {}
    for bind in sorted(binds, key=lambda one: (one.group, one.uid)):
        groups.setdefault(bind.group, []).append(bind)
    alone = groups.pop("", [])
    yield from groups.items()
    yield from (("", [bind]) for bind in alone)


def _filled(
    reservation: Reservation, parts: list[tuple[str, int]], pods: list[Bind]
) -> list[tuple[str, int]]:
    """Return which of the parts left these pods stand in, each part at most once."""
    rest = list(parts)
    taken = []
    for pod in pods:
        whole = 0 if reservation.share != NO_SHARE else pod.gpus
        fitting = [part for part in rest if part[0] == pod.node and part[1] >= whole]
        if fitting and pod.at_seconds >= reservation.created_seconds:
            part = min(fitting, key=lambda one: one[1])
            rest.remove(part)
            taken.append(part)
    return taken


def by_node(slots: Iterable[Slot]) -> dict[str, list[Slot]]:
    """Return node -> its slots."""
    found: dict[str, list[Slot]] = {}
    for slot in slots:
        found.setdefault(slot.node, []).append(slot)
    return found


def shares_of(slots: Iterable[Slot]) -> tuple[Share, ...]:
    """Return the parts of cards among the slots."""
    return tuple(slot.share for slot in slots if slot.share != NO_SHARE)


def gpus_of(
    held: Mapping[str, Iterable[Slot]],
    places: Mapping[str, Place],
    beside: Mapping[str, tuple[Share, ...]] = NOTHING,
) -> dict[str, int]:
    """Return node -> whole GPUs of its slots; `beside`: parts of cards that others take there."""

    def opened(node: str, slots: Iterable[Slot]) -> int:
        shares, others = shares_of(slots), beside.get(node, ())
        if not shares:
            return 0
        place = places.get(node)
        return place.opened((*shares, *others)) - place.opened(others) if place else len(shares)

    return {
        node: sum(slot.gpus for slot in slots) + opened(node, slots) for node, slots in held.items()
    }


def possible_takings(
    offers: Iterable[Bind], held: Iterable[Slot], node: str
) -> set[tuple[int, int]]:
    """Return what the offers on the node may do together, whichever of them are binds.

    Each is (GPUs taken, GPUs of the held slots that are filled thereby).
    """
    slots = sorted(held, key=lambda slot: slot.gpus)
    found = {(0, 0)}
    for offer in offers:
        if offer.node == node:
            mine = (one for one in slots if one.owner == offer.owner and one.gpus >= offer.gpus)
            slot = next(mine, None)
            if slot is not None:
                slots.remove(slot)
            filled = slot.gpus if slot else 0
            found |= {(taken + offer.gpus, full + filled) for taken, full in found}
    return found
