"""Where the heuristic seats the roles of a pool (see `pools`), and what it takes back.

At the same price a replica goes where the shares of the roles come to differ least; where that is
all the same, into a domain with room for the whole pool. Where proximity is required it goes only
where each other role stands or is yet to be seated, and goes again if that one does not come.
"""

from binpacking.board import Board
from binpacking.draft import Seat, lift, served
from binpacking.pools import PoolNumbers, lonely
from binpacking.problem import Problem, domain


class Gathering:
    """One pool while its roles are seated, one after the other."""

    def __init__(self, problem: Problem, board: Board, pool: PoolNumbers) -> None:
        self.board, self.pool = board, pool
        self.stands = [dict(role.there) for role in pool.roles]
        self.role = 0
        """The one that is being seated."""
        self.waiting = {n for n, role in enumerate(pool.roles) if role.request >= 0}
        mine = [problem.online[pool.roles[number].request] for number in self.waiting]
        self.gpus = sum(request.limit * request.size for request in mine)
        """Still wanted."""
        self.leaves: dict[int, list[int]] = {}
        for leaf, where in enumerate(pool.domain_of):
            self.leaves.setdefault(where, []).append(leaf)

    def begin(self, request: int) -> None:
        """This request's replicas are next."""
        self.role = next(n for n, role in enumerate(self.pool.roles) if role.request == request)
        self.waiting.discard(self.role)

    def admits(self, leaf: int) -> bool:
        """Whether a replica may go there, if all is seated that is wanted."""
        where = self.pool.domain_of[leaf]
        return not self.pool.required or all(
            number == self.role or number in self.waiting or where in stands
            for number, stands in enumerate(self.stands)
        )

    def rank(self, leaf: int) -> tuple[int, bool]:
        """By how much more the shares would differ, and whether the domain is too small for all."""
        where = self.pool.domain_of[leaf]
        mine = self.stands[self.role].get(where, 0)
        more = mine + self.pool.roles[self.role].each[leaf]
        others = [
            stands.get(where, 0) for number, stands in enumerate(self.stands) if number != self.role
        ]
        change = sum(abs(more - share) - abs(mine - share) for share in others)
        return change, sum(self.board.leaf_free[one] for one in self.leaves[where]) < self.gpus

    def add(self, leaf: int, gpus: int) -> None:
        """A replica of so many GPUs was seated."""
        where, stands = self.pool.domain_of[leaf], self.stands[self.role]
        stands[where] = stands.get(where, 0) + self.pool.roles[self.role].each[leaf]
        self.gpus -= gpus


def gatherings(problem: Problem, board: Board) -> dict[int, Gathering]:
    """By online request, where it is a role of a pool."""
    found = {}
    for pool in board.layout.pools:
        one = Gathering(problem, board, pool)
        found.update({role.request: one for role in pool.roles if role.request >= 0})
    return found


def drop_lonely(problem: Problem, board: Board, seats: list[Seat]) -> list[Seat]:
    """Lift replicas that must be near another role, and are not."""
    layout = board.layout
    for pool in problem.pools:
        if pool.required:
            places = lonely(pool, served(problem, board, seats))
            keys = {role.key for role in pool.roles}
            kept = []
            for seat in seats:
                where = domain("", layout.paths[layout.leaf_of[seat.nodes[0]]], pool.level)
                if problem.online[seat.request].key in keys and where in places:
                    lift(board, seat)
                else:
                    kept.append(seat)
            seats = kept
    return seats
