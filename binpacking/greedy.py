"""The heuristic rung: cost-aware best fit, online first, then batch.

It answers every question, in milliseconds, and proves nothing. Online requests go from the
largest replica to the smallest, in the problem's order among equals, and replica by replica: a
seat without a kill (preferred model first) before a seat with one, and among those the least cost
per served milli-replica. At the same price a role of a pool keeps to the others (see `gathering`).
A replica of several pods that no leaf takes whole is spread over a spine pod, where it may be. Then
superfluous replicas and needless kills are dropped, and batch jobs fill what is free.
"""

from typing import NamedTuple

from binpacking.beds import Bed, Kind
from binpacking.board import Board
from binpacking.draft import Draft, Seat
from binpacking.gathering import Gathering, drop_lonely, gatherings
from binpacking.layout import Layout
from binpacking.problem import BatchRequest, OnlineRequest, Piece, Problem, Shape
from binpacking.prune import drop_needless_kills, drop_superfluous
from binpacking.rousing import rouse

_ANYWHERE = (0, False)


class _Trial(NamedTuple):
    """What seating one replica in one leaf would take."""

    cost: int
    """Of the stops, less what the units save that wake."""
    leftover: int
    """Free GPUs left on the nodes used: small is a good fit."""
    leaf: int
    """The only one, or the first of a spread replica."""
    nodes: tuple[int, ...]
    """Of each piece, pod by pod."""
    gangs: tuple[int, ...]
    beds: tuple[Bed, ...] = ()
    """Whose units wake."""


def greedy(problem: Problem, layout: Layout) -> Draft:
    """Seat what can be seated, stopping gangs only for online requests."""
    board = Board(layout, problem)
    seats: list[Seat] = []
    near = gatherings(problem, board)
    online = problem.online
    for index in sorted(range(len(online)), key=lambda index: (-online[index].size_milli, index)):
        seats += _serve(board, index, online[index], near.get(index))
    seats = drop_lonely(problem, board, drop_superfluous(problem, board, seats))
    seats = drop_needless_kills(problem, board, seats)
    return Draft(board, tuple(seats), fill_batch(problem, board))


def fill_batch(problem: Problem, board: Board, seated: tuple[Seat, ...] = ()) -> tuple[Seat, ...]:
    """Add batch jobs to those seated: most value per GPU first, then larger, then by key."""
    taken = {seat.request for seat in seated}
    seats = list(seated)
    trials: dict[Shape, dict[int, _Trial | None]] = {}
    for index in batch_order(problem.batch):
        if index in taken:
            continue
        request = problem.batch[index]
        known = trials.setdefault(request.shape, {})
        best = _best_hole(board, request, known)
        if best is None:
            continue
        _commit(board, best, (request.shape.piece,) * request.shape.pieces)
        seats.append(Seat(index, best.nodes))
        for other in trials.values():
            other.pop(best.leaf, None)
    return tuple(seats)


def _best_hole(
    board: Board, request: BatchRequest, known: dict[int, _Trial | None]
) -> _Trial | None:
    """The tightest seat without a stop; trials of leaves unchanged since are reused."""
    best: tuple[int, int, _Trial] | None = None
    for leaf in board.layout.allowed(request.gpu_models):
        if leaf not in known:
            known[leaf] = _try(board, leaf, ((request.shape, None),), may_kill=False)
        trial = known[leaf]
        if trial is not None:
            rank = (trial.leftover, board.leaf_free[leaf], trial)
            best = rank if best is None or rank < best else best
    return best[2] if best else None


def batch_order(batch: tuple[BatchRequest, ...]) -> list[int]:
    """Indices by value per GPU descending, then size descending, then key."""

    def rank(index: int) -> tuple[int, int, str]:
        request = batch[index]
        size = request.shape.size_milli
        return (-request.value * 1_000_000 // size, -size, request.key)

    return sorted(range(len(batch)), key=rank)


def _serve(board: Board, index: int, request: OnlineRequest, near: Gathering | None) -> list[Seat]:
    """Replicas until the shortage is covered, the limit reached, or no leaf has a way."""
    seats: list[Seat] = []
    missing = request.shortage_milli
    every = board.layout.allowed(tuple(request.capacity_milli)) if request.capacity_milli else ()
    fence = board.layout.fences.get(index)
    room = list(fence.room) if fence else []
    trials: dict[bool, dict[int, _Trial | None]] = {False: {}, True: {}}
    if near is not None:
        near.begin(index)
        every = tuple(leaf for leaf in every if near.admits(leaf))
    while missing > 0 and len(seats) < request.limit:
        leaves = tuple(one for one in every if room[fence.domain_of[one]]) if fence else every
        best = _best(board, index, request, leaves, trials, (missing, near))
        best = best or _spread(board, index, request, leaves)
        if best is None:
            break
        _commit(board, best, board.layout.pieces[index])
        _forget(board, best, trials)
        seats.append(Seat(index, best.nodes))
        if fence:
            room[fence.domain_of[best.leaf]] -= 1
        if near is not None:
            near.add(best.leaf, request.size)
        models = {board.layout.models[board.layout.leaf_of[node]] for node in best.nodes}
        missing -= min(request.capacity_milli[model] for model in models)
    return seats


def _best(
    board: Board,
    index: int,
    request: OnlineRequest,
    leaves: tuple[int, ...],
    trials: dict[bool, dict[int, _Trial | None]],
    wish: tuple[int, Gathering | None],
) -> _Trial | None:
    """The seat to take next; trials of leaves unchanged since the last replica are reused."""
    rank = {model: place for place, model in enumerate(request.capacity_milli)}
    models = board.layout.models
    missing, near = wish

    def order(trial: _Trial) -> tuple[int, int, tuple[int, bool], int, int, int]:
        served = min(missing, request.capacity_milli[models[trial.leaf]])
        price = trial.cost * 1_000_000 // served
        preference = rank[models[trial.leaf]]
        far = near.rank(trial.leaf) if near else _ANYWHERE
        return (price, preference, far, trial.leftover, board.leaf_free[trial.leaf], trial.leaf)

    for may_kill in (False, True):
        known = trials[may_kill]
        for leaf in leaves:
            if leaf not in known:
                pods = _pods(board, index)
                known[leaf] = _try(board, leaf, pods, may_kill=may_kill)
        found = [trial for leaf in leaves if (trial := known[leaf])]
        if found:
            return min(found, key=order)
    return None


def _spread(
    board: Board, index: int, request: OnlineRequest, leaves: tuple[int, ...]
) -> _Trial | None:
    """A replica with its pods in several leaves of one spine pod, each where it costs least."""
    if request.reach == "leaf" or len(board.layout.pods[index]) == 1:
        return None
    spines = dict.fromkeys(board.layout.spine_of[leaf] for leaf in leaves)
    found = [
        trial
        for spine in spines
        if (
            trial := _try_spread(
                board, index, [s for s in leaves if board.layout.spine_of[s] == spine]
            )
        )
    ]
    return min(found, default=None)


def _try_spread(board: Board, index: int, leaves: list[int]) -> _Trial | None:
    """Seat the largest pods first, note what it took, and undo it."""
    pods = _pods(board, index)
    mark, cost = board.mark(), 0
    gangs, beds = list[int](), list[Bed]()
    nodes: dict[int, tuple[int, ...]] = {}
    for place in sorted(range(len(pods)), key=lambda place: (-pods[place][0].size_milli, place)):
        pod = pods[place : place + 1]
        trials = [t for s in leaves if (t := _try(board, s, pod, may_kill=False))]
        trials = trials or [t for s in leaves if (t := _try(board, s, pod, may_kill=True))]
        if not trials:
            break
        best = min(trials)
        _commit(board, best, (pod[0][0].piece,) * pod[0][0].pieces)
        nodes[place] = best.nodes
        cost, gangs, beds = cost + best.cost, [*gangs, *best.gangs], [*beds, *best.beds]
    flat = tuple(node for place in sorted(nodes) for node in nodes[place])
    leftover = sum(board.free[node] for node in {*flat})
    board.undo(mark)
    if len(nodes) < len(pods):
        return None
    where = board.layout.leaf_of[flat[0]]
    return _Trial(cost, leftover, where, flat, tuple(gangs), tuple(beds))


class _Seated(NamedTuple):
    """One piece on a node, and what that took."""

    cost: int
    node: int
    gangs: tuple[int, ...] = ()
    bed: Bed | None = None


_Pod = tuple[Shape, Kind | None]
"""A pod and its kind, where that could wake a unit."""


def _pods(board: Board, index: int) -> tuple[_Pod, ...]:
    """The pods of one replica."""
    shapes, members = board.layout.pods[index], board.layout.members[index]
    return tuple((shape, (index, m)) for shape, m in zip(shapes, members, strict=True))


def _try(board: Board, leaf: int, pods: tuple[_Pod, ...], *, may_kill: bool) -> _Trial | None:
    """Seat one replica or job in the leaf, note what it took, and undo it."""
    if not may_kill and board.leaf_free[leaf] < sum(shape.size for shape, _ in pods):
        return None
    pieces = [(shape.piece, kind) for shape, kind in pods for _ in range(shape.pieces)]
    mark = board.mark()
    seated: dict[int, _Seated] = {}
    for place in sorted(range(len(pieces)), key=lambda place: pieces[place][0].bulk, reverse=True):
        piece, kind = pieces[place]
        one = _seat(board, leaf, piece, kind, may_kill=may_kill)
        if one is None:
            board.undo(mark)
            return None
        for gang in one.gangs:
            board.stop(gang)
        board.take(one.node, *piece)
        if one.bed is not None:
            board.rouse(one.node, one.bed.devices)
        seated[place] = one
    every = list(seated.values())
    leftover = sum(board.free[node] for node in {one.node for one in every})
    board.undo(mark)
    return _Trial(
        sum(one.cost for one in every),
        leftover,
        leaf,
        tuple(seated[place].node for place in range(len(pieces))),
        tuple(gang for one in every for gang in one.gangs),
        tuple(one.bed for one in every if one.bed is not None),
    )


def _seat(
    board: Board, leaf: int, piece: Piece, kind: Kind | None, *, may_kill: bool
) -> _Seated | None:
    """The cheapest of a free seat, a seat after stops, and a bed of a unit that it wakes."""
    best: _Seated | None = None
    node = board.best_fit(leaf, piece)
    if node >= 0:
        best = _Seated(0, node)
    elif may_kill and (option := board.cheapest_kill(leaf, piece)) is not None:
        best = _Seated(option.cost, option.node, option.gangs)
    way = rouse(board, kind, piece, leaf, may_kill=may_kill) if kind is not None else None
    if way is not None and (best is None or way.cost < best.cost):
        return _Seated(way.cost, way.bed.node, way.gangs, way.bed)
    return best


def _commit(board: Board, trial: _Trial, pieces: tuple[Piece, ...]) -> None:
    for gang in trial.gangs:
        board.stop(gang)
    for node, piece in zip(trial.nodes, pieces, strict=True):
        board.take(node, *piece)
    for bed in trial.beds:
        board.rouse(bed.node, bed.devices)


def _forget(board: Board, trial: _Trial, trials: dict[bool, dict[int, _Trial | None]]) -> None:
    """Drop the trials of every leaf that the committed one changed.

    A stop may use up a limit, so that trials with stops end everywhere.
    """
    layout = board.layout
    if any(layout.limits_of[gang] for gang in trial.gangs):
        trials[True].clear()
    changed = {layout.leaf_of[node] for node in trial.nodes}
    for gang in trial.gangs:
        changed.update(layout.leaf_of[node] for node, _ in layout.parts[gang])
    for known in trials.values():
        for leaf in changed:
            known.pop(leaf, None)
