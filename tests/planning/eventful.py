"""A small cluster to which anything may happen, planned by the real planner.

It keeps its own books, pod by pod, and shares no code with the simulation. Events are drawn from a
seed: demand, new jobs and their ends, binds, pods that go, checkpoints begun and told,
acknowledgements, owners who change their minds, disruption budgets, cordoned and lost nodes, sick
devices, actions that get lost, planners that start anew without a memory, and plans made from what
was true a tick before.
"""

from random import Random

import msgspec

from scheduler.planning.actions import (
    Action,
    NotifyJob,
    Plan,
    ResizeJob,
    ScaleRole,
    StartJob,
    StopJob,
)
from scheduler.planning.memory import Memory
from scheduler.planning.policy import Policy, parse
from scheduler.planning.snapshot import Job, Pod, Reservation
from tests.fixtures.worlds import H100
from tests.planning.books import GPUS_PER_REPLICA, HOUR, ROLE, Books, Run

TENANTS = ("red", "blue", "green")
GUARANTEED = {"green": 4}
LEVELS = ("node", "leaf")


def terms(chance: Random) -> Policy:
    """A policy with tight budgets."""
    role = {
        "gpus_per_pod": GPUS_PER_REPLICA,
        "tokens": "generated",
        "capacity_tokens_per_second": {H100: 1000.0},
        "scale_down": {"stabilization_window_seconds": 0},
        "quantile": 0.5,
        "minute_sigmas": 0.0,
        "min_replicas": 0,
        "spread": chance.choice([None, None, *({"level": one, "domains": 2} for one in LEVELS)]),
    }
    preemption = {
        "notice_seconds": chance.choice([0, 60, 60]),
        "minimum_runtime_seconds": chance.choice([0, 60, 300]),
        "protected_seconds": chance.choice([0, 300, 900]),
        "stops_per_hour": chance.choice([2, 6, 240]),
        "tenant_stops_per_hour": chance.choice([1, 4, 120]),
        "job_stops_per_hour": chance.choice([1, 2]),
        "online_priority": chance.choice([None, 5]),
        "guaranteed_gpus": chance.choice([{}, GUARANTEED]),
    }
    document = {
        "version": 1,
        "models": {"chat": {"roles": {"decode": role}}},
        "preemption": preemption,
    }
    return parse(document)


class Disturbed(msgspec.Struct, frozen=True):
    """A run that was told to stop or to shrink, and when."""

    at_seconds: float
    job: str
    tenant: str
    attempt: int
    kind: str


class World(Books):
    """What happens to a cluster, and what its planners have done."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)  # noqa: S311  # a numbered world, no secret
        self.policy = terms(self.chance)
        super().__init__([f"n{number}" for number in range(self.chance.randint(2, 4))])
        self.memory = Memory(since_seconds=0.0)
        self.made = 0
        self.disturbed: list[Disturbed] = []
        self.grown = 0
        self.waiting: dict[str, float] = {}
        """Since when a gang waits for its last pods."""
        self.before = self.snapshot()

    # ---- what happens --------------------------------------------------------------------------

    def happen(self) -> None:
        """Some events, in an order that is drawn too."""
        self.now += self.chance.choice([15.0, 15.0, 30.0, 120.0, 600.0])
        events = [
            self.demand_turns,
            self.jobs_come,
            self.jobs_come,
            self.a_job_ends,
            self.pods_bind,
            self.pods_go,
            self.checkpoints,
            self.acknowledgements,
            self.owners_and_budgets,
            self.nodes_change,
        ]
        self.chance.shuffle(events)
        for event in events:
            if self.chance.random() < 0.7:
                event()

    def demand_turns(self) -> None:
        """What arrives, and what is forecast to come."""
        self.demand = self.chance.choice([0.0, 0.0, 0.0, 500.0, 4000.0])
        self.coming = self.chance.choice([0.0, 2000.0, 5000.0, 9000.0])

    def jobs_come(self) -> None:
        if sum(run.suspended for run in self.jobs.values()) > 4:
            return
        self.made += 1
        chance = self.chance
        pods = chance.choice([1, 2, 2, 3, 4])
        saves = chance.random() < 0.8
        writes = chance.choice([None, 20.0, 20.0, 100.0]) if saves else None
        name = f"j{self.made}"
        self.jobs[name] = Run(
            Job(
                id=name,
                tenant=chance.choice(TENANTS),
                priority=chance.choice([1, 2, 5]),
                state="queued",
                pods=pods,
                gpus_per_pod=chance.choice([1, 2, 2, 4, 4, 8]),
                min_pods=chance.choice([1, 1, pods]),
                max_pods=pods,
                submitted_seconds=self.now,
                expected_remaining_seconds=chance.choice([300.0, 3600.0, 4 * HOUR]),
                checkpoint_interval_seconds=600.0 if saves else None,
                checkpoint_write_seconds=writes,
                restart_seconds=chance.choice([0.0, 60.0]),
            )
        )

    def a_job_ends(self) -> None:
        running = [key for key, run in self.jobs.items() if run.state == "running"]
        if running and self.chance.random() < 0.4:
            del self.jobs[self.chance.choice(running)]

    def pods_bind(self) -> None:
        """What waits goes where its owner has a reservation and devices are free."""
        for name, pod in self.replicas.items():
            if not pod.node:
                self.replicas[name] = self._bound(ROLE, pod)
        for key, run in self.jobs.items():
            for number, pod in enumerate(run.pods):
                if not run.suspended and not pod.node:
                    run.pods[number] = self._bound(key, pod)

    def _bound(self, owner: str, pod: Pod) -> Pod:
        """As the extender allows: on reserved GPUs; without any, on those that nobody claims."""
        mine = [one for one in self.reservations if one.owner == owner]
        if not mine:
            return self._anywhere(owner, pod)
        for reservation in mine:
            open_parts = list(reservation.parts)
            for one in self._filled(owner, reservation):
                open_parts.remove((one.node, one.gpus))
            for node, gpus in open_parts:
                room = self.free(node)
                if gpus == pod.gpus and len(room) >= gpus and node not in self.cordoned:
                    return self._on(pod, node)
        return pod

    def _anywhere(self, owner: str, pod: Pod) -> Pod:
        if owner == ROLE:
            return pod
        leaves = {self.leaf[one.node] for one in self.jobs[owner].pods if one.node}
        for node in sorted(self.leaf):
            kept = sum(gpus for r in self.reservations for name, gpus in r.parts if name == node)
            room = len(self.free(node)) - kept
            fits = room >= pod.gpus and node not in self.cordoned
            if fits and (not leaves or self.leaf[node] in leaves):
                return self._on(pod, node)
        return pod

    def _on(self, pod: Pod, node: str) -> Pod:
        devices = tuple(self.free(node)[: pod.gpus])
        return msgspec.structs.replace(pod, node=node, devices=devices, bound_seconds=self.now)

    def _filled(self, owner: str, reservation: Reservation) -> list[Pod]:
        pods = [pod for key, pod in self.pods() if (ROLE if key in self.replicas else key) == owner]
        found = []
        left = list(reservation.parts)
        for pod in pods:
            since = -1.0 if pod.bound_seconds is None else pod.bound_seconds
            if since >= reservation.created_seconds and (pod.node, pod.gpus) in left:
                left.remove((pod.node, pod.gpus))
                found.append(pod)
        return found

    def pods_go(self) -> None:
        """Pods on their way out are gone, some of them; a stopped job is queued when all are."""
        self.draining = {k: p for k, p in self.draining.items() if self.chance.random() < 0.3}
        for run in self.jobs.values():
            run.pods = [p for p in run.pods if not p.leaving or self.chance.random() < 0.3]
            if run.suspended and not run.pods:
                run.started = run.deadline = None
                run.acknowledged = False

    def checkpoints(self) -> None:
        for run in self.jobs.values():
            job = run.told
            if run.state == "running" and job.checkpoint_interval_seconds:
                if job.checkpoint_started_seconds is not None:
                    changes = {
                        "checkpoint_started_seconds": None,
                        "last_checkpoint_seconds": self.now,
                    }
                    run.told = msgspec.structs.replace(job, **changes)
                elif self.chance.random() < 0.4:
                    run.told = msgspec.structs.replace(job, checkpoint_started_seconds=self.now)

    def acknowledgements(self) -> None:
        for run in self.jobs.values():
            if run.state == "notified" and self.chance.random() < 0.5:
                run.acknowledged = True

    def owners_and_budgets(self) -> None:
        for run in self.jobs.values():
            changes: dict[str, object] = {}
            if self.chance.random() < (0.3 if run.told.held_by else 0.03):
                changes["held_by"] = "" if run.told.held_by else "a budget"
            if self.chance.random() < (0.03 if run.told.preemptible else 0.3):
                changes["preemptible"] = not run.told.preemptible
            run.told = msgspec.structs.replace(run.told, **changes)

    def nodes_change(self) -> None:
        name = self.chance.choice(sorted(self.leaf))
        roll = self.chance.random()
        if roll < 0.15:
            self.cordoned ^= {name}
        elif roll < 0.25:
            self.sick ^= {(name, self.chance.randrange(8))}
        elif roll < 0.30:
            self._lose(name)

    def _lose(self, name: str) -> None:
        """All pods of the node are torn away, whole gangs with them; the node comes back empty."""
        self.replicas = {k: p for k, p in self.replicas.items() if p.node != name}
        self.draining = {k: p for k, p in self.draining.items() if p.node != name}
        for run in self.jobs.values():
            if any(pod.node == name for pod in run.pods):
                run.pods = []
                run.suspended = True
                run.started = run.deadline = None
                run.acknowledged = False

    def taken_over(self) -> None:
        """Another planner takes over and remembers nothing: it reads the plan in force, and jobs.

        Of jobs that have ended since, only the plan tells.
        """
        self.memory = Memory(since_seconds=0.0)

    # ---- what is done --------------------------------------------------------------------------

    def apply(self, plan: Plan) -> None:
        """Apply the plan as an API server would let it; some actions get lost."""
        self.reservations, self.stops = plan.reservations, plan.stops
        for action in plan.actions:
            if self.chance.random() < 0.9:
                self._apply(action)
        self._controllers()

    def _apply(self, action: Action) -> None:
        if isinstance(action, ScaleRole):
            self._scale(action)
            return
        run = self.jobs.get(action.job)
        if run is None or run.told.attempt != action.expected_attempt:
            return
        match action:
            case StartJob() if run.state == "queued":
                self._start(run)
            case NotifyJob() if run.state in ("starting", "running"):
                run.deadline = action.deadline_seconds
                self._note(run, "notice")
            case StopJob() if run.state not in ("queued", "stopping"):
                self._stop(run, action)
            case ResizeJob() if action.code == "shrink" and run.state == "running":
                self._shrink(run, action)
            case ResizeJob() if action.code != "shrink" and run.state in ("running", "starting"):
                self._resize(run, action)
            case _:
                pass

    def _scale(self, action: ScaleRole) -> None:
        if action.expected_replicas != self.wanted:
            return
        self.wanted = action.replicas
        for name in action.retire:
            pod = self.replicas.pop(name, None)
            if pod is not None and pod.node:
                self.draining[name] = pod

    def _stop(self, run: Run, action: StopJob) -> None:
        if run.told.held_by or not run.told.preemptible:
            return
        if run.deadline is None and action.code != "stalled":
            self._note(run, "stop")
        run.suspended = True
        run.pods = [self._leaving(pod) for pod in run.pods if pod.node]

    def _shrink(self, run: Run, action: ResizeJob) -> None:
        self._note(run, "shrink", action.pods)
        run.told = msgspec.structs.replace(run.told, pods=action.pods)
        run.pods = [self._leaving(pod) if pod.name in action.release else pod for pod in run.pods]

    def _resize(self, run: Run, action: ResizeJob) -> None:
        """It gets pods, or goes on without those that never had a place."""
        assert run.told.min_pods <= action.pods <= run.told.max_pods
        assert not any(pod.node for pod in run.pods if pod.name in action.release)
        run.told = msgspec.structs.replace(run.told, pods=action.pods)
        run.pods = [pod for pod in run.pods if pod.name not in action.release]
        for _ in range(action.pods - sum(not pod.leaving for pod in run.pods)):
            self.made += 1
            name = f"{run.told.id}-more-{self.made}"
            run.pods.append(Pod(name=name, uid=name, gpus=run.told.gpus_per_pod))
        if action.code == "grow":
            self.grown += 1

    def _start(self, run: Run) -> None:
        run.told = msgspec.structs.replace(run.told, attempt=run.told.attempt + 1)
        run.suspended = False
        run.started = self.now
        prefix = f"{run.told.id}-{run.told.attempt}"
        run.pods = [
            Pod(name=f"{prefix}-{n}", uid=f"{prefix}-{n}", gpus=run.told.gpus_per_pod)
            for n in range(run.told.pods)
        ]

    def _leaving(self, pod: Pod) -> Pod:
        return msgspec.structs.replace(pod, leaving=True)

    def _note(self, run: Run, kind: str, pods: int = 0) -> None:
        job = run.told
        self.disturbed.append(Disturbed(self.now, job.id, job.tenant, job.attempt, kind))
        noted = (*job.stops, (job.attempt, pods, float(int(self.now))))
        run.told = msgspec.structs.replace(job, stops=noted)

    def _controllers(self) -> None:
        """The role's controller makes pods up to its count."""
        while len(self.replicas) < self.wanted:
            self.made += 1
            name = f"r{self.made}"
            self.replicas[name] = Pod(name=name, uid=name, gpus=GPUS_PER_REPLICA)
