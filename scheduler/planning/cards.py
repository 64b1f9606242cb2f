"""The cards of a node that pods share, in the packer's words.

For `supply`, `standing` and `placing`, which must agree on what is left of which card. A card is
shared once any pod holds a part of it; the others are whole GPUs, free or held. On a node where
no convention of sharing holds, no part of a card is to be had.
"""

from collections.abc import Iterable, Mapping

from binpacking.inventory import WHOLE_GPU_MILLI, Device, Node
from binpacking.layout import PLENTY
from binpacking.shares import NO_SHARE, Deck, Share

Gone = Mapping[int, Share]
"""Device -> what its pods on their way out hold of it."""
NOTHING: Gone = {}


def whole_card(node: Node) -> Share:
    """Return what sharers may have of a free card of the node; nothing where it shares none."""
    if node.sharing != "parts":
        return NO_SHARE
    memory = min((one.memory_mib for one in node.devices if one.healthy), default=0)
    return Share(WHOLE_GPU_MILLI, memory or PLENTY)


def largest_memory_mib(cards: Iterable[Share]) -> int:
    """Return the most memory of these cards, by which parts of one are measured; 0: not known."""
    known = (card.memory_mib for card in cards if card.memory_mib < PLENTY)
    return max(known, default=0)


def shared_devices(node: Node) -> tuple[Device, ...]:
    """Return the devices that pods share, in order of index."""
    if node.sharing != "parts":
        return ()
    return tuple(one for one in node.devices if one.healthy and _is_shared(one))


def _is_shared(device: Device) -> bool:
    most = max((one.milli_gpu for one in device.holders), default=WHOLE_GPU_MILLI)
    return most < WHOLE_GPU_MILLI


def left_of(device: Device, gone: Share = NO_SHARE) -> Share:
    """Return what is left of a shared device once `gone` is given back."""
    milli = WHOLE_GPU_MILLI - sum(one.milli_gpu for one in device.holders)
    memory = device.memory_mib - sum(one.memory_mib for one in device.holders)
    known = max(0, memory + gone.memory_mib) if device.memory_mib else PLENTY
    return Share(max(0, milli + gone.milli), known)


def seats(node: Node, gone: Gone = NOTHING) -> tuple[dict[int, Share], int]:
    """Return shared device -> what is left of it, and how many are whole again.

    Of a node that takes no pods nothing is left.
    """
    if not node.schedulable:
        return {}, 0
    every = {one.index: left_of(one, gone.get(one.index, NO_SHARE)) for one in shared_devices(node)}
    cards = {index: left for index, left in every.items() if left.milli < WHOLE_GPU_MILLI}
    return cards, len(every) - len(cards)


NO_DECK = Deck(NO_SHARE)
"""Of a node that shares no cards."""


def deck_of(node: Node, shares: Iterable[Share] = (), gone: Gone = NOTHING) -> Deck:
    """Return the shared cards of a node with these shares kept on them."""
    if node.sharing != "parts":
        return NO_DECK
    return Deck(whole_card(node), tuple(seats(node, gone)[0].values()), tuple(sorted(shares)))
