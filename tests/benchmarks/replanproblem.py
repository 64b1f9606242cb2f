"""An instance in the product's own words, and a packing back in the instance's numbers."""

from collections.abc import Sequence

import msgspec

from binpacking.problem import (
    BatchRequest,
    Gang,
    Member,
    OnlineRequest,
    Packing,
    Placed,
    Problem,
    Shape,
    Supply,
)
from scheduler.simulation.instances import GPUS_PER_NODE, Instance, pieces_of

SECONDS_PER_HOUR = 3600
"""An instance's costs are GPU-hours, a problem's integer GPU-seconds."""


class Seated(msgspec.Struct, frozen=True):
    """One group on nodes."""

    service: int
    pieces: tuple[tuple[int, int, str], ...]
    """(node, GPUs, role), pod by pod, prefill first."""


class Started(msgspec.Struct, frozen=True):
    """One waiting gang on nodes."""

    gpus: int
    priority: int
    pieces: tuple[tuple[int, int], ...]
    """(node, GPUs)."""


class Plan(msgspec.Struct, frozen=True):
    """What a policy decided about an instance."""

    killed: tuple[int, ...]
    """Gang numbers, ascending."""
    placed: tuple[Seated, ...]
    started: tuple[Started, ...] = ()


def problem_of(instance: Instance) -> Problem:
    """State the instance's event as the planner would."""
    return Problem(
        supplies=_supplies(instance),
        online=tuple(
            _request(instance, number, wanted)
            for number, wanted in enumerate(instance.wanted_groups)
            if wanted
        ),
        batch=_batch(instance),
        gangs=tuple(
            Gang(
                key=gang_key(gang.number),
                parts=tuple(sorted((node_name(p.node), p.gpus) for p in gang.pieces)),
                cost=round(gang.cost * SECONDS_PER_HOUR),
            )
            for gang in instance.gangs
        ),
    )


def plan_of(instance: Instance, packing: Packing) -> Plan:
    """Read a packing of `problem_of(instance)`."""
    placed = []
    for one in packing.online:
        service = int(one.key[1:])
        roles = _roles(instance, service)
        parts = [(int(node[1:]), gpus) for node, gpus in one.parts]
        pieces = [(node, gpus, role) for (node, gpus), role in zip(parts, roles, strict=True)]
        placed.append(Seated(service, tuple(pieces)))
    killed = tuple(sorted(int(key[1:]) for key in packing.killed))
    return Plan(killed, tuple(placed), tuple(_started(one) for one in packing.batch))


def _started(placed: Placed) -> Started:
    gpus, priority, _ = placed.key[1:].split("-")
    pieces = tuple((int(node[1:]), held) for node, held in placed.parts)
    return Started(int(gpus), int(priority), pieces)


def node_name(node: int) -> str:
    """Name a node so that names sort as numbers do."""
    return f"n{node:05}"


def service_key(number: int) -> str:
    """Name a service so that keys sort as numbers do."""
    return f"s{number:03}"


def gang_key(number: int) -> str:
    """Name a gang so that keys sort as numbers do."""
    return f"g{number:05}"


def _roles(instance: Instance, service: int) -> list[str]:
    one = instance.services[service]
    return ["prefill"] * len(one.prefill_pieces) + ["decode"] * len(one.decode_pieces)


def _supplies(instance: Instance) -> tuple[Supply, ...]:
    supplies = []
    for spine, leaves in enumerate(instance.spine_pods):
        for leaf in leaves:
            model = model_name(instance.leaf_models[leaf])
            path = ("core", f"spine{spine:03}", f"leaf{leaf:04}", model)
            supplies += [
                Supply(node_name(node), model, path, instance.free_gpus[node], GPUS_PER_NODE)
                for node in instance.leaf_nodes[leaf]
            ]
    return tuple(supplies)


def model_name(model: int) -> str:
    """Name a GPU model."""
    return f"model{model}"


def _request(instance: Instance, number: int, wanted: int) -> OnlineRequest:
    service = instance.services[number]
    return OnlineRequest(
        key=service_key(number),
        members=(
            Member("prefill", service.prefill_pods, _shape(service.prefill_gpus)),
            Member("decode", service.decode_pods, _shape(service.decode_gpus)),
        ),
        reach="spine",
        capacity_milli={model_name(model): 1000 for model in service.gpu_models},
        shortage_milli=1000 * wanted,
        limit=wanted,
    )


def _shape(gpus: int) -> Shape:
    pieces = pieces_of(gpus)
    return Shape(len(pieces), pieces[0])


def _batch(instance: Instance) -> tuple[BatchRequest, ...]:
    classes: Sequence[tuple[int, int, int]] = [
        (one.gpus, one.priority, number) for one in instance.pending for number in range(one.count)
    ]
    return tuple(
        BatchRequest(
            key=f"b{gpus:02}-{priority}-{number:04}",
            shape=_shape(gpus),
            gpu_models=(),
            value=gpus * priority,
        )
        for gpus, priority, number in classes
    )
