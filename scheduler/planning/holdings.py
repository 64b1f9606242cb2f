"""What each role already has: replicas that run or come, and GPUs reserved for it.

Between observation and sizing. Capacity is counted in thousandths of a reference replica;
draining replicas count for nothing, reserved slots count as replicas that come.
"""

import msgspec

from scheduler.planning import beliefs
from scheduler.planning.memory import Memory
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import Replica, Reservation, Role, Snapshot


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """One role's replicas and reservations, and what they hold."""

    role: str
    target: Role
    capacity: dict[str, float]
    """GPU model -> believed tokens/s of one replica, in order of preference."""
    capacity_milli: dict[str, int]
    """The same, in thousandths of the first."""
    bound: tuple[Replica, ...]
    """Replicas with all pods on nodes, not draining."""
    unbound: tuple[Replica, ...]
    reservations: tuple[Reservation, ...]
    """Unfilled ones that stay valid."""
    reserved_milli: tuple[int, ...]
    """What each of them will hold."""
    covered_milli: int
    """Capacity of the bound replicas and of the reserved slots."""
    ready_milli: int


def holdings(
    snapshot: Snapshot,
    memory: Memory,
    policy: Policy,
    open_reservations: tuple[Reservation, ...],
) -> tuple[Holding, ...]:
    """Return one holding per role that the policy names, in order of key."""
    models = {node.name: node.gpu_model for node in snapshot.nodes}
    return tuple(
        _holding(snapshot, memory, policy, role, open_reservations, models)
        for role in sorted(snapshot.roles, key=lambda role: role.key)
        if policy.role(role.key) is not None
    )


def milli(capacity_milli: dict[str, int], gpu_model: str) -> int:
    """Return the worth of a replica on `gpu_model`; an unlisted model counts as the least."""
    return capacity_milli.get(gpu_model, min(capacity_milli.values(), default=1000))


def _holding(
    snapshot: Snapshot,
    memory: Memory,
    policy: Policy,
    role: Role,
    open_reservations: tuple[Reservation, ...],
    models: dict[str, str],
) -> Holding:
    capacity = beliefs.capacity(memory, policy, role.key)
    reference = next(iter(capacity.values()))
    scale = {model: round(1000 * rate / reference) for model, rate in capacity.items()}
    mine = [r for r in snapshot.replicas if r.role == role.key and r.state != "draining"]
    bound = tuple(r for r in mine if _bound(r))
    unbound = tuple(r for r in mine if not _bound(r))
    reserved = tuple(r for r in open_reservations if r.owner == role.key)
    running = sum(milli(scale, r.gpu_model) for r in bound)
    coming = tuple(milli(scale, models.get(r.parts[0][0], "")) for r in reserved)
    return Holding(
        role=role.key,
        target=role,
        capacity=capacity,
        capacity_milli=scale,
        bound=bound,
        unbound=unbound,
        reservations=reserved,
        reserved_milli=coming,
        covered_milli=running + sum(coming),
        ready_milli=sum(milli(scale, r.gpu_model) for r in bound if r.state == "ready"),
    )


def _bound(replica: Replica) -> bool:
    """Whether all its pods are there and on nodes; some may not have been made yet."""
    return replica.state != "pending" and all(pod.node for pod in replica.pods)
