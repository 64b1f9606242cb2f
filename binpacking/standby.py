"""Standby units: engines that sleep on given GPUs of a node, and what waking one saves.

A unit wakes as a pod of the request that it belongs to, on its own GPUs and no others, once nobody
holds any of them: each gang that holds one must be stopped, and of two units that share a GPU only
one wakes. Seconds of lateness have a price in the unit of lost work, so that one tier weighs both:
a unit under a victim is a credit to the stop.
"""

import msgspec


class Standby(msgspec.Struct, frozen=True, kw_only=True):
    """An engine asleep."""

    key: str
    request: str
    """Key of the online request of which it can be a pod."""
    role: str = ""
    """Which of the request's members it can be, where that is a fixed group."""
    node: str
    devices: tuple[int, ...]
    """Its GPUs, by index on the node: as many as the pod has."""
    under: tuple[str, ...] = ()
    """Keys of the gangs that hold some of them; the others are free."""
    saved_seconds: int
    """How much earlier a pod serves that wakes it than one that starts cold."""
