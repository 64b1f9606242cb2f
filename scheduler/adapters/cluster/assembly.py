"""From the objects of a cluster to a snapshot: pods on devices, replicas, jobs, roles.

Between `watching` and the planner; a function of what it is given. `Assembler` remembers what it
derived from each version of an object, so that an unchanged cluster costs little and unchanged
nodes stay the same values; it also keeps when a pod was first seen Ready, which the API forgets.
But for that a fresh `Assembler` gives the same snapshot.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import msgspec

from binpacking.inventory import Node
from scheduler.adapters.cluster import batchjobs, inventory, occupancy, podfacts, replicas
from scheduler.adapters.cluster.around import Around
from scheduler.adapters.cluster.budgets import by_namespace
from scheduler.adapters.cluster.cardless import NOTHING, Amount
from scheduler.adapters.cluster.grouping import Grouped, Held, group, in_order
from scheduler.adapters.cluster.observed import Observed
from scheduler.adapters.cluster.occupancy import Seat
from scheduler.adapters.cluster.overrides import hold
from scheduler.adapters.cluster.podfacts import PodFacts
from scheduler.adapters.cluster.sections import Frames, Sections
from scheduler.adapters.cluster.starts import start_seconds, start_signals
from scheduler.adapters.cluster.versions import Versions
from scheduler.adapters.cluster.workloads import Scalers, Workload, workloads
from scheduler.apiserver import objects
from scheduler.apiserver.sharing import per_pod
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import (
    Pod,
    Replica,
    Reservation,
    Role,
    Snapshot,
    StartSignal,
)
from scheduler.planning.targets import Targets


class Stand(msgspec.Struct, frozen=True, kw_only=True):
    """What depends on nodes, pods and the keys of roles and jobs; the same while these are."""

    facts: tuple[PodFacts, ...]
    frames: Frames
    keys: tuple[object, ...]
    grouped: Grouped
    nodes: tuple[Node, ...]
    replicas: tuple[Replica, ...]
    placed: dict[str, tuple[Pod, ...]]
    """Job id -> its pods."""
    starts: tuple[StartSignal, ...]


class Full(msgspec.Struct, frozen=True):
    """Nodes with what pods without GPU hold, and what they were made of."""

    bare: tuple[Node, ...]
    held: Mapping[str, Amount]
    nodes: dict[str, tuple[Node, Amount, Node]]
    whole: tuple[Node, ...]


class Assembler:
    """Makes snapshots of one cluster, one after the other; starts anew when the policy changes."""

    def __init__(self) -> None:
        self._policy: Policy | None = None
        self._lens: Lens | None = None

    def snapshot(
        self,
        observed: Observed,
        policy: Policy,
        now_seconds: float,
        reservations: tuple[Reservation, ...] = (),
        blocked: Mapping[str, str] | None = None,
        epoch: int = 0,
    ) -> Snapshot:
        """Return the snapshot, without signals of engines and without forecasts.

        `blocked` names jobs that must not be stopped now, and why.
        """
        if self._lens is None or (policy is not self._policy and policy != self._policy):
            self._lens = Lens(policy)
        self._policy = policy
        seen = self._lens.snapshot(observed, now_seconds, blocked or {})
        return msgspec.structs.replace(seen, reservations=reservations, epoch=epoch)


class Lens:
    """The cluster as one policy reads it."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._rules = policy.kubernetes
        self._targets = dict(policy.targets())
        self._owners = Targets(self._targets.items())
        self._pods: Versions[objects.Pod, PodFacts] = Versions()
        self._frames: Versions[objects.Node, inventory.Frame | None] = Versions()
        self._jobs: Versions[objects.Job, batchjobs.JobFacts | None] = Versions()
        self._nodes: dict[str, tuple[inventory.Frame, Held, Node, dict[str, Seat]]] = {}
        self._sections = Sections()
        self._stand: Stand | None = None
        self._card: tuple[Frames, int] | None = None
        self._full: Full | None = None

    def snapshot(
        self, observed: Observed, now_seconds: float, blocked: Mapping[str, str]
    ) -> Snapshot:
        """Return the snapshot, without what Tidal itself keeps."""
        frames = self._frames.of(observed.nodes, lambda one, _: inventory.frame(one, self._rules))
        found = workloads(observed, self._targets.items(), self._rules.gpu_resources)
        jobs = self._job_facts(observed.jobs)
        words = (*(one.shape.terms for one in found.values()), *(j.terms for j in jobs.values()))
        sectioned = self._sections.of(frames, frozenset(one for one in words if one is not None))
        around = Around(
            now_seconds=now_seconds,
            blocked=blocked,
            budgets=by_namespace(observed.budgets),
            priorities=_priorities(observed.priority_classes),
            shut=sectioned.shut,
            card_memory_mib=self._card_memory(sectioned.frames),
        )
        roles = self._roles(observed, found, around)
        stand = self._standing(observed, sectioned.frames, roles, jobs, now_seconds)
        gangs, placed = stand.grouped.jobs, stand.placed
        made = tuple(
            batchjobs.job_of(one, gangs.get(key, ()), placed.get(key, ()), around)
            for key, one in jobs.items()
        )
        return Snapshot(
            now_seconds=now_seconds,
            nodes=self._with_cardless(stand.nodes, observed.cardless),
            roles=tuple(roles.values()),
            replicas=stand.replicas,
            jobs=made,
            loans=tuple(
                one.said.loan for one in jobs.values() if one.said.loan and not one.suspended
            ),
            starts=stand.starts,
        )

    def _card_memory(self, frames: Frames) -> int:
        """Return by which card parts of one are measured, as long as the nodes are the same."""
        if self._card is None or self._card[0] is not frames:
            nodes = (frame.node for frame in frames if frame is not None)
            self._card = frames, inventory.card_memory_mib(nodes)
        return self._card[1]

    def _roles(
        self, observed: Observed, found: Mapping[str, Workload], around: Around
    ) -> dict[str, Role]:
        scalers = Scalers(observed)
        roles = {}
        for key, one in sorted(found.items()):
            until = hold(one, around.now_seconds, self._rules.override_hold_seconds).until_seconds
            scaler = scalers.of(self._targets[key])
            roles[key] = replicas.role_of(key, self._policy, one, scaler, until, around)
        return roles

    def _job_facts(self, jobs: tuple[objects.Job, ...]) -> dict[str, batchjobs.JobFacts]:
        found = self._jobs.of(jobs, lambda one, _: batchjobs.facts_of(one, self._rules))
        ours = (one for one in found if one is not None and one.id not in self._targets)
        return {one.id: one for one in sorted(ours, key=lambda one: one.id)}

    def _standing(
        self,
        observed: Observed,
        frames: Frames,
        roles: dict[str, Role],
        jobs: dict[str, batchjobs.JobFacts],
        now_seconds: float,
    ) -> Stand:
        """Return the present stand, which is the former one where nothing in it has changed."""
        resources = self._rules.gpu_resources
        facts = self._pods.of(
            observed.pods,
            lambda pod, old: podfacts.facts_of(pod, self._owners, resources, now_seconds, old),
        )
        shapes = ((one.key, one.pods_per_replica, one.removable) for one in roles.values())
        keys: tuple[object, ...] = (*shapes, *jobs)
        old = self._stand
        if old and old.facts is facts and old.frames is frames and old.keys == keys:
            return old
        grouped = group(facts, roles, jobs)
        nodes, seats = self._occupied(frames, grouped.nodes)
        values = partial(_values, seats=seats, card=self._card_memory(frames))
        models = {one.name: one.gpu_model for one in nodes}
        self._stand = Stand(
            facts=facts,
            frames=frames,
            keys=keys,
            grouped=grouped,
            nodes=nodes,
            replicas=_replicas(grouped, roles, values, models),
            placed={key: values(in_order(each)) for key, each in grouped.jobs.items()},
            starts=_starts(grouped, roles),
        )
        return self._stand

    def _occupied(
        self, frames: Iterable[inventory.Frame | None], held: dict[str, Held]
    ) -> tuple[tuple[Node, ...], dict[str, Seat]]:
        """Return nodes in order of name, and each pod's seat; equal nodes stay the same."""
        known, seats = {}, {}
        for frame in frames:
            if frame is None:
                continue
            name = frame.node.name
            pods = held.get(name, ())
            old = self._nodes.get(name)
            if old is None or old[0] is not frame or old[1] != pods:
                node, own = occupancy.occupy(frame, pods)
                old = (frame, pods, old[2] if old and old[2] == node else node, own)
            known[name] = old
            seats.update(old[3])
        self._nodes = known
        return tuple(known[name][2] for name in sorted(known)), seats

    def _with_cardless(
        self, nodes: tuple[Node, ...], held: Mapping[str, Amount]
    ) -> tuple[Node, ...]:
        """Return the nodes with what pods without GPU hold; equal nodes stay the same."""
        if self._full is None or self._full.bare is not nodes or self._full.held is not held:
            before = self._full.nodes if self._full else {}
            known = {}
            for node in nodes:
                amount, old = held.get(node.name, NOTHING), before.get(node.name)
                if old is None or old[0] is not node or old[1] != amount:
                    old = node, amount, occupancy.beside(node, amount)
                known[node.name] = old
            self._full = Full(nodes, held, known, tuple(node for _, _, node in known.values()))
        return self._full.whole


def _values(facts: Iterable[PodFacts], seats: Mapping[str, Seat], card: int) -> tuple[Pod, ...]:
    """`card` is the memory of the card that parts of pods without a node are measured by."""
    found = ((one, seats.get(one.uid) or _asked(one, card)) for one in facts)
    return tuple(
        Pod(
            name=one.name,
            uid=one.uid,
            gpus=seat.gpus,
            share=seat.share,
            node=one.node,
            devices=seat.devices,
            bound_seconds=one.bound_by_seconds,
            leaving=one.terminating,
        )
        for one, seat in found
    )


def _asked(pod: PodFacts, card: int) -> Seat:
    gpus, share = per_pod(pod.gpus, pod.part, card)
    return Seat((), gpus, share)


def _replicas(
    grouped: Grouped,
    roles: Mapping[str, Role],
    values: Callable[[Sequence[PodFacts]], tuple[Pod, ...]],
    models: Mapping[str, str],
) -> tuple[Replica, ...]:
    """Return the replicas in order of role and id."""
    made = []
    for (role, _), facts in grouped.replicas.items():
        pods = values(facts)
        model = next((models.get(pod.node, "") for pod in pods if pod.node), "")
        made.append(replicas.replica_of(roles[role], facts, pods, model))
    return tuple(made)


def _starts(grouped: Grouped, roles: Mapping[str, Role]) -> tuple[StartSignal, ...]:
    measured: dict[str, list[float]] = {}
    for (role, _), facts in grouped.replicas.items():
        ready = all(one.ready_seconds is not None for one in facts)
        took = start_seconds(facts) if ready else None
        if took is not None and len(facts) >= roles[role].pods_per_replica:
            measured.setdefault(role, []).append(took)
    return start_signals(measured.items())


def _priorities(classes: Iterable[objects.PriorityClass]) -> dict[str, int]:
    """Return class -> value, and the value of Jobs without a class under the empty name."""
    found = {one.metadata.name: one.value for one in classes}
    default = max((one.value for one in classes if one.global_default), default=0)
    return {**found, "": default}
