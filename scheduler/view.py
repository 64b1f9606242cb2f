"""The newest standing behind one reference, and the binds that are newer than it.

The only state between the daemon's ticks and kube-scheduler's questions. Writers replace one
tuple under a lock; readers take the reference, so an answer never waits for a writer. The
server and the simulator use the same view.
"""

import threading
from collections.abc import Mapping, Sequence

from scheduler.planning.standing import BIND_MEMORY_SECONDS, Bind, PodAsk, Standing
from scheduler.planning.verdicts import (
    FilterVerdict,
    Index,
    filter_nodes,
    index_of,
    preempt,
    prioritise,
)


class NoStandingError(LookupError):
    """Nothing has been published yet, so nothing can be answered."""

    def __init__(self) -> None:
        super().__init__("Tidal has started and has not read the cluster yet; ask again shortly")


class View:
    """Answers from the newest standing; `now_seconds` is on the standing's time line."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: tuple[Index | None, tuple[Bind, ...]] = (None, ())

    @property
    def standing(self) -> Standing | None:
        """The newest standing, or None before the first."""
        index, _ = self._state
        return index.standing if index else None

    def publish(self, standing: Standing) -> None:
        """Replace the standing, and forget the binds that its plan has taken into account."""
        index = index_of(standing)
        with self._lock:
            _, binds = self._state
            kept = tuple(bind for bind in binds if _still_news(bind, index))
            self._state = (index, kept)

    def filter(self, ask: PodAsk, names: Sequence[str], now_seconds: float) -> FilterVerdict:
        """Say which of `names` the pod may take. Raises `NoStandingError` before the first."""
        index, binds = self._known()
        return filter_nodes(index, binds, ask, names, now_seconds)

    def prioritise(
        self, ask: PodAsk, names: Sequence[str], now_seconds: float
    ) -> tuple[tuple[str, int], ...]:
        """Score `names` 0 to 10, in the order given. Raises `NoStandingError` before the first."""
        index, binds = self._known()
        return prioritise(index, binds, ask, names, now_seconds)

    def preempt(
        self, ask: PodAsk, candidates: Mapping[str, Sequence[str]], now_seconds: float
    ) -> dict[str, tuple[str, ...]]:
        """Return node -> uids to evict. Raises `NoStandingError` before the first."""
        index, binds = self._known()
        return preempt(index, binds, ask, candidates, now_seconds)

    def bound(self, ask: PodAsk, node: str, now_seconds: float) -> None:
        """Remember a bind until a standing's plan has seen it, or until it is too old."""
        with self._lock:
            index, binds = self._state
            self._state = (index, _with(binds, ask, node, now_seconds))

    def claim(self, ask: PodAsk, node: str, now_seconds: float) -> str:
        """Remember a bind about to be made, or return why the node may not be taken any more.

        Two pods may pass filter before either is bound; only one of them passes here.
        """
        with self._lock:
            index, binds = self._state
            if index is None:
                raise NoStandingError
            refused = filter_nodes(index, binds, ask, (node,), now_seconds).refused
            if node not in refused:
                self._state = (index, _with(binds, ask, node, now_seconds))
            return refused.get(node, "")

    def release(self, uid: str) -> None:
        """Forget a bind that was not made."""
        with self._lock:
            index, binds = self._state
            self._state = (index, tuple(bind for bind in binds if bind.uid != uid))

    def _known(self) -> tuple[Index, tuple[Bind, ...]]:
        index, binds = self._state
        if index is None:
            raise NoStandingError
        return index, binds


def _still_news(bind: Bind, index: Index) -> bool:
    """Whether the bind is young, and unseen by the snapshot or by the plan."""
    standing = index.standing
    young = standing.now_seconds - bind.at_seconds < BIND_MEMORY_SECONDS
    planned = standing.planned_at_seconds >= bind.at_seconds
    return young and not (bind.uid in index.seen and planned)


def _with(binds: tuple[Bind, ...], ask: PodAsk, node: str, now_seconds: float) -> tuple[Bind, ...]:
    entry = Bind(ask.uid, ask.owner, ask.group, node, ask.gpus, now_seconds)
    return (*(bind for bind in binds if bind.uid != ask.uid), entry)
