"""Standby units by number: which pod each can be, what must be stopped for it, what it saves.

Compiled once with the layout. Units that this problem cannot wake are left out: of requests that
it does not ask for, on nodes or GPU models that it does not offer, under gangs that may not be
stopped.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from binpacking.problem import OnlineRequest, Problem
from binpacking.standby import Standby

Kind = tuple[int, int]
"""(online request, member) of a pod."""


class Bed(NamedTuple):
    """The GPUs where one unit sleeps."""

    unit: int
    """Index into the problem's `standby`."""
    kind: Kind
    node: int
    gpus: int
    devices: int
    """One bit per GPU of the node."""
    gangs: frozenset[int]
    """Numbers of the gangs that hold some of them."""
    credit: int
    """Priority-weighted GPU-seconds that waking it saves."""


def beds_by_node(problem: Problem, number: Mapping[str, int]) -> tuple[tuple[Bed, ...], ...]:
    """Beds by node number, the best credit first, then by key.

    Raises ValueError where a unit contradicts itself or its request.
    """
    found: list[list[Bed]] = [[] for _ in number]
    gangs = {gang.key: index for index, gang in enumerate(problem.gangs)}
    requests = {request.key: index for index, request in enumerate(problem.online)}
    models = {supply.node: supply.gpu_model for supply in problem.supplies}
    for index, unit in enumerate(problem.standby):
        _check(unit)
        request = requests.get(unit.request)
        if request is None or any(key not in gangs for key in unit.under):
            continue
        asked = problem.online[request]
        if models.get(unit.node) in asked.capacity_milli:
            found[number[unit.node]].append(
                Bed(
                    unit=index,
                    kind=(request, _member(asked, unit)),
                    node=number[unit.node],
                    gpus=len(unit.devices),
                    devices=sum(1 << device for device in unit.devices),
                    gangs=frozenset(gangs[key] for key in unit.under),
                    credit=problem.late_price * len(unit.devices) * unit.saved_seconds,
                )
            )
    return tuple(tuple(sorted(some, key=lambda bed: (-bed.credit, bed.unit))) for some in found)


def most_saved(problem: Problem, beds: tuple[tuple[Bed, ...], ...]) -> int:
    """What waking as many units as each shortage could use would save, the best of each kind."""
    of_kind: dict[Kind, list[int]] = {}
    for some in beds:
        for bed in some:
            of_kind.setdefault(bed.kind, []).append(bed.credit)
    return sum(
        sum(sorted(each, reverse=True)[: most_pods(problem.online[request], member)])
        for (request, member), each in of_kind.items()
    )


def cleared(beds: tuple[tuple[Bed, ...], ...], gangs: Iterable[int]) -> tuple[tuple[Bed, ...], ...]:
    """The beds that nobody holds once these gangs are stopped."""
    gone = frozenset(gangs)
    return tuple(
        tuple(bed._replace(gangs=frozenset()) for bed in some if bed.gangs <= gone) for some in beds
    )


def most_pods(request: OnlineRequest, member: int) -> int:
    """Pods of one member in as many replicas as the shortage could use."""
    least = min(request.capacity_milli.values())
    replicas = min(request.limit, -(-max(0, request.shortage_milli) // least))
    return replicas * request.pods[member].count


def _member(request: OnlineRequest, unit: Standby) -> int:
    """The member that the unit can be a pod of."""
    for number, member in enumerate(request.pods):
        if member.role == unit.role:
            if (member.shape.pieces, member.shape.gpus) == (1, len(unit.devices)):
                return number
            raise ValueError(
                f"standby: {unit.key} has {len(unit.devices)} devices, a pod of {request.key}"
                f" {member.role} is {member.shape.pieces} x {member.shape.gpus} GPUs; give units"
                " of one piece, and as many devices as it has"
            )
    raise ValueError(
        f"standby: {unit.key} is of role {unit.role!r}, which {request.key} does not have;"
        " name one of its members"
    )


def _check(unit: Standby) -> None:
    if not unit.devices or len(set(unit.devices)) != len(unit.devices) or min(unit.devices) < 0:
        raise ValueError(f"standby: devices of {unit.key} are {unit.devices}; give each index once")
    if unit.saved_seconds < 1:
        raise ValueError(
            f"standby: saved_seconds of {unit.key} is {unit.saved_seconds}; give 1 or more,"
            " or leave out a unit that saves nothing"
        )
