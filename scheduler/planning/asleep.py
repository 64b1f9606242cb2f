"""Standby units as the packer sees them: which could wake for a shortage, and what that saves.

After victims, before packing. A unit counts where the snapshot shows it asleep on sound GPUs that
are free, come free, or are held by jobs that may be stopped whole; where no reservation claims one
of its GPUs; and where it was measured how much sooner an engine wakes than it starts. Whatever is
not known saves nothing, and nobody is stopped for it.
"""

from collections.abc import Iterable, Mapping

from binpacking.inventory import Node
from binpacking.problem import Shape
from binpacking.standby import Standby
from scheduler.planning.situation import Situation, Victims
from scheduler.planning.snapshot import Snapshot, Unit
from scheduler.planning.supply import NOTICED, releasable


def late_price(victims: Victims) -> int:
    """A late online GPU counts no less than one of the dearest job that may be stopped."""
    return max((claimant.priority for claimant in victims.claimants), default=1)


def standby(
    situation: Situation, victims: Victims, shapes: Mapping[str, Shape]
) -> tuple[Standby, ...]:
    """Return the units that replicas of these shapes could wake, by role, in order of key.

    Units under an elastic job that can shrink are left out: which of its pods go is settled after
    packing.
    """
    snapshot = situation.snapshot
    nodes = {node.name: node for node in snapshot.nodes if node.schedulable}
    going = frozenset(_going(snapshot))
    whole = frozenset(one.key for one in victims.claimants if not one.spare_parts)
    claimed = _claimed(situation)
    found = []
    for unit in sorted(snapshot.units, key=lambda unit: unit.key):
        seconds = _saved_seconds(snapshot, unit.role)
        shape = shapes.get(unit.role)
        fits = shape is not None and (shape.pieces, shape.gpus) == (1, len(unit.devices))
        under = _under(nodes.get(unit.node), unit, going, whole)
        if unit.state != "asleep" or not fits or seconds < 1 or under is None:
            continue
        if not claimed & {(unit.node, device) for device in unit.devices}:
            found.append(
                Standby(
                    key=unit.key,
                    request=unit.role,
                    node=unit.node,
                    devices=unit.devices,
                    under=under,
                    saved_seconds=seconds,
                )
            )
    return tuple(found)


def _under(
    node: Node | None, unit: Unit, going: frozenset[str], whole: frozenset[str]
) -> tuple[str, ...] | None:
    """The jobs to stop for it; None where that is not enough, or nobody knows."""
    devices = {device.index: device for device in node.devices} if node else {}
    holders: set[str] = set()
    for index in unit.devices:
        device = devices.get(index)
        if device is None or not device.healthy:
            return None
        holders.update(holder.owner for holder in device.holders)
    jobs = holders - going
    return tuple(sorted(jobs)) if jobs <= whole else None


def _going(snapshot: Snapshot) -> Iterable[str]:
    """Replicas and jobs whose GPUs come free whatever this plan does."""
    yield from (replica.id for replica in snapshot.replicas if replica.state == "draining")
    for job in snapshot.jobs:
        if job.state == "stopping" or (job.state in NOTICED and releasable(job)):
            yield job.id


def _claimed(situation: Situation) -> set[tuple[str, int]]:
    """(node, GPU) of the units that open reservations wake."""
    keys = {key for reservation in situation.reserved for key in reservation.wakes}
    units = (unit for unit in situation.snapshot.units if unit.key in keys)
    return {(unit.node, device) for unit in units for device in unit.devices}


def _saved_seconds(snapshot: Snapshot, role: str) -> int:
    """How much sooner a sleeper is ready than a start with weights on disk; 0: not measured."""
    measured = {
        one.tier: one.p50_seconds for one in snapshot.starts if one.role == role and one.samples
    }
    if "weights" not in measured or "asleep" not in measured:
        return 0
    return max(0, int(measured["weights"] - measured["asleep"]))
