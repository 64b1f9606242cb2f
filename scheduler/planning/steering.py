"""One node for each pod: filter for a scheduler that binds by itself, with what was just offered.

kube-scheduler asks for one pod after the other, and binds later; an extender that does not bind
hears of a bind only when the next observation shows it. Between the two, pods that were told the
same node would sit down on GPUs kept for others, or beside their gang. So each pod is told one
node, and that offer counts as a bind for the pods asked about after it, until an observation
shows what became of it.

The node is the one that `prioritise` would rank first; so kube-scheduler need not score, and an
answer is short. No reason is given for the other nodes where one passes: nobody would read it.
kube-scheduler gets the choice among several where the pod states preferences of its own, where
an earlier node did not do, and on the node that it has emptied; not among nodes where GPUs are
kept for others, nor for a role that must spread, because its choice would not be known here.

An offer binds nobody. Calls may be hypothetical (pod groups, candidates of preemption), so an
offer moves the next pod to a better node, but it refuses one only where both would take GPUs that
are kept for a third, or stand closer together than their role may: elsewhere kube-scheduler's own
accounting refuses the second. Where pods share cards it counts something else than cards, so there
an offer counts as a bind.
"""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from scheduler.planning import reasons
from scheduler.planning.bench import Bench, bench_of
from scheduler.planning.index import Index, mode_at
from scheduler.planning.preference import Rank
from scheduler.planning.slots import possible_takings
from scheduler.planning.standing import Bind, PodAsk
from scheduler.planning.verdicts import FilterVerdict, ranks_of, refusal, refusals

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
    if not ask.asks or mode_at(index.standing, now_seconds) == "open":
        return FilterVerdict(tuple(names))
    known = {bind.uid for bind in binds} | {ask.uid}
    newer = [one for one in offers if one.uid not in known]
    binds = (*binds, *(one for one in newer if one.node in index.sharing))
    others = tuple(
        one for one in newer if one.node not in index.sharing and _matters(index, ask, one)
    )
    own = next((one.node for one in offers if one.uid == ask.uid), "")
    plain = bench_of(index, binds, ask, now_seconds, names, trusted=True)
    careful = plain
    if others:
        careful = bench_of(index, (*binds, *others), ask, now_seconds, names, trusted=True)
    return _Choice(plain, careful, others, own, tuple(names)).verdict()


def _matters(index: Index, ask: PodAsk, offer: Bind) -> bool:
    """Whether the offer, were it a bind, could change the answer: elsewhere nothing is kept."""
    sibling = bool(ask.group) and offer.group == ask.group
    sibling = sibling or (offer.owner == ask.owner and ask.owner in index.floors)
    return sibling or offer.node in index.kept or offer.owner in index.owners


class _Choice(msgspec.Struct, frozen=True):
    """One ask among binds and offers."""

    plain: Bench
    """As if no offer were a bind."""
    careful: Bench
    """As if every offer were one."""
    others: tuple[Bind, ...]
    """Offers to other pods."""
    own: str
    """Node that this pod was told before."""
    names: tuple[str, ...]

    def verdict(self) -> FilterVerdict:
        """Choose."""
        ask = self.plain.ask
        if self.plain.mine:
            passed = self._slot()
        elif (ask.choosy and self.careful.bounds is None) or ask.nominated:
            passed = self._several()
        else:
            passed = self._quick() or self._one(self._free())
        if passed:
            return FilterVerdict(passed)
        refused = refusals(self.plain, self.names)
        left = {name: reasons.APART for name in self.names if name not in refused}
        return FilterVerdict((), refused | left)

    def _slot(self) -> tuple[str, ...]:
        """Choose among the pod's slots, those not offered to another first."""
        careful = _passing(self.careful, self.names)
        if self.careful.mine and careful:
            return self._one(careful)
        harmless = self._harmless(_passing(self.plain, self.names))
        return self._one(harmless or self._harmless(careful))

    def _several(self) -> tuple[str, ...]:
        """Let kube-scheduler choose, away from slots of others; else one node beside them."""
        free = self._free()
        away = tuple(name for name in free if name not in self.plain.held)
        return away or self._one(free)

    def _quick(self) -> tuple[str, ...]:
        """Return what `_free` would rank first, without a look at every name; () where unsure."""
        careful, ask = self.careful, self.plain.ask
        stops = careful.mode == "plan" and ask.owner in careful.index.stopping
        grouped = self.plain.leaf is not None or careful.leaf is not None
        grouped = grouped or careful.bounds is not None
        if stops or grouped or careful.mine or ask.resource not in careful.index.free:
            return ()
        offered = set(self.names)
        if self.own in offered and self._sound(self.own):
            return (self.own,)
        special = {*careful.taken, *careful.held, *self.plain.held}
        away = self._first(offered, special)
        ranked = ranks_of(careful, tuple(special & offered))
        beside = sorted((rank, name) for name, rank in ranked.items() if rank is not None)
        for one in beside:
            if away is not None and away < one:
                break
            if self._sound(one[1]):
                return (one[1],)
        return () if away is None else (away[1],)

    def _first(
        self, offered: AbstractSet[str], special: AbstractSet[str]
    ) -> tuple[Rank, str] | None:
        """Return rank and name of the best offered node that is not special."""
        ask, index = self.careful.ask, self.careful.index
        ranked = index.preference.ranked(ask.shape)
        for name in ranked.order:
            if name in offered and name not in special:
                room = index.places[name].resource == ask.resource
                if room and (ask.gpus or not refusal(self.careful, name)):
                    return ranked.ranks[name], name
        return None

    def _sound(self, name: str) -> bool:
        """Whether the pod may take the node, however many of the offers are binds."""
        benches = (self.plain, self.careful)
        return not (any(refusal(bench, name) for bench in benches) or self._steals(name))

    def _free(self) -> tuple[str, ...]:
        """Return the nodes where nobody's GPUs are taken; if possible not by any offer either."""
        plain = self._harmless(self._uncrowded(_passing(self.plain, self.names)))
        careful = set(_passing(self.careful, plain))
        return tuple(name for name in plain if name in careful) or plain

    def _harmless(self, names: Iterable[str]) -> tuple[str, ...]:
        """Keep nodes where nobody's GPUs are taken, whichever of the offers are binds."""
        return tuple(name for name in names if not self._steals(name))

    def _uncrowded(self, names: Iterable[str]) -> tuple[str, ...]:
        """Keep nodes where the pod's role may take one more, were all offers binds."""
        bounds, places = self.careful.bounds, self.careful.index.places
        if bounds is None:
            return tuple(names)
        return tuple(n for n in names if n not in places or not bounds.bars(places[n]))

    def _steals(self, name: str) -> bool:
        """Whether enough offers may be binds that only kept GPUs are left, and not too many."""
        bench = self.plain
        place = bench.index.places.get(name)
        if not self.others or place is None or name not in bench.held:
            return False
        room = place.free + place.releasing - bench.taken.get(name, 0) - bench.needs(place)
        spare = room - bench.kept[name]
        return any(
            0 < taken <= room and taken - filled > spare
            for taken, filled in possible_takings(self.others, bench.held[name], name)
        )

    def _one(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the best of the names, the one told before where it is among them."""
        if not names or self.own in names:
            return (self.own,) if names else ()
        ranks = ranks_of(self.careful, names)
        return (min(names, key=lambda name: _order(ranks[name], name)),)


def _order(rank: Rank | None, name: str) -> tuple[bool, Rank, str]:
    """Order nodes as `prioritise` does, the best first."""
    return rank is None, rank or (0, 0), name


def _passing(bench: Bench, names: Sequence[str]) -> tuple[str, ...]:
    """Return those of the names that the pod may take."""
    if bench.mine:
        names = [name for name in names if name in bench.mine]
    refused = refusals(bench, names)
    return tuple(name for name in names if name not in refused)
