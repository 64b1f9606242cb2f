"""The newest standing behind one reference, and the binds and offers that are newer than it.

The only state between the daemon's ticks and kube-scheduler's questions. Writers replace one
tuple under a lock; readers take the reference, so an answer never waits for a writer. The
server and the simulator use the same view.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scheduler.planning.index import Index, index_of
from scheduler.planning.standing import BIND_MEMORY_SECONDS, Bind, PodAsk, Standing
from scheduler.planning.steering import OFFER_SECONDS, steer
from scheduler.planning.verdicts import FilterVerdict, filter_nodes, preempt, prioritise


class NoStandingError(LookupError):
    """Nothing has been published yet, so nothing can be answered."""

    def __init__(self) -> None:
        super().__init__("Tidal has started and has not read the cluster yet; ask again shortly")


class _State(NamedTuple):
    latest: Index | None = None
    binds: tuple[Bind, ...] = ()
    offers: tuple[Bind, ...] = ()


class View:
    """Answers from the newest standing; `now_seconds` is on the standing's time line."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state = _State()

    @property
    def standing(self) -> Standing | None:
        """The newest standing, or None before the first."""
        index = self._state.latest
        return index.standing if index else None

    @property
    def index(self) -> Index:
        """The newest standing's look-up tables. Raises `NoStandingError` before the first."""
        return self._known().latest

    def publish(self, standing: Standing) -> None:
        """Replace the standing, and forget the binds that its plan has taken into account."""
        index = index_of(standing)
        with self._lock:
            _, binds, offers = self._state
            self._state = _State(
                index,
                tuple(one for one in binds if _still_news(one, index, BIND_MEMORY_SECONDS)),
                tuple(one for one in offers if _still_news(one, index, OFFER_SECONDS)),
            )

    def filter(self, ask: PodAsk, names: Sequence[str], now_seconds: float) -> FilterVerdict:
        """Say which of `names` the pod may take. Raises `NoStandingError` before the first."""
        known = self._known()
        return filter_nodes(known.latest, known.binds, ask, names, now_seconds)

    def steer(self, ask: PodAsk, names: Sequence[str], now_seconds: float) -> FilterVerdict:
        """Filter for a scheduler that binds by itself; remembers which one node it was told.

        Raises `NoStandingError` before the first standing.
        """
        known = self._known()
        offers = tuple(
            one
            for one in known.offers
            if now_seconds - one.at_seconds < OFFER_SECONDS or one.uid in known.latest.seen
        )
        verdict = steer(known.latest, known.binds, offers, ask, names, now_seconds)
        if ask.asks and verdict.passed:
            node = verdict.passed[0] if len(verdict.passed) == 1 else ""
            self._offer(offers, ask, node, now_seconds)
        return verdict

    def prioritise(
        self, ask: PodAsk, names: Sequence[str], now_seconds: float
    ) -> tuple[tuple[str, int], ...]:
        """Score `names` 0 to 10, in the order given. Raises `NoStandingError` before the first."""
        known = self._known()
        return prioritise(known.latest, known.binds, ask, names, now_seconds)

    def preempt(
        self, ask: PodAsk, candidates: Mapping[str, Sequence[str]], now_seconds: float
    ) -> dict[str, tuple[str, ...]]:
        """Return node -> uids to evict. Raises `NoStandingError` before the first."""
        known = self._known()
        return preempt(known.latest, known.binds, ask, candidates, now_seconds)

    def bound(self, ask: PodAsk, node: str, now_seconds: float) -> None:
        """Remember a bind until a standing's plan has seen it, or until it is too old."""
        with self._lock:
            binds = _with(self._state.binds, ask, node, now_seconds)
            self._state = self._state._replace(binds=binds)

    def claim(self, ask: PodAsk, node: str, now_seconds: float) -> str:
        """Remember a bind about to be made, or return why the node may not be taken any more.

        Two pods may pass filter before either is bound; only one of them passes here. Where no
        other was bound since the standing, kube-scheduler is trusted, as when filter was asked.
        """
        with self._lock:
            index, binds, _ = self._known()
            trusted = all(bind.node != node for bind in _without(binds, ask.uid))
            verdict = filter_nodes(index, binds, ask, (node,), now_seconds, trusted=trusted)
            refused = verdict.refused
            if node not in refused:
                self._state = self._state._replace(binds=_with(binds, ask, node, now_seconds))
            return refused.get(node, "")

    def release(self, uid: str) -> None:
        """Forget a bind that was not made."""
        with self._lock:
            self._state = self._state._replace(binds=_without(self._state.binds, uid))

    def _offer(self, offers: tuple[Bind, ...], ask: PodAsk, node: str, now_seconds: float) -> None:
        """Remember the node in place of what the pod was told before; "" remembers none."""
        with self._lock:
            kept = _without(offers, ask.uid)
            if node:
                kept = _with(kept, ask, node, now_seconds)
            self._state = self._state._replace(offers=kept)

    def _known(self) -> "_Known":
        index, binds, offers = self._state
        if index is None:
            raise NoStandingError
        return _Known(index, binds, offers)


class _Known(NamedTuple):
    latest: Index
    binds: tuple[Bind, ...]
    offers: tuple[Bind, ...]


def _still_news(bind: Bind, index: Index, memory_seconds: float) -> bool:
    """Whether snapshot or plan have not seen it, and it may still be true.

    Of a pod without GPU an observation tells what it takes, not that it was seen: the next one is
    taken to show it.
    """
    standing = index.standing
    if not bind.shape.cards:
        return standing.now_seconds <= bind.at_seconds
    seen = bind.uid in index.seen
    age = standing.now_seconds - bind.at_seconds
    young = age < (BIND_MEMORY_SECONDS if seen else memory_seconds)
    return young and not (seen and standing.planned_at_seconds >= bind.at_seconds)


def _with(binds: tuple[Bind, ...], ask: PodAsk, node: str, now_seconds: float) -> tuple[Bind, ...]:
    entry = Bind(
        ask.uid,
        ask.owner,
        ask.group,
        node,
        ask.gpus,
        now_seconds,
        ask.share,
        ask.cpu_milli,
        ask.memory_mib,
    )
    return (*_without(binds, ask.uid), entry)


def _without(binds: tuple[Bind, ...], uid: str) -> tuple[Bind, ...]:
    return tuple(bind for bind in binds if bind.uid != uid)
