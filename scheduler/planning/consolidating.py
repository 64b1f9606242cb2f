"""Moves small jobs together, so that whole nodes come free for the work that waits for them.

After lending, in full plans only. Holes that no waiting job fits are worth nothing; where jobs
that can write a checkpoint on notice stand alone on a node and fit into holes elsewhere, they are
asked to move. Where no node is worth emptying for itself, several of one leaf may be, for a gang
that wants them together; as long as jobs still move, what they leave is awaited. Each move counts
against the stop budgets, and a job that moved is protected like any other that was resumed.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping

from binpacking.clearing import clear_for_gang
from binpacking.consolidation import Cell, Cleared, Mover, consolidate
from preemption.budgets import stops_left
from preemption.cost import cost
from preemption.values import Claimant
from scheduler.planning import placing, recalls
from scheduler.planning.actions import Action, NotifyJob, ScaleRole, StopJob
from scheduler.planning.admission import varieties
from scheduler.planning.situation import Situation
from scheduler.planning.snapshot import Job

HOLE_SECONDS = 1800
"""How long a hole is taken to stay empty if nobody moves; a batch run's half-life is longer."""
MOST_MOVES = 8
"""Per plan: each move empties GPUs for a minute or two, and the next plan sees what it brought."""


def moves(
    situation: Situation, free_by_node: Mapping[str, int], actions: tuple[Action, ...]
) -> tuple[NotifyJob, ...]:
    """Return the notices that empty the nodes whose emptying gains most.

    `free_by_node`: GPUs that stay empty whatever is done besides.
    """
    effort = situation.effort
    if effort.name != "full" or not effort.program or not free_by_node:
        return ()
    touched = {action.job for action in actions if not isinstance(action, ScaleRole)}
    wanted, gangs = wanted_nodes(situation, touched), _gangs(situation, touched)
    if not wanted and not gangs:
        return ()
    movable = _movable(situation, touched, actions)
    cells = tuple(
        Cell(
            node=node.name,
            gpu_model=node.variety,
            free=free_by_node.get(node.name, 0),
            total=len(node.devices),
            movers=tuple(movable.get(node.name, ())),
            leaf=node.leaf,
        )
        for node in situation.snapshot.nodes
        if node.schedulable
    )
    told: list[NotifyJob] = []
    for cleared in consolidate(cells, wanted, HOLE_SECONDS, effort):
        if len(told) + len(cleared.movers) <= MOST_MOVES:
            told.extend(_notices(situation, cleared))
    if told or any(_moves(job) for job in situation.snapshot.jobs):
        return tuple(told)
    together = clear_for_gang(cells, gangs, HOLE_SECONDS, MOST_MOVES)
    notices = [_notices(situation, cleared) for cleared in together]
    return tuple(one for each in notices for one in each) if all(notices) else ()


def _moves(job: Job) -> bool:
    """Whether the job is on its way out for no role's sake."""
    return job.state in ("notified", "acknowledged", "stopping") and not job.notice_for


def _notices(situation: Situation, cleared: Cleared) -> list[NotifyJob]:
    """Return a notice to every mover of a node, or none at all: a part of them frees no node."""
    jobs = {job.id: job for job in situation.snapshot.jobs}
    notice = situation.policy.preemption.notice_seconds
    told = [recalls.move(jobs[key], cleared.node, situation.now, notice) for key in cleared.movers]
    kept = [one for one in told if one is not None]
    return kept if len(kept) == len(told) else []


def wanted_nodes(situation: Situation, touched: Collection[str]) -> dict[str, int]:
    """Return, by variety of nodes, how many waiting jobs could use one whole node of it.

    A job that may run on several counts for each: `MOST_MOVES` bounds what that can cost.
    """
    return dict(Counter(variety for variety, nodes in _asked(situation, touched) if nodes == 1))


def _gangs(situation: Situation, touched: Collection[str]) -> dict[str, set[int]]:
    """Return, by variety of nodes, how many whole ones of it waiting gangs ask together."""
    gangs: dict[str, set[int]] = defaultdict(set)
    for variety, nodes in _asked(situation, touched):
        if nodes > 1:
            gangs[variety].add(nodes)
    return gangs


def _asked(situation: Situation, touched: Collection[str]) -> Iterator[tuple[str, int]]:
    """Yield (variety, whole nodes) of each waiting job whose pods take a whole node each."""
    there = varieties(situation.snapshot)
    sizes = {(node.variety, len(node.devices)) for node in situation.snapshot.nodes}
    for job in situation.snapshot.jobs:
        if job.state != "queued" or job.id in touched:
            continue
        usable = there.models(job)
        for variety, size in sorted(sizes) if usable is not None else ():
            if job.gpus_per_pod == size and (not usable or variety in usable):
                yield variety, job.pods


def _movable(
    situation: Situation, touched: set[str], actions: tuple[Action, ...]
) -> dict[str, list[Mover]]:
    """Return, by node, the running jobs that stand on it alone and may be asked to move.

    Stops that this plan asks for already count against the budgets, and so do the most moves.
    """
    asked = sum(isinstance(action, (NotifyJob, StopJob)) for action in actions)
    if asked + MOST_MOVES > _stops_left(situation):
        return {}
    willing, _ = placing.claimants(situation.snapshot, situation.memory, situation.policy)
    notice = situation.policy.preemption.notice_seconds
    jobs = {job.id: job for job in situation.snapshot.jobs}
    found: dict[str, list[Mover]] = defaultdict(list)
    for claimant in willing:
        job = jobs[claimant.key]
        if _may_move(job, notice) and job.id not in touched:
            found[job.parts[0][0]].append(_mover(claimant, situation.now, notice))
    return found


def _stops_left(situation: Situation) -> int:
    rules = placing.rules(situation.policy)
    return stops_left(rules, situation.memory.stops, situation.now)


def _may_move(job: Job, notice_seconds: float) -> bool:
    write = job.checkpoint_write_seconds
    return (
        job.state == "running"
        and len(job.parts) == 1
        and job.gpus > 0
        and write is not None
        and (write <= notice_seconds)
    )


def _mover(claimant: Claimant, now_seconds: float, notice_seconds: float) -> Mover:
    lost = cost(claimant, now_seconds, notice_seconds=notice_seconds)
    return Mover(claimant.key, claimant.gpus, lost)
