"""Batch requests that differ only by key: one column each; who is meant is settled at the end."""

from collections.abc import Sequence

import msgspec

from binpacking.problem import BatchRequest, Shape


class Crew(msgspec.Struct, frozen=True):
    """Batch requests that differ only by key."""

    shape: Shape
    gpu_models: tuple[str, ...]
    value: int
    members: tuple[int, ...]
    """Indices into the problem's `batch`, in its order."""


def crews(batch: Sequence[BatchRequest]) -> tuple[Crew, ...]:
    """Identical batch requests as one, in order of first appearance."""
    groups: dict[tuple[Shape, tuple[str, ...], int], list[int]] = {}
    for index, request in enumerate(batch):
        kind = (request.shape, request.gpu_models, request.value)
        groups.setdefault(kind, []).append(index)
    return tuple(Crew(*kind, tuple(members)) for kind, members in groups.items())
