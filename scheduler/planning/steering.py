"""One node for a pod where two pods must not choose the same: filter, with what was just offered.

kube-scheduler asks for one pod after the other, and binds later; an extender that does not bind
hears of a bind only when the next observation shows it. Between the two, pods that were told the
same node would sit down on GPUs kept for others, or beside their gang. So each pod that may take
a slot, or free GPUs beside slots, is told one node, and that offer counts as a bind for the pods
asked about after it, until an observation shows what became of it.

An offer binds nobody. Calls may be hypothetical (pod groups, candidates of preemption), so an
offer moves the next pod to a better node, but it refuses one only where both would take GPUs that
are kept for a third: elsewhere kube-scheduler's own accounting refuses the second.
"""

from collections.abc import Iterable, Sequence

import msgspec

from scheduler.planning import reasons
from scheduler.planning.standing import Bind, PodAsk
from scheduler.planning.verdicts import (
    FilterVerdict,
    Index,
    filter_nodes,
    guarded,
    mode_at,
    prioritise,
    steals,
)

OFFER_SECONDS = 15.0
"""How long an offer of which no observation shows a bind is remembered."""


def steer(
    index: Index,
    binds: Sequence[Bind],
    offers: Sequence[Bind],
    ask: PodAsk,
    names: Sequence[str],
    now_seconds: float,
) -> FilterVerdict:
    """Return filter's verdict, narrowed; a single node that passed is to be remembered.

    The same ask with the same offers is answered the same, its own offer among them included.
    """
    plain = filter_nodes(index, binds, ask, names, now_seconds)
    if ask.gpus == 0 or not plain.passed or mode_at(index.standing, now_seconds) == "open":
        return plain
    known = {bind.uid for bind in binds}
    others = [one for one in offers if one.uid != ask.uid and one.uid not in known]
    careful = filter_nodes(index, (*binds, *others), ask, names, now_seconds) if others else plain
    own = next((one.node for one in offers if one.uid == ask.uid), "")
    choice = _Choice(index, tuple(binds), tuple(others), ask, own, now_seconds)
    if plain.planned:
        return choice.slot(plain, careful)
    before = set(plain.passed)
    free = _only(careful, [name for name in careful.passed if name in before])
    return choice.beside(free if free.passed else choice.harmless(plain))


class _Choice(msgspec.Struct, frozen=True):
    """One ask among binds and offers."""

    index: Index
    binds: tuple[Bind, ...]
    others: tuple[Bind, ...]
    """Offers to other pods."""
    ask: PodAsk
    own: str
    """Node that this pod was told before."""
    now_seconds: float

    @property
    def taken(self) -> tuple[Bind, ...]:
        """What is taken if every offer is a bind."""
        return (*self.binds, *self.others)

    def slot(self, plain: FilterVerdict, careful: FilterVerdict) -> FilterVerdict:
        """Choose among the pod's slots, those not offered to another first."""
        if careful.planned and careful.passed:
            return self._one(careful)
        left = self.harmless(plain)
        return self._one(left) if left.passed else self.beside(self.harmless(careful))

    def beside(self, verdict: FilterVerdict) -> FilterVerdict:
        """Beside slots of others one pod at a time; elsewhere kube-scheduler may choose."""
        beside = guarded(self.index, self.binds, self.ask, self.now_seconds)
        close = beside.intersection(verdict.passed)
        if not close:
            return verdict
        best = self._best(verdict.passed)
        if best in close:
            return self._one(verdict)
        return _only(verdict, [name for name in verdict.passed if name not in close])

    def harmless(self, verdict: FilterVerdict) -> FilterVerdict:
        """Keep nodes where nobody's GPUs are taken, whichever of the offers are binds."""
        stolen = steals(
            self.index, self.binds, self.others, self.ask, verdict.passed, self.now_seconds
        )
        return _only(verdict, [name for name in verdict.passed if name not in stolen])

    def _one(self, verdict: FilterVerdict) -> FilterVerdict:
        return _only(verdict, [self._best(verdict.passed)])

    def _best(self, names: tuple[str, ...]) -> str:
        if self.own in names:
            return self.own
        scores = prioritise(self.index, self.taken, self.ask, names, self.now_seconds)
        return min(scores, key=lambda each: (-each[1], each[0]))[0]


def _only(verdict: FilterVerdict, names: Iterable[str]) -> FilterVerdict:
    kept = dict.fromkeys(names)
    if len(kept) == len(verdict.passed):
        return verdict
    dropped = dict.fromkeys((n for n in verdict.passed if n not in kept), reasons.APART)
    return FilterVerdict(tuple(kept), verdict.refused | dropped, planned=verdict.planned)
