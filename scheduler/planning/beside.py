"""CPU and memory that a new pod may count on, node by node, after reservations.

For `supply`, in the same terms.
"""

from collections import Counter
from collections.abc import Iterable

from binpacking.inventory import Node
from scheduler.planning.snapshot import Job, Pod, Reservation, Role, Snapshot

Room = tuple[int | None, int | None]
"""(milli-CPU, MiB); None: not known."""


def left(
    snapshot: Snapshot,
    reserved: Iterable[Reservation],
    leaving: Iterable[tuple[str, Iterable[Pod]]] = (),
) -> dict[str, Room]:
    """Return node -> what is free there; nothing where no role or job asks for any.

    `leaving`: owners with those of their pods whose places may be counted on.
    """
    asks = {role.key: _asked(role) for role in snapshot.roles}
    asks |= {job.id: _asked(job) for job in snapshot.jobs}
    if not any(any(each) for each in asks.values()):
        return {}
    cpu, memory = Counter[str](), Counter[str]()
    for reservation in reserved:
        cores, ram = asks.get(reservation.owner, (0, 0))
        for node, _ in reservation.parts:
            cpu[node] -= cores
            memory[node] -= ram
    for owner, pods in leaving:
        cores, ram = asks.get(owner, (0, 0))
        for pod in pods:
            cpu[pod.node] += cores
            memory[pod.node] += ram
    return {node.name: _room(node, cpu[node.name], memory[node.name]) for node in snapshot.nodes}


def _asked(of: Role | Job) -> tuple[int, int]:
    return of.cpu_milli_per_pod, of.memory_mib_per_pod


def _room(node: Node, cpu_milli: int, memory_mib: int) -> Room:
    cpu, memory = node.cpu_milli - node.cpu_held_milli, node.memory_mib - node.memory_held_mib
    return (
        max(0, cpu + cpu_milli) if node.cpu_milli else None,
        max(0, memory + memory_mib) if node.memory_mib else None,
    )
