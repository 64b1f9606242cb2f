"""A standing with its look-up tables, made once per publication and shared by all answers to it.

    standing (what is known) -> index (its tables) -> bench (one pod) -> verdicts (each node)

All that no single pod changes is computed here, so that an answer costs what its own pod asks.
"""

import math
from typing import Literal

import msgspec

from scheduler.planning import reasons
from scheduler.planning.cards import largest_memory_mib
from scheduler.planning.preference import Preference, kept
from scheduler.planning.slots import Slot, by_node, gpus_of, open_slots
from scheduler.planning.standing import Beside, Floor, Place, Standing
from scheduler.planning.targets import Targets

Mode = Literal["plan", "heuristic", "open"]
DEFAULT_RESOURCE = "nvidia.com/gpu"
"""Counted as a GPU also where no node offers it, so that nobody passes for want of nodes."""


PREPARED = 16
"""Kinds of pods; a cluster asks about few at a time."""


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
    sharing: frozenset[str]
    """Nodes whose cards may be shared: kube-scheduler counts something else than cards there."""
    card_memory_mib: int
    """Of the card by which parts of one are measured; 0: none may be shared."""
    targets: Targets
    lacking: dict[str, str]
    """Role or job of Tidal's -> why a pod of it without slots gets nothing."""
    stopping: frozenset[str]
    preference: Preference
    """Of nodes that take pods."""
    owners: frozenset[str]
    """Who has reservations."""
    begun: frozenset[str]
    """Uids of bound pods of these owners."""
    slots: tuple[Slot, ...]
    """As of `now_seconds`, without newer binds."""
    held: dict[str, list[Slot]]
    """Node -> those slots."""
    kept: dict[str, int]
    """Node -> GPUs of those slots."""
    floors: dict[str, Floor]
    """By role, as is `beside`."""
    beside: dict[str, Beside]
    slots_until_seconds: float
    """When the first of them expires."""


def index_of(standing: Standing) -> Index:
    """Return the standing with its look-up tables."""
    victims: dict[str, dict[str, int]] = {}
    for victim in standing.victims:
        victims.setdefault(victim.node, {})[victim.uid] = victim.gpus
    free: dict[str, dict[str, int]] = {}
    for place in standing.nodes:
        if place.schedulable:
            free.setdefault(place.resource, {})[place.name] = place.free
    owners = frozenset(one.owner for one in standing.reservations)
    slots = tuple(open_slots(standing.reservations, standing.bound, standing.now_seconds))
    held = by_node(slots)
    places = {place.name: place for place in standing.nodes}
    return Index(
        standing=standing,
        free=free,
        places=places,
        sharing=frozenset(place.name for place in standing.nodes if place.sharing),
        card_memory_mib=largest_memory_mib(place.deck.whole for place in standing.nodes),
        seen=frozenset(standing.seen),
        victims=victims,
        resources=frozenset({DEFAULT_RESOURCE, *(place.resource for place in standing.nodes)}),
        targets=Targets(standing.targets),
        lacking={key: reasons.not_reserved(key) for key, _ in standing.targets}
        | {job: reasons.not_lent(job) for job in standing.jobs},
        stopping=frozenset(standing.stopping),
        preference=Preference(
            lambda: (place.room for place in standing.nodes if place.schedulable),
            standing.to_come,
            standing.prices,
        ),
        owners=owners,
        begun=frozenset(bind.uid for bind in standing.bound if bind.owner in owners),
        slots=slots,
        held=held,
        kept=gpus_of(held, places),
        floors={one.owner: one for one in standing.floors},
        beside={one.owner: one for one in standing.beside},
        slots_until_seconds=min((slot.expires_seconds for slot in slots), default=math.inf),
    )


def prepare(index: Index, former: Index | None) -> None:
    """Rank nodes for the kinds of pods that the former standing was asked about last."""
    if former is not None:
        held = {name: (kept(gpus),) for name, gpus in index.kept.items()}
        index.preference.prepare(former.preference.asked[-PREPARED:], held)


def mode_at(standing: Standing, now_seconds: float) -> Mode:
    """Return how far the plan is believed at this time."""
    age = now_seconds - standing.planned_at_seconds
    if age <= standing.plan_stale_seconds:
        return "plan"
    return "heuristic" if age <= standing.heuristic_stale_seconds else "open"
