"""CPU and memory that pods without GPU hold, summed node by node as they come and go.

Between `watching` and `assembly`. Such pods are many and nobody asks for one of them, so only what
each holds is remembered, and an event costs the same however many there are.
"""

import threading
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from sys import intern
from typing import NamedTuple

from scheduler.apiserver.objects import Pod
from scheduler.apiserver.requests import cpu_and_memory
from scheduler.apiserver.unkept import Key


class Amount(NamedTuple):
    """What one pod holds, or all on a node."""

    cpu_milli: int
    memory_mib: int


NOTHING = Amount(0, 0)
_Hold = tuple[str, Amount]


class Cardless:
    """`Unkept` of pods: what those hold that ask for no GPU."""

    def __init__(self) -> None:
        """Start empty."""
        self._lock = threading.Lock()
        self._holds: dict[Key, _Hold] = {}
        self._sums: dict[str, Amount] = {}
        self._told: Mapping[str, Amount] | None = None

    def by_node(self) -> Mapping[str, Amount]:
        """Return node -> what is held there; the same mapping until that changes."""
        with self._lock:
            if self._told is None:
                self._told = dict(self._sums)
            return self._told

    def put(self, key: Key, item: Pod) -> None:
        """Take a pod's present state; one without a node, or at its end, holds nothing."""
        namespace, name = key
        self._replace((intern(namespace), name), _hold(item))

    def drop(self, key: Key) -> None:
        """Forget a pod that is gone."""
        self._replace(key, None)

    def only(self, keys: AbstractSet[Key]) -> None:
        """Forget all other pods."""
        for key in self._holds.keys() - keys:
            self._replace(key, None)

    def _replace(self, key: Key, new: _Hold | None) -> None:
        old = self._holds.get(key)
        if old == new:
            return
        with self._lock:
            if old is not None:
                self._add(old, -1)
                del self._holds[key]
            if new is not None:
                self._add(new, 1)
                self._holds[key] = new
            self._told = None

    def _add(self, hold: _Hold, sign: int) -> None:
        node, amount = hold
        before = self._sums.get(node, NOTHING)
        after = Amount(*(old + sign * one for old, one in zip(before, amount, strict=True)))
        if after == NOTHING:
            self._sums.pop(node, None)
        else:
            self._sums[node] = after


def _hold(pod: Pod) -> _Hold | None:
    if not pod.spec.node_name or pod.status.phase in ("Succeeded", "Failed"):
        return None
    try:
        amount = Amount(*cpu_and_memory(pod.spec))
    except ValueError:  # the API server lets nothing through that its own parser cannot read
        return None
    return None if amount == NOTHING else (intern(pod.spec.node_name), amount)
