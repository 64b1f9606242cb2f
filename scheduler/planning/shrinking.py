"""What is surplus: reservations not needed any more first, then the replicas to retire.

Between sizing and growing. Replicas go in the order that frees most for others: those that
wait, those that start, then those on the least preferred GPU model and on the node with the
fewest GPUs in use, so that whole nodes come free; a role that must spread, or stand beside others,
goes on doing so. Where the workload's controller lets nobody choose, the highest ordinals go.
Capacity never falls below what was wanted. A role of which more replicas are there than are asked
for waits: its controller has yet to take some of them away.
"""

from collections.abc import Sequence

import msgspec

from scheduler.planning.actions import ScaleRole, Sizing
from scheduler.planning.closeness import Company, company
from scheduler.planning.holdings import Holding, milli
from scheduler.planning.policy import Policy
from scheduler.planning.sizing import others_hand
from scheduler.planning.snapshot import Replica, Snapshot
from scheduler.planning.spreading import Terms, terms_of

STATE_ORDER = {"pending": 0, "starting": 1, "ready": 2}


class Surplus(msgspec.Struct, frozen=True):
    """Actions that shrink, and the reservations that they release."""

    actions: tuple[ScaleRole, ...]
    released: frozenset[str]
    roles: frozenset[str]
    """Those that give something back in this plan, and so do not grow in it."""


class Rules(msgspec.Struct, frozen=True):
    """What the replicas that stay keep to."""

    terms: Terms | None
    company: Company | None

    def first(self, fitting: Sequence[Replica], standing: Sequence[Replica]) -> Replica:
        """Return the next to go: out of a domain that would hold too much of what is left, and not
        the last beside another role, if that can be.
        """
        if self.terms is not None:
            crowded, tally = self.terms.crowded(standing), self.terms.tally
            fitting = [r for r in fitting if crowded & tally([r.parts]).keys()] or fitting
        if self.company is not None:
            last, where = self.company.last(standing), self.company.where
            fitting = [r for r in fitting if where(r) not in last] or fitting
        return fitting[0]


def shrink(
    snapshot: Snapshot, policy: Policy, held: tuple[Holding, ...], sizings: tuple[Sizing, ...]
) -> Surplus:
    """Return the retirements that keep every role at or above its wanted capacity."""
    used = {node.name: len(node.devices) - node.free_gpus for node in snapshot.nodes}
    actions: list[ScaleRole] = []
    released: set[str] = set()
    roles: set[str] = set()
    for holding, sizing in zip(held, sizings, strict=True):
        spare = holding.covered_milli - sizing.wanted_milli
        there = len(holding.bound) + len(holding.unbound)
        going = there > holding.target.replicas
        if spare < 0 or going or others_hand(holding, snapshot.now_seconds):
            continue
        kept, dropped = _claimed(holding, spare)
        released.update(dropped)
        spare = kept.covered_milli - sizing.wanted_milli
        chosen = kept.target.removable == "any"
        others = company(snapshot, policy, holding.role)
        rules = Rules(terms_of(snapshot, policy, kept.target, others), others)
        gone, more = _chosen(kept, spare, used, rules) if chosen else _last(kept, spare)
        if gone or dropped:
            roles.add(holding.role)
        if gone:
            released.update(more)
            actions.append(_action(kept, sizing, gone))
    return Surplus(tuple(actions), frozenset(released), frozenset(roles))


def _claimed(holding: Holding, spare: int) -> tuple[Holding, tuple[str, ...]]:
    """Return the holding without surplus slots that no replica will fill, and those slots."""
    asked = max(0, holding.target.replicas - len(holding.bound))
    kept = len(holding.reservations)
    while kept > asked and holding.reserved_milli[kept - 1] <= spare:
        kept -= 1
        spare -= holding.reserved_milli[kept]
    less = msgspec.structs.replace(
        holding,
        reservations=holding.reservations[:kept],
        reserved_milli=holding.reserved_milli[:kept],
        covered_milli=holding.covered_milli - sum(holding.reserved_milli[kept:]),
    )
    return less, tuple(one.id for one in holding.reservations[kept:])


def _chosen(
    holding: Holding, spare: int, used: dict[str, int], rules: Rules
) -> tuple[tuple[Replica, ...], tuple[str, ...]]:
    """Return the replicas to retire, in any order that suits, and the reservations to drop."""
    dropped, spare = _release(holding, spare)
    idle = _idle(holding) + len(dropped)
    waiting = sorted(holding.unbound, key=lambda r: r.id, reverse=True)[:idle]
    return (*waiting, *_retire(holding, spare, used, rules)), dropped


def _last(holding: Holding, spare: int) -> tuple[tuple[Replica, ...], tuple[str, ...]]:
    """Return the replicas of the highest ordinals that are surplus, and the reservations to drop.

    A replica that waits is worth the reservation that it would fill, and nothing without one.
    """
    idle = _idle(holding)
    held = [reservation.id for reservation in holding.reservations]
    unit = min(holding.capacity_milli.values())
    gone: list[Replica] = []
    dropped: list[str] = []
    for replica in sorted((*holding.bound, *holding.unbound), key=lambda r: -r.ordinal):
        waits = replica in holding.unbound
        free = waits and idle > 0
        worth = unit if waits else milli(holding.capacity_milli, replica.gpu_model)
        if not free and worth > spare:
            break
        gone.append(replica)
        idle -= free
        spare -= 0 if free else worth
        if waits and not free:
            dropped.append(held.pop())
    return tuple(gone), tuple(dropped)


def _idle(holding: Holding) -> int:
    """Return how many replicas wait that nothing is reserved for."""
    return max(0, len(holding.unbound) - len(holding.reservations))


def _release(holding: Holding, spare: int) -> tuple[tuple[str, ...], int]:
    """Return reservations to drop, newest first, and the surplus that is left."""
    dropped: list[str] = []
    worth = min(holding.capacity_milli.values())
    for reservation in reversed(holding.reservations):
        if spare < worth or len(dropped) >= len(holding.unbound):
            break
        spare -= worth
        dropped.append(reservation.id)
    return tuple(dropped), spare


def _retire(
    holding: Holding, spare: int, used: dict[str, int], rules: Rules
) -> tuple[Replica, ...]:
    preference = {model: place for place, model in enumerate(holding.capacity_milli)}
    order = sorted(
        holding.bound,
        key=lambda r: (
            STATE_ORDER.get(r.state, 2),
            -preference.get(r.gpu_model, len(preference)),
            min((used.get(node, 0) for node, _ in r.parts), default=0),
            r.parts,
            r.id,
        ),
    )
    worths = {one.id: milli(holding.capacity_milli, one.gpu_model) for one in order}
    retired: list[Replica] = []
    while fitting := [one for one in order if worths[one.id] <= spare]:
        gone = rules.first(fitting, order)
        spare -= worths[gone.id]
        order.remove(gone)
        retired.append(gone)
    return tuple(retired)


def _action(holding: Holding, sizing: Sizing, gone: tuple[Replica, ...]) -> ScaleRole:
    last = sizing.reasons[-1].sentence if sizing.reasons else "nothing is asked"
    return ScaleRole(
        role=holding.role,
        expected_replicas=holding.target.replicas,
        replicas=holding.target.replicas - len(gone),
        retire=tuple(replica.id for replica in gone),
        code="demand_falls",
        sentence=f"{holding.role}: {len(gone)} replicas fewer, "
        f"{sizing.wanted_milli / 1000:.1f} wanted of {holding.covered_milli / 1000:.1f}; {last}",
    )
