"""A packing in the making, by number, and its translation into the answer's words."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from binpacking.awake import Wake, awake
from binpacking.board import Board
from binpacking.fragmentation import unusable_milli_gpus
from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.layout import Layout
from binpacking.pools import Served, apart
from binpacking.problem import OnlineRequest, Packing, Placed, Problem, Rung, Shape, Tiers
from binpacking.shares import NO_SHARE, Share


class Seat(NamedTuple):
    """One replica or job with the node number of each piece."""

    request: int
    """Index into the problem's `online` or `batch`."""
    nodes: tuple[int, ...]
    """Of each piece, pod by pod."""


class Draft(NamedTuple):
    """Seats by number; the stopped gangs stand on the board."""

    board: Board
    online: tuple[Seat, ...]
    batch: tuple[Seat, ...]


def nothing(problem: Problem, layout: Layout) -> Draft:
    """The draft that seats and stops nothing."""
    return Draft(Board(layout, problem), (), ())


def packing(problem: Problem, draft: Draft, rung: Rung) -> Packing:
    """The draft as an answer: keys for numbers, tiers computed, nothing proven yet."""
    unserved = unserved_milli(problem, draft)
    killed = draft.board.stopped()
    wakes, cards = awake(draft.board, draft.online), _Cards(draft.board)
    lateness = draft.board.layout.most_saved - sum(wake.bed.credit for wake in wakes)
    return Packing(
        online=tuple(_placed_online(problem, draft, wakes, cards)),
        batch=tuple(_placed_batch(problem, draft, cards)),
        killed=tuple(sorted(problem.gangs[gang].key for gang in killed)),
        unserved=unserved,
        tiers=Tiers(
            unserved_milli_gpus=sum(
                whole_milli(unserved.get(request.key, 0), request) for request in problem.online
            ),
            loss=sum(problem.gangs[gang].cost for gang in killed) + lateness,
            batch_value=sum(problem.batch[seat.request].value for seat in draft.batch),
            fragmentation_milli_gpus=_fragmentation(problem, draft),
            apart=apart(problem, served(problem, draft.board, draft.online))
            if problem.pools
            else 0,
            split=sum(
                len({draft.board.layout.leaf_of[node] for node in seat.nodes}) > 1
                for seat in draft.online
                if problem.online[seat.request].members
            ),
            lateness=lateness,
        ),
        rung=rung,
    )


def _fragmentation(problem: Problem, draft: Draft) -> int:
    decks = (deck for deck in draft.board.decks if deck.cards or deck.shares)
    cards = [room.milli for deck in decks for room in deck.left]
    return unusable_milli_gpus(draft.board.free, problem.mix, cards, problem.card_mix)


def served(problem: Problem, board: Board, seats: Iterable[Seat]) -> Served:
    """Leaf and capacity of every seat, by request."""
    layout = board.layout
    found: dict[str, list[tuple[tuple[str, ...], int]]] = {}
    for seat in seats:
        where = layout.paths[layout.leaf_of[seat.nodes[0]]]
        entry = (where, capacity(problem, board, seat))
        found.setdefault(problem.online[seat.request].key, []).append(entry)
    return found


def unserved_milli(problem: Problem, draft: Draft) -> dict[str, int]:
    """Milli-replicas of shortage left per request key, only where above 0."""
    left = [request.shortage_milli for request in problem.online]
    for seat in draft.online:
        left[seat.request] -= capacity(problem, draft.board, seat)
    return {
        request.key: milli for request, milli in zip(problem.online, left, strict=True) if milli > 0
    }


def capacity(problem: Problem, board: Board, seat: Seat) -> int:
    """Milli-replicas that an online seat yields on the least capable of its GPU models."""
    layout = board.layout
    capacities = problem.online[seat.request].capacity_milli
    return min(capacities[layout.models[layout.leaf_of[node]]] for node in {*seat.nodes})


def whole_milli(missing_milli: int, request: OnlineRequest) -> int:
    """Milli-GPUs, rounded up, of so many milli-replicas."""
    return -(-missing_milli * request.size_milli // WHOLE_GPU_MILLI)


def lift(board: Board, seat: Seat) -> None:
    """Take the pieces of an online seat off the board."""
    for node, piece in zip(seat.nodes, board.layout.pieces[seat.request], strict=True):
        board.lift(node, *piece)


def _placed_online(
    problem: Problem, draft: Draft, wakes: list[Wake], cards: "_Cards"
) -> list[Placed]:
    """Seats with names, in order of request and of nodes; the nodes of a pod in order."""
    layout = draft.board.layout
    placed: list[tuple[int, tuple[int, ...], tuple[str, ...]]] = []
    keys: list[list[str]] = [[] for _ in draft.online]
    for wake in wakes:
        keys[wake.seat].append(problem.standby[wake.bed.unit].key)
    for seat, units in zip(draft.online, keys, strict=True):
        nodes: list[int] = []
        for shape in layout.pods[seat.request]:
            nodes += sorted(seat.nodes[len(nodes) : len(nodes) + shape.pieces])
        placed.append((seat.request, tuple(nodes), tuple(sorted(units))))
    found = []
    for request, pieces, woken in sorted(placed):
        shapes = [shape for shape in layout.pods[request] for _ in range(shape.pieces)]
        found.append(cards.placed(problem.online[request].key, pieces, shapes, woken))
    return found


def _placed_batch(problem: Problem, draft: Draft, cards: "_Cards") -> list[Placed]:
    found = []
    for request, nodes in sorted((seat.request, tuple(sorted(seat.nodes))) for seat in draft.batch):
        job = problem.batch[request]
        found.append(cards.placed(job.key, nodes, [job.shape] * len(nodes)))
    return found


class _Cards:
    """Hands the cards of each node out to those whose pieces share them."""

    def __init__(self, board: Board) -> None:
        self.names = board.layout.names
        self.cards: dict[tuple[int, Share], list[int]] = {}
        for node, deck in enumerate(board.decks):
            deal = deck.deal if deck.shares else None
            for card, share in zip(deal.cards, deck.shares, strict=True) if deal else ():
                self.cards.setdefault((node, share), []).append(card)

    def placed(
        self, key: str, nodes: Sequence[int], shapes: Sequence[Shape], wakes: tuple[str, ...] = ()
    ) -> Placed:
        """One replica or job, piece by piece."""
        pairs = list(zip(nodes, shapes, strict=True))
        parts = tuple((self.names[node], shape.gpus) for node, shape in pairs)
        cards = tuple(
            self.cards[node, shape.share].pop(0) if shape.share != NO_SHARE else -1
            for node, shape in pairs
        )
        return Placed(key, parts, wakes, cards if any(card >= 0 for card in cards) else ())
