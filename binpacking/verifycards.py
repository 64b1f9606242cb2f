"""The part of the checker that looks at cards which pods share; like `verify`, it shares no code
with the rungs.

A card goes by its place among the node's `cards`; the places beyond them are whole GPUs of the
node that the packing opens. A card that all have left is a whole GPU unless the packing shares it.
"""

from typing import NamedTuple

from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.problem import Gang, Member, Packing, Placed, Problem, Shape

Card = tuple[str, int]
"""(node, place)."""


class Left(NamedTuple):
    """What is left of a card."""

    milli: int
    memory_mib: int | None
    """None: not known."""
    opened: bool
    """Whether it was a whole GPU of the node before."""

    def less(self, milli: int, memory_mib: int) -> "Left":
        """So much less; negative: more."""
        rest = None if self.memory_mib is None else self.memory_mib - memory_mib
        return Left(self.milli - milli, rest, self.opened)

    @property
    def whole_again(self) -> int:
        """How many whole GPUs the card adds to the free ones of its node."""
        return (self.milli == WHOLE_GPU_MILLI) - self.opened

    @property
    def overdrawn(self) -> bool:
        """Whether it has less than nothing."""
        return self.milli < 0 or (self.memory_mib is not None and self.memory_mib < 0)


def cards_left(problem: Problem, packing: Packing, *, batch: bool) -> dict[Card, Left]:
    """What is left of every card that is, was, or comes to be shared, after the stops, the online
    replicas and, where asked for, the batch jobs.
    """
    sharing = _sharing(problem, packing, batch=batch)
    supplies = [one for one in problem.supplies if one.cards or sharing]
    known = {one.node: one.card_memory_mib for one in supplies}
    left = {
        (one.node, place): Left(milli, None if known[one.node] is None else memory, opened=False)
        for one in supplies
        for place, (milli, memory) in enumerate(one.cards)
    }
    stopped = set(packing.killed)
    for gang in problem.gangs:
        for node, card, share in gang.shares if gang.key in stopped else ():
            if (node, card) in left:
                left[node, card] = left[node, card].less(-share.milli, -share.memory_mib)
    for placed, shapes in sharing:
        for (node, _), card, shape in zip(placed.parts, placed.cards, shapes, strict=False):
            if card >= 0:
                before = Left(WHOLE_GPU_MILLI, known.get(node), opened=True)
                now = left.get((node, card), before)
                left[node, card] = now.less(shape.share.milli, shape.share.memory_mib)
    return left


def shares(problem: Problem, packing: Packing) -> list[str]:
    """Every share is on one card of its node, and no card is overdrawn."""
    wrong = []
    for placed, shapes in _sharing(problem, packing, batch=True):
        named = placed.cards or (-1,) * len(shapes)
        if [card >= 0 for card in named] != [shape.share.milli > 0 for shape in shapes]:
            wrong.append(f"{placed.key}: cards {named} are not one for each share")
    for (node, card), left in sorted(cards_left(problem, packing, batch=True).items()):
        if left.overdrawn:
            wrong.append(f"{node}: card {card} has {left.milli} milli, {left.memory_mib} MiB left")
    return wrong


def spared(problem: Problem, packing: Packing, gang: Gang, whole: dict[str, int]) -> bool:
    """Whether no online replica uses what the gang held: its GPUs, of those left `whole` by node,
    and its parts of cards.
    """
    lost: dict[str, int] = {}
    for node, gpus in gang.parts:
        lost[node] = lost.get(node, 0) + gpus
    left = cards_left(problem, packing, batch=False) if gang.shares else {}
    for node, card, share in gang.shares:
        if (node, card) in left:
            before = left[node, card]
            left[node, card] = before.less(share.milli, share.memory_mib)
            lost[node] = lost.get(node, 0) + before.whole_again
    unused = all(whole.get(node, gpus) >= gpus for node, gpus in lost.items())
    return unused and not any(one.overdrawn for one in left.values())


def _sharing(
    problem: Problem, packing: Packing, *, batch: bool
) -> list[tuple[Placed, list[Shape]]]:
    """What is placed that shares a card, or says so, with the shape of each part."""
    pods = {one.key: one.members or (Member("", 1, one.shape),) for one in problem.online}
    jobs = {job.key: (Member("", 1, job.shape),) for job in problem.batch} if batch else {}
    placed = [(one, pods[one.key]) for one in packing.online]
    placed += [(one, jobs[one.key]) for one in packing.batch if batch]
    return [
        (one, [member.shape for member in mine for _ in range(member.count * member.shape.pieces)])
        for one, mine in placed
        if one.cards or any(member.shape.share.milli for member in mine)
    ]
