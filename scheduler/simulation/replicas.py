"""Serving replicas: a controller per role creates and removes them, and each lives its life.

    pending -> starting -> ready -> draining -> gone

The controller works like that of a Deployment: it makes replicas until there are `spec.replicas`
and removes those named first, then the youngest. Changes of state fall on the step grid: a start
that ends inside a step is ready at the next one. Physics says when a draining replica runs
nothing any more; the longest drain of the world bounds it.
"""

import heapq
from collections import Counter, defaultdict, deque
from math import inf

import msgspec

from scheduler.simulation.devices import Pod
from scheduler.simulation.events import Sink
from scheduler.simulation.pods import KubeScheduler, Waiting
from scheduler.simulation.replica import PoolKey, Replica, RoleState, Workload, draw_start_seconds
from scheduler.simulation.worldfile import Starts, Tier

ONLINE_PRIORITY = 1000
"""Above every batch priority."""
_REMEMBERED_STARTS = 256


class Started(msgspec.Struct, frozen=True):
    """A start that succeeded, from bound to ready."""

    role: str
    tier: Tier
    seconds: float


class Replicas:
    """All roles and their replicas, and the counts that physics needs."""

    def __init__(
        self,
        workloads: tuple[Workload, ...],
        starts: Starts,
        seed: int,
        scheduler: KubeScheduler,
        sink: Sink,
    ) -> None:
        self.roles = {one.key: RoleState(one) for one in sorted(workloads, key=lambda w: w.key)}
        self.all: dict[str, Replica] = {}
        self.ready: Counter[PoolKey] = Counter()
        self.draining: Counter[PoolKey] = Counter()
        self.started: deque[Started] = deque(maxlen=_REMEMBERED_STARTS)
        self._drains: dict[PoolKey, list[Replica]] = defaultdict(list)
        """Replicas that still have requests, the first to drain first."""
        self.starts_count = 0
        """Starts that succeeded since the beginning; `started` remembers the last ones."""
        self._lost: Counter[PoolKey] = Counter()
        self._starts = starts
        self._seed = seed
        self._scheduler = scheduler
        self._sink = sink
        self._wakes: list[tuple[float, str]] = []
        self._unsettled = dict.fromkeys(self.roles)

    def scale(self, key: str, replicas: int, retire: tuple[str, ...], now_seconds: float) -> None:
        """Set `spec.replicas`; the replicas named go first, whatever the count says."""
        role = self.roles[key]
        role.replicas = replicas
        for name in retire:
            self._retire(role.live[name], now_seconds)
        self._unsettled[key] = None

    def reconcile(self, now_seconds: float) -> None:
        """Let the controllers make and remove replicas until the counts fit."""
        for key in self._unsettled:
            role = self.roles[key]
            while len(role.live) > role.replicas:
                self._retire(_first_to_go(role), now_seconds)
            while len(role.live) < role.replicas:
                self._create(role, now_seconds)
        self._unsettled.clear()

    def bound(self, pod: Pod, now_seconds: float) -> Replica | None:
        """Take note that a pod was bound; return its replica once that was the last one."""
        replica = self.all[pod.holder]
        replica.changed()
        whole = all(one.node for one in replica.pods)
        if whole:
            first = replica.pods[0].node
            replica.gpu_model = first.gpu_model if first else ""
            replica.state = "starting"
            replica.bound_seconds = now_seconds
            self._wake(replica, now_seconds + replica.start_seconds)
        self._sink(replica.line(now_seconds))
        return replica if whole else None

    def advance(self, now_seconds: float) -> list[Replica]:
        """Pass through what is due by now; return the replicas that got ready."""
        ready = []
        while self._wakes and self._wakes[0][0] <= now_seconds:
            due, name = heapq.heappop(self._wakes)
            replica = self.all.get(name)
            if replica is None or replica.wakes_seconds != due:
                continue
            if replica.state == "starting":
                self._make_ready(replica, now_seconds)
                ready.append(replica)
            else:
                self._remove(replica, now_seconds)
        return ready

    def drained(self, pool: PoolKey, count: int, now_seconds: float) -> None:
        """Physics says that the first `count` draining replicas of a pool run nothing any more."""
        for replica in self._drains[pool][:count]:
            gone_seconds = now_seconds + self._starts.exit_seconds
            if replica.wakes_seconds > gone_seconds:
                self._wake(replica, gone_seconds)

    def tear_away(self, name: str, now_seconds: float) -> None:
        """Take a replica away at once; its controller makes another."""
        replica = self.all[name]
        if replica.state == "ready":
            self._lost[replica.pool] += 1
        if replica.role.live.pop(name, None) is not None:
            self._unsettled[replica.role.workload.key] = None
        self._remove(replica, now_seconds)

    def take_lost(self) -> Counter[PoolKey]:
        """Return the ready replicas torn away since the last call."""
        lost, self._lost = self._lost, Counter()
        return lost

    def _create(self, role: RoleState, now_seconds: float) -> None:
        role.made += 1
        workload = role.workload
        name = f"{workload.key.replace('/', '-')}-{role.made:05d}"
        tier = self._starts.tier
        seconds = draw_start_seconds(self._starts, workload, self._seed, role.made)
        replica = Replica(role, name, tier, seconds, now_seconds)
        self.all[name] = role.live[name] = replica
        self._scheduler.add(
            Waiting.of(pod, workload.key, ONLINE_PRIORITY, workload.gpu_models, now_seconds)
            for pod in replica.pods
        )
        self._sink(replica.line(now_seconds))

    def _retire(self, replica: Replica, now_seconds: float) -> None:
        del replica.role.live[replica.id]
        held = [pod for pod in replica.pods if pod.node]
        self._scheduler.remove(replica.pods)
        replica.changed()
        if not held:
            self._remove(replica, now_seconds)
            return
        lasts = self._starts.exit_seconds
        if replica.state == "ready":
            lasts = max(lasts, self._starts.drain_seconds_max)
            self._count(self.ready, replica.pool, -1)
            self._count(self.draining, replica.pool, 1)
            self._drains[replica.pool].append(replica)
        replica.state = "draining"
        replica.pods = held
        self._wake(replica, now_seconds + lasts)
        self._sink(replica.line(now_seconds))

    def _make_ready(self, replica: Replica, now_seconds: float) -> None:
        replica.state = "ready"
        replica.ready_seconds = now_seconds
        replica.wakes_seconds = inf
        replica.changed()
        self._count(self.ready, replica.pool, 1)
        seconds = now_seconds - (replica.bound_seconds or now_seconds)
        self.starts_count += 1
        self.started.append(Started(replica.role.workload.key, replica.tier, seconds))
        self._sink(replica.line(now_seconds))

    def _remove(self, replica: Replica, now_seconds: float) -> None:
        """Free the devices and forget the replica."""
        del self.all[replica.id]
        self._scheduler.remove(replica.pods)
        if replica.state == "ready":
            self._count(self.ready, replica.pool, -1)
        elif replica in self._drains[replica.pool]:
            self._count(self.draining, replica.pool, -1)
            self._drains[replica.pool].remove(replica)
        for pod in replica.pods:
            if pod.node:
                pod.node.release(pod)
        self._sink(replica.line(now_seconds, gone=True))

    def _count(self, counts: Counter[PoolKey], pool: PoolKey, by: int) -> None:
        counts[pool] += by
        if not counts[pool]:
            del counts[pool]

    def _wake(self, replica: Replica, at_seconds: float) -> None:
        replica.wakes_seconds = at_seconds
        heapq.heappush(self._wakes, (at_seconds, replica.id))


def _first_to_go(role: RoleState) -> Replica:
    """Return the youngest, those not bound before those that are."""
    waiting = [replica for replica in role.live.values() if replica.state == "pending"]
    return waiting[-1] if waiting else next(reversed(role.live.values()))
