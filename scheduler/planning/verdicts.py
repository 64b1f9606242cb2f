"""Answers to kube-scheduler: which nodes a pod may take, which is best, whom it may push out.

Pure and idempotent: the same standing, binds, ask and time give the same answer, and asking
changes nothing. The names offered are nodes where kube-scheduler's own accounting has found
room (filter, prioritise) or would find it without the offered victims (preempt). `steering`
narrows what passes here to one node; a bench that trusts kube-scheduler (`Bench.trusted`) lets a
pod onto a node that looks full in an older observation, where nobody's GPUs are kept.

How far the plan is believed depends on its age:
  plan       up to `plan_stale_seconds`: a pod with open slots gets its slots' nodes and no
             other, and only once all parts of a reservation can be had; any other pod gets GPUs
             that are free and that nobody else's slots claim, also a pod of a job or role whose
             plan has no place for it (a retry, a hand-made start), but not one of a job that
             the plan stops. A node missing from the standing is refused: the next observation,
             seconds away, will know it.
  heuristic  up to `heuristic_stale_seconds`: slots bind nobody to a node, but still keep others
             out until they expire. An unknown node passes, nothing is reserved there.
  open       after that: every name passes, as without Tidal.
"""

from collections.abc import Mapping, Sequence

import msgspec

from scheduler.planning import reasons
from scheduler.planning.bench import Bench, bench_of
from scheduler.planning.index import Index, mode_at
from scheduler.planning.preference import Rank
from scheduler.planning.standing import Bind, Place, PodAsk

BEST_SCORE = 10


class FilterVerdict(msgspec.Struct, frozen=True):
    """The names that pass, in the order given, and for each other name the reason."""

    passed: tuple[str, ...]
    refused: dict[str, str] = {}


def filter_nodes(
    index: Index,
    binds: Sequence[Bind],
    ask: PodAsk,
    names: Sequence[str],
    now_seconds: float,
    *,
    trusted: bool = False,
) -> FilterVerdict:
    """Say which of `names` the pod may take; `binds` are those newer than the standing."""
    mode = mode_at(index.standing, now_seconds)
    if mode == "open" or not ask.asks:
        return FilterVerdict(tuple(names))
    bench = bench_of(index, binds, ask, now_seconds, names, trusted=trusted)
    refused = refusals(bench, names)
    passed = tuple(name for name in names if name not in refused)
    return FilterVerdict(passed, refused)


def prioritise(
    index: Index, binds: Sequence[Bind], ask: PodAsk, names: Sequence[str], now_seconds: float
) -> tuple[tuple[str, int], ...]:
    """Score names 0 to 10, a point for each better rank; the winner is the first by name.

    Of a pod without GPU a node that has none is the best.
    """
    bench = bench_of(index, binds, ask, now_seconds)
    ranks = ranks_of(bench, names)
    known = sorted((rank, name) for name, rank in ranks.items() if rank is not None)
    scores: dict[Rank, int] = {}
    for rank, _ in known:
        scores.setdefault(rank, max(0, BEST_SCORE - 1 - len(scores)))
    best = {known[0][1]} if known else set()
    if not ask.asks:
        best = {name for name in names if name not in index.places} or best
    return tuple(
        [(name, BEST_SCORE if name in best else _score(scores, ranks[name])) for name in names]
    )


def preempt(
    index: Index,
    binds: Sequence[Bind],
    ask: PodAsk,
    candidates: Mapping[str, Sequence[str]],
    now_seconds: float,
) -> dict[str, tuple[str, ...]]:
    """Return node -> uids to evict, in the order offered, for nodes that filter then accepts.

    Only pods that Tidal has sent away already may go, so a node is kept where the offered ones
    among them suffice. A node offered without victims is dropped: the daemon evicts by its own
    plan, and an answer with no victim would be an error. Without a fresh plan nothing is
    evicted; once the answers are open, candidates pass as offered.
    """
    match mode_at(index.standing, now_seconds):
        case "open":
            return {node: tuple(uids) for node, uids in candidates.items() if uids}
        case "heuristic":
            return {}
        case "plan":
            if ask.owner in index.stopping:
                return {}
            chosen = {node: _allowed(index, node, uids) for node, uids in candidates.items()}
            bench = bench_of(index, binds, ask, now_seconds)
            kept = {}
            for node, uids in chosen.items():
                here = bench
                if node in bench.mine - bench.whole:  # of a gang: filter is asked about it alone
                    here = bench_of(index, binds, ask, now_seconds, (node,))
                if uids and not refusal(here, node, _freed(index, node, uids)):
                    kept[node] = uids
            return kept


def refusals(bench: Bench, names: Sequence[str]) -> dict[str, str]:
    """Return name -> reason; on a node of which nobody holds or took a part, free GPUs will do."""
    if bench.mode == "plan" and bench.ask.owner in bench.index.stopping:
        return dict.fromkeys(names, reasons.stopping(bench.ask.owner))
    plain: dict[str, int] = {}
    if bench.leaf is None and not bench.mine and bench.bounds is None:
        plain = bench.index.free.get(bench.ask.resource, {})
    elsewhere = _planned(bench, "") if bench.mine else ""
    special = {*bench.taken, *bench.held, bench.ask.nominated}
    refused = {}
    for name in names:
        if name not in special and plain.get(name, 0) >= bench.ask.gpus > 0:
            continue
        away = bench.mine and name not in bench.mine
        reason = elsewhere if away else refusal(bench, name)
        if reason:
            refused[name] = reason
    return refused


def refusal(bench: Bench, name: str, freed: int | None = None) -> str:
    """Return why the pod may not take the node, or nothing.

    `freed` are GPUs of victims that preempt would evict. Without it, GPUs of pods on their way
    out count as free where kube-scheduler vouches for them: on the pod's own slots, and on the
    node that was emptied for it.
    """
    place, ask = bench.index.places.get(name), bench.ask
    if bench.mine and name not in bench.whole:
        return _planned(bench, name)
    if place is None:
        return reasons.UNKNOWN if bench.mode == "plan" else ""
    if not place.schedulable:
        return reasons.CLOSED
    if place.resource != ask.resource:
        return reasons.other_resource(place.resource, ask.resource)
    if place.sliced:
        return reasons.SLICED if ask.owner in bench.index.lacking else ""
    free = place.free - bench.taken.get(name, 0)
    if bench.mine:
        coming = place.releasing if freed is None else freed
        return "" if free + coming >= bench.needs(place) else reasons.planned_here(place.leaving)
    if freed is None:
        freed = _vouched(bench, name)
    return _common_refusal(bench, place, free + freed)


def _planned(bench: Bench, name: str) -> str:
    """Return what the pod's slots wait for: the same on all nodes but its own."""
    places = bench.index.places
    awaited = [places[node] for node in sorted(bench.mine) if node in places]
    leaving = [who for place in awaited if place.free < bench.ask.gpus for who in place.leaving]
    if name in bench.mine:
        return reasons.planned_here(leaving)
    return reasons.planned_elsewhere(bench.mine, leaving)


def _common_refusal(bench: Bench, place: Place, free: int) -> str:
    needs = bench.needs(place)
    vouched = bench.trusted and not place.sharing
    if vouched and place.name not in bench.held and needs <= place.total:
        free = max(free, needs)
    if max(0, free) < needs:
        return bench.lacking or reasons.FULL
    if bench.leaf is not None and place.leaf != bench.leaf:
        return reasons.OTHER_LEAF
    if bench.bounds is not None and (barred := bench.bounds.bars(place)):
        return barred
    if needs and free - bench.kept.get(place.name, 0) < needs:
        first = min(slot.owner for slot in bench.held[place.name])
        return bench.lacking or reasons.kept_for(first)
    return ""


def _vouched(bench: Bench, name: str) -> int:
    """GPUs of allowed victims on the node that kube-scheduler has emptied for this pod."""
    if bench.mode != "plan" or bench.ask.nominated != name:
        return 0
    return sum(bench.index.victims.get(name, {}).values())


def _allowed(index: Index, node: str, offered: Sequence[str]) -> tuple[str, ...]:
    allowed = index.victims.get(node, {})
    return tuple(uid for uid in offered if uid in allowed)


def _freed(index: Index, node: str, uids: Sequence[str]) -> int:
    allowed = index.victims[node]
    return sum(allowed[uid] for uid in uids)


def ranks_of(bench: Bench, names: Sequence[str]) -> dict[str, Rank | None]:
    """Ranks by `preference`: lower is better; None where there is no known room."""
    shape, preference = bench.ask.shape, bench.index.preference
    plain = preference.ranked(shape).ranks
    touched = [name for name in names if name in bench.pods or name in bench.kept]
    taken = {name: bench.occupied(name) for name in touched}
    changed = preference.ranks(shape, taken) if taken else {}
    return {name: changed[name] if name in changed else plain.get(name) for name in names}


def _score(scores: Mapping[Rank, int], rank: Rank | None) -> int:
    """One below the winner at best, so that kube-scheduler has no tie to break by chance."""
    return 0 if rank is None else scores[rank]
