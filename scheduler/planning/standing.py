"""What the extender answers from: the newest snapshot and plan, reduced to what a verdict needs.

The daemon makes a `Standing` after each observation and sends it to every process that answers
kube-scheduler; `verdicts` reads it. It is small, carries its own times, and is complete: nothing
in an answer comes from anywhere else, except binds that are newer than it.

The planner drops a reservation once all its parts are filled in the snapshot. So a pod of a
wholly bound replica or job fills none that is left, and `bound` names only pods of groups of
which others still wait.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

import msgspec

from binpacking.cards import Host, PodShape, Population
from binpacking.inventory import WHOLE_GPU_MILLI, Node
from binpacking.prices import Prices
from binpacking.problem import Domain, Level
from binpacking.shares import NO_SHARE, Deck, Share
from scheduler.planning.actions import Plan, ResizeJob, ScaleRole, StopJob
from scheduler.planning.cards import NO_DECK, deck_of
from scheduler.planning.closeness import company
from scheduler.planning.policy import Policy
from scheduler.planning.preference import Room
from scheduler.planning.pricing import UNBOUNDED, free_room, kind_of
from scheduler.planning.snapshot import Job, Pod, Replica, Reservation, Snapshot
from scheduler.planning.spreading import terms_of
from scheduler.planning.targets import Target

BIND_MEMORY_SECONDS = 120.0
"""How long a bind that no snapshot shows is believed."""


class PodAsk(msgspec.Struct, frozen=True, kw_only=True):
    """A pod that kube-scheduler asks about."""

    uid: str
    name: str
    namespace: str = "default"
    owner: str = ""
    """Role key or job id; empty for a pod that Tidal does not know."""
    group: str = ""
    gpus: int
    """Whole ones."""
    share: Share = NO_SHARE
    """Of one card, where it asks that."""
    resource: str = "nvidia.com/gpu"
    priority: int = 0
    nominated: str = ""
    """Node that kube-scheduler freed for this pod by preemption."""
    cpu_milli: int = 0
    memory_mib: int = 0
    choosy: bool = False
    """Whether kube-scheduler should choose among several nodes: the pod prefers some, or one that
    it was given before did not do."""

    @property
    def asks(self) -> bool:
        """Whether it asks for any GPU, or a part of one."""
        return self.gpus > 0 or self.share != NO_SHARE

    @property
    def shape(self) -> PodShape:
        """What the pod takes of its node."""
        return _shape(self)


class Bind(msgspec.Struct, frozen=True, array_like=True):
    """A pod on its node, bound at `at_seconds`."""

    uid: str
    owner: str
    group: str
    node: str
    gpus: int
    at_seconds: float
    share: Share = NO_SHARE
    cpu_milli: int = 0
    memory_mib: int = 0

    @property
    def shape(self) -> PodShape:
        """What the pod takes of its node."""
        return _shape(self)


def _shape(pod: PodAsk | Bind) -> PodShape:
    if pod.share != NO_SHARE:
        return PodShape(pod.cpu_milli, pod.memory_mib, 1, pod.share.milli)
    milli = WHOLE_GPU_MILLI if pod.gpus else 0
    return PodShape(pod.cpu_milli, pod.memory_mib, pod.gpus, milli)


class Place(msgspec.Struct, frozen=True, array_like=True):
    """One node; GPUs are whole but for those in `deck`."""

    name: str
    leaf: tuple[str, ...]
    resource: str
    free: int
    releasing: int
    """Held by pods on their way out; kube-scheduler knows first when they are gone."""
    total: int
    schedulable: bool
    leaving: tuple[str, ...] = ()
    """Jobs and roles whose pods are on their way out of here, by name."""
    cpu_milli: int = UNBOUNDED
    """Free, as far as pods are known."""
    memory_mib: int = UNBOUNDED
    deck: Deck = NO_DECK
    """What is left of cards that pods share, and what they may have of a whole one."""
    sliced: bool = False
    """What pods ask here as GPUs are slices of cards, which kube-scheduler alone counts."""
    kind: int = -1
    """Its place in the plan's prices; -1 where the plan did not know such a node."""

    @property
    def room(self) -> Room:
        """The node as a host of single pods; what is being released counts as free."""
        whole = min(self.free + self.releasing, self.total)
        shared = (self._least(card) for card in self.deck.cards)
        cards = (*shared, *(WHOLE_GPU_MILLI,) * whole)[: self.total]
        cards += (0,) * (self.total - len(cards))
        model = self.leaf[-1] if self.leaf else ""
        return Room(Host(self.name, model, self.cpu_milli, self.memory_mib, cards), self.kind)

    @property
    def sharing(self) -> bool:
        """Whether pods may share cards; kube-scheduler then counts them as something else."""
        return self.deck.whole != NO_SHARE

    def opened(self, shares: Iterable[Share]) -> int:
        """Return how many whole GPUs these parts take; more than there are where one fits none."""
        taken = self.deck._replace(shares=tuple(sorted(shares))).taken
        return self.total + 1 if taken is None else taken

    def _least(self, card: Share) -> int:
        """Return the part of a card that is left by milli-GPU and by memory."""
        return min(card.milli, card.memory_mib * WHOLE_GPU_MILLI // self.deck.whole.memory_mib)


class Floor(msgspec.Struct, frozen=True, array_like=True):
    """A role that must spread (see `spreading`), and where it stands."""

    owner: str
    level: Level
    most: int
    """Replicas, or pods on nodes, that one failure domain may hold."""
    bound: tuple[Bind, ...]
    """All its pods on nodes but those of replicas that go."""


class Beside(msgspec.Struct, frozen=True, array_like=True):
    """A role that must stand beside others (see `closeness`), and where these are."""

    owner: str
    level: Level
    domains: frozenset[Domain]


class Victim(msgspec.Struct, frozen=True, array_like=True):
    """A pod of a job that is being stopped; kube-scheduler may evict no other."""

    uid: str
    node: str
    gpus: int


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """All that verdicts depend on, at `now_seconds`."""

    now_seconds: float
    planned_at_seconds: float
    epoch: int = 0
    plan_stale_seconds: float
    heuristic_stale_seconds: float
    nodes: tuple[Place, ...]
    reservations: tuple[Reservation, ...] = ()
    bound: tuple[Bind, ...] = ()
    """Pods of groups that are bound in part."""
    victims: tuple[Victim, ...] = ()
    seen: tuple[str, ...] = ()
    """Uids of bound pods that an extender may still remember as its own bind."""
    targets: tuple[tuple[str, Target], ...] = ()
    """Role keys and their workloads: whose a pod is that no snapshot has shown yet."""
    jobs: tuple[str, ...] = ()
    """Tidal's jobs of which pods still wait for a node."""
    stopping: tuple[str, ...] = ()
    """Jobs that the plan stops: a pod that their controller still makes gets no GPU."""
    floors: tuple[Floor, ...] = ()
    beside: tuple[Beside, ...] = ()
    to_come: Population = ()
    """Pods that queue and forecast will ask, by which nodes are preferred."""
    prices: Prices = Prices()
    """The plan's, of room that they will need."""


def standing_of(snapshot: Snapshot, plan: Plan, policy: Policy) -> Standing:
    """Return what the extender answers from until the next observation."""
    return Standing(
        now_seconds=snapshot.now_seconds,
        planned_at_seconds=plan.at_seconds,
        epoch=snapshot.epoch,
        plan_stale_seconds=policy.extender.plan_stale_seconds,
        heuristic_stale_seconds=policy.extender.heuristic_stale_seconds,
        nodes=_places(snapshot, _leaving(snapshot, plan), plan.prices),
        reservations=plan.reservations,
        bound=(*_replica_siblings(snapshot), *_job_siblings(snapshot)),
        victims=tuple(_victims(snapshot)),
        seen=tuple(_seen(snapshot)),
        targets=tuple(policy.targets()),
        jobs=tuple(job.id for job in snapshot.jobs if job.state != "queued" and _waits(job)),
        stopping=_stopping(snapshot, plan),
        floors=tuple(_floors(snapshot, policy)),
        beside=tuple(_beside(snapshot, policy)),
        to_come=plan.to_come,
        prices=plan.prices,
    )


def _victims(snapshot: Snapshot) -> Iterator[Victim]:
    """Bound pods of jobs that are being stopped, which are on their way out already.

    Pods of a job that the plan only means to stop are not among them, nor those whose eviction a
    budget holds back: there is one preemptor, and kube-scheduler would be a second one, past the
    budgets that evictions keep. A pod that is on its way out it lets go without a call of its own
    (a call that finds the pod gone leaves its claimant waiting for minutes: kubernetes#141694).
    """
    for job in snapshot.jobs:
        if job.state == "stopping":
            going = (pod for pod in job.placed if pod.node and pod.leaving)
            yield from (Victim(pod.uid, pod.node, pod.gpus) for pod in going)


def _stopping(snapshot: Snapshot, plan: Plan) -> tuple[str, ...]:
    stopped = {action.job for action in plan.actions if isinstance(action, StopJob)}
    return tuple(job.id for job in snapshot.jobs if job.state == "stopping" or job.id in stopped)


def _leaving(snapshot: Snapshot, plan: Plan) -> dict[str, tuple[int, tuple[str, ...]]]:
    """GPUs per node, and whose: jobs that stop, shrink or have notice, and replicas that go."""
    total: dict[str, tuple[int, tuple[str, ...]]] = {}
    going = chain(_pods_of_jobs(snapshot, plan), _pods_of_roles(snapshot, plan))
    for node, gpus, whose in sorted((pod.node, pod.gpus, whose) for pod, whose in going):
        before, names = total.get(node, (0, ()))
        total[node] = (before + gpus, names if whose in names else (*names, whose))
    return total


def _pods_of_jobs(snapshot: Snapshot, plan: Plan) -> Iterator[tuple[Pod, str]]:
    """Bound pods that go, with the job."""
    resized = (action for action in plan.actions if isinstance(action, ResizeJob))
    released = {(action.job, pod) for action in resized for pod in action.release}
    stopped = set(_stopping(snapshot, plan))
    for job in snapshot.jobs:
        whole = job.id in stopped or job.state in {"notified", "acknowledged"}
        for pod in job.placed:
            if pod.node and (whole or (job.id, pod.name) in released):
                yield pod, job.id


def _pods_of_roles(snapshot: Snapshot, plan: Plan) -> Iterator[tuple[Pod, str]]:
    """Bound pods that go, with the role."""
    scaled = (action for action in plan.actions if isinstance(action, ScaleRole))
    retired = {replica for action in scaled for replica in action.retire}
    for replica in snapshot.replicas:
        if replica.state == "draining" or replica.id in retired:
            yield from ((pod, replica.role) for pod in replica.pods if pod.node)


def _places(
    snapshot: Snapshot, leaving: dict[str, tuple[int, tuple[str, ...]]], prices: Prices
) -> tuple[Place, ...]:
    nobody: tuple[int, tuple[str, ...]] = (0, ())
    kinds = {kind: place for place, kind in enumerate(prices.kinds)}

    def place(node: Node) -> Place:
        releasing, names = leaving.get(node.name, nobody)
        cpu, memory = free_room(node)
        return Place(
            name=node.name,
            leaf=node.leaf,
            resource=node.resource_name,
            free=node.free_gpus,
            releasing=releasing,
            total=len(node.devices),
            schedulable=node.schedulable,
            leaving=tuple(sorted(names)),
            cpu_milli=cpu,
            memory_mib=memory,
            deck=deck_of(node),
            sliced=node.sharing == "slices",
            kind=kinds.get(kind_of(node), -1),
        )

    return tuple(place(node) for node in snapshot.nodes)


def _replica_siblings(snapshot: Snapshot) -> Iterator[Bind]:
    for replica in snapshot.replicas:
        if any(not pod.node for pod in replica.pods):
            yield from _binds(replica.role, replica.id, replica.pods)


def _job_siblings(snapshot: Snapshot) -> Iterator[Bind]:
    for job in snapshot.jobs:
        if _waits(job):
            yield from _binds(job.id, job.id, job.placed)


def _waits(job: Job) -> bool:
    """Whether pods of the job are without a node."""
    bound = sum(1 for pod in job.placed if pod.node)
    return bound < max(job.pods, len(job.placed))


def _binds(owner: str, group: str, pods: tuple[Pod, ...]) -> Iterator[Bind]:
    """A pod of unknown age counts as old: it then fills no reservation."""
    for pod in pods:
        if pod.node:
            at = 0.0 if pod.bound_seconds is None else pod.bound_seconds
            yield Bind(pod.uid, owner, group, pod.node, pod.gpus, at, pod.share)


def _floors(snapshot: Snapshot, policy: Policy) -> Iterator[Floor]:
    for role in snapshot.roles:
        terms = terms_of(snapshot, policy, role, company(snapshot, policy, role.key))
        if terms is None:
            continue
        mine = [r for r in snapshot.replicas if r.role == role.key and r.state != "draining"]
        bound = tuple(bind for one in mine for bind in _binds(role.key, one.id, one.pods))
        yield Floor(role.key, terms.level, terms.most(max(role.replicas, len(mine))), bound)


def _beside(snapshot: Snapshot, policy: Policy) -> Iterator[Beside]:
    for role in snapshot.roles:
        others = company(snapshot, policy, role.key)
        if others is not None:
            level = policy.models[role.model].proximity_level
            yield Beside(role.key, level, others.every)


def _seen(snapshot: Snapshot) -> Iterator[str]:
    """Uids of pods that may have been bound within the memory of binds, and of strangers."""
    since = snapshot.now_seconds - 2 * BIND_MEMORY_SECONDS  # a job may start before its last bind
    for replica in snapshot.replicas:
        if _fresh_replica(replica, since):
            yield from (pod.uid for pod in replica.pods if pod.node)
    for job in snapshot.jobs:
        if _fresh_job(job, since):
            yield from (pod.uid for pod in job.placed if pod.node)
    known = {replica.id for replica in snapshot.replicas} | {job.id for job in snapshot.jobs}
    for node in snapshot.nodes:
        for device in node.devices:
            yield from (holder.owner for holder in device.holders if holder.owner not in known)


def _fresh_replica(replica: Replica, since: float) -> bool:
    return replica.ready_seconds is None or replica.ready_seconds >= since


def _fresh_job(job: Job, since: float) -> bool:
    elastic = job.min_pods != job.max_pods
    return elastic or job.started_seconds is None or job.started_seconds >= since
