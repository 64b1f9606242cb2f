"""Anti-affinity floors by number: how many replicas each failure domain may still take.

Floors over leaves and spine pods bound the counts of `rows` and the choices of `greedy`. Floors
over nodes are tickets: a piece needs one of its node, as it needs GPUs of it (see `rooms`).
"""

from collections.abc import Sequence

import msgspec

from binpacking.problem import OnlineRequest, Problem, Supply, domain


class Fence(msgspec.Struct, frozen=True):
    """A floor over leaves or spine pods."""

    domain_of: tuple[int, ...]
    """Domain by leaf number."""
    room: tuple[int, ...]
    """By domain: how many more replicas it may take."""

    def at(self, leaf: int) -> int:
        """How many more the leaf's domain may take."""
        return self.room[self.domain_of[leaf]]


def fences(problem: Problem, paths: Sequence[tuple[str, ...]]) -> dict[int, Fence]:
    """By online request, where it asks for one; `paths` by leaf number."""
    found: dict[int, Fence] = {}
    for index, request in enumerate(problem.online):
        spread = request.spread
        if spread is not None and spread.level != "node":
            domains = [domain("", path, spread.level) for path in paths]
            number = {one: place for place, one in enumerate(dict.fromkeys(domains))}
            room = spread.room()
            found[index] = Fence(
                tuple(number[one] for one in domains), tuple(room[one] for one in number)
            )
    return found


def tickets(problem: Problem, nodes: Sequence[Supply]) -> dict[str, tuple[int, ...]]:
    """By request whose pods keep apart on nodes, and by node: how many more it may take."""
    found: dict[str, tuple[int, ...]] = {}
    for request in problem.online:
        if request.spread is not None and request.spread.level == "node":
            room = request.spread.room()
            found[request.key] = tuple(room[one.domain("node")] for one in nodes)
    return found


def check(request: OnlineRequest) -> None:
    """Refuse a floor that a replica of the request could not keep to by itself."""
    spread = request.spread
    if spread is None:
        return
    what = f"online: spread of {request.key}"
    if spread.most < 1:
        raise ValueError(f"{what}: most is {spread.most}; give 1 or more")
    if any(count < 0 for _, count in spread.there):
        raise ValueError(f"{what}: there holds a count below 0; give 0 or more")
    if len({where for where, _ in spread.there}) < len(spread.there):
        raise ValueError(f"{what}: there names a domain twice; state each one once")
    if request.members and spread.level == "node":
        raise ValueError(f"{what}: a fixed group has no floor over nodes; give leaf or spine")
    if request.reach == "spine" and spread.level == "leaf":
        raise ValueError(f"{what}: its replicas may stand under several leaves; give spine")
