"""Parts of cards that pods hold, that are reserved, and that come free: for `supply`.

Whole GPUs are counted by node; a part lies on one card, so that here a node's shared cards are a
deck on which reserved parts are seated. On which card a coming pod will be put is for whoever
shares the cards to say: the deck has the tightest seating, and the next observation the truth.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from binpacking.inventory import Node
from binpacking.layout import PLENTY
from binpacking.shares import NO_SHARE, Deck, Held, Share
from scheduler.planning.cards import NO_DECK, NOTHING, Gone, deck_of, seats
from scheduler.planning.snapshot import Parts, Pod, Reservation, Snapshot

Leaving = Mapping[str, Gone]
"""Node -> what comes free of its shared cards."""
NONE_LEAVES: Leaving = {}


def leaving_shares(leaving: Iterable[tuple[str, Iterable[Pod]]]) -> Leaving:
    """Return what these pods hold of shared cards."""
    gone: dict[str, dict[int, Share]] = {}
    for _, pods in leaving:
        for pod in pods:
            for device in pod.devices if pod.node and pod.share != NO_SHARE else ():
                mine = gone.setdefault(pod.node, {})
                mine[device] = mine.get(device, NO_SHARE).plus(pod.share)
    return gone


def reserved_shares(reserved: Iterable[Reservation]) -> dict[str, list[Share]]:
    """Return node -> parts of cards that are reserved there."""
    kept: dict[str, list[Share]] = {}
    for one in reserved:
        for node, _ in one.parts if one.share != NO_SHARE else ():
            kept.setdefault(node, []).append(one.share)
    return kept


class Cards(NamedTuple):
    """The shared cards of all nodes, with what is reserved on them."""

    again: Mapping[str, int]
    """Cards that are whole once their pods have left."""
    decks: Mapping[str, Deck]
    """Of nodes whose cards may be shared."""

    def whole(self, node: Node) -> int:
        """Return how many whole GPUs the node has beyond those without a holder; or fewer."""
        deck = self.decks.get(node.name)
        return self.again[node.name] - (deck.taken or 0) if deck else 0

    def of(self, node: Node) -> tuple[tuple[Share, ...], int | None]:
        """Return what is left of shared cards, and the memory of a whole one.

        The memory matters where any node shares cards; 0 keeps parts off the others.
        """
        if not self.decks:
            return (), None
        deck = self.decks.get(node.name)
        if deck is None:
            return (), 0
        memory = deck.whole.memory_mib
        known = None if memory >= PLENTY else memory
        return (deck.left if deck.deal else (NO_SHARE,) * len(deck.cards)), known


def cards_of(
    snapshot: Snapshot, reserved: Iterable[Reservation], leaving: Leaving = NONE_LEAVES
) -> Cards:
    """Return the shared cards; what leaves counts as gone."""
    kept = reserved_shares(reserved)
    sharing = [node for node in snapshot.nodes if node.sharing == "parts"]
    gone = {node.name: leaving.get(node.name, NOTHING) for node in sharing}
    return Cards(
        {node.name: seats(node, gone[node.name])[1] for node in sharing},
        {n.name: deck_of(n, kept.get(n.name, ()), gone[n.name]) for n in sharing},
    )


def held_by(snapshot: Snapshot, leaving: Leaving) -> Callable[[Iterable[Pod]], tuple[Held, ...]]:
    """Return what tells the parts of cards that pods hold, each card by its place in its deck."""
    places = {
        node.name: {device: place for place, device in enumerate(seats(node, mine)[0])}
        for node in snapshot.nodes
        if node.sharing == "parts"
        for mine in (leaving.get(node.name, NOTHING),)
    }

    def held(pods: Iterable[Pod]) -> tuple[Held, ...]:
        return tuple(
            Held(pod.node, places[pod.node][device], pod.share)
            for pod in pods
            if pod.node in places and pod.share != NO_SHARE
            for device in pod.devices
            if device in places[pod.node]
        )

    return held


class Backing:
    """What reservations may still stand on, node by node."""

    def __init__(self, snapshot: Snapshot, coming: Counter[str], leaving: Leaving) -> None:
        """`coming` are whole GPUs that come free."""
        cards = cards_of(snapshot, (), leaving)
        nodes = [node for node in snapshot.nodes if node.schedulable]
        self.gpus = {n.name: n.free_gpus + coming[n.name] + cards.whole(n) for n in nodes}
        self._decks = {n.name: cards.decks.get(n.name, NO_DECK) for n in nodes}

    def take(self, parts: Parts, share: Share) -> bool:
        """Take all parts, or none and return False. Raises KeyError for a node not in `gpus`."""
        asked: Counter[str] = Counter()
        decks = {node: self._decks[node] for node, _ in parts}
        for node, gpus in parts:
            asked[node] += gpus
            if share != NO_SHARE:
                decks[node] = decks[node].with_share(share)
        if any(deck.taken is None for deck in decks.values()):
            return False
        for node, deck in decks.items():
            asked[node] += (deck.taken or 0) - (self._decks[node].taken or 0)
        if any(self.gpus[node] < gpus for node, gpus in asked.items()):
            return False
        for node, gpus in asked.items():
            self.gpus[node] -= gpus
        self._decks |= decks
        return True
