"""What differs between the replica that leads and those that follow; the tick is the same in both.

Every replica observes, plans and answers kube-scheduler. The leader shares its plan first, so that
all replicas answer from it, and then acts. A follower answers from the shared plan and acts on
nothing; its own plans keep windows and beliefs warm, so that it can take over at once. A newly
shared plan reaches its extender at once, not at its next tick: kube-scheduler may ask any replica
about the pods of a job that the leader starts a moment after it has shared their place.
"""

import threading
from collections.abc import Callable

import msgspec

from scheduler.adapters.cluster.lease import Leadership
from scheduler.adapters.cluster.observer import OwnState
from scheduler.adapters.cluster.shared import (
    FencedOffError,
    PlanReader,
    PlanWriter,
    SharedPlan,
    blocks_of,
)
from scheduler.apiserver.client import ApiError, ApiUnreachableError
from scheduler.planning.actions import Action, Plan, StopJob
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import Reservation, Snapshot
from scheduler.planning.standing import Standing, standing_of
from scheduler.ports import Actuator, Outcome


class Shared:
    """The plan in force: the one this process wrote last, or a newer one that it has read."""

    def __init__(self, reader: PlanReader, writer: PlanWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._written: SharedPlan | None = None
        self.error = ""
        """Why the last plan could not be shared."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps the plan from being shared or read, a sentence for each."""
        return tuple(one for one in (self.error, self._reader.problem, self._reader.error) if one)

    @property
    def synced(self) -> bool:
        """Whether no plan means that there is none."""
        return self._reader.synced

    def newest(self) -> SharedPlan | None:
        """Return the plan in force, None where there never was one."""
        read, written = self._reader.newest(), self._written
        if read is None or written is None:
            return read or written
        return max(written, read, key=lambda one: (one.epoch, one.at_seconds))

    def write(self, snapshot: Snapshot, plan: Plan) -> None:
        """Share the plan; where that fails `error` says why, and followers keep the last one."""
        stopping = tuple(one.job for one in plan.actions if isinstance(one, StopJob))
        shared = SharedPlan(
            at_seconds=plan.at_seconds,
            epoch=snapshot.epoch,
            source=plan.source,
            summary=plan.summary,
            reservations=plan.reservations,
            stopping=stopping,
            stops=plan.stops,
        )
        self._written = shared
        try:
            self._writer.write(shared, blocks_of(snapshot.nodes))
            self.error = ""
        except (ApiError, ApiUnreachableError, FencedOffError, msgspec.MsgspecError) as error:
            self.error = f"the plan is not shared: {error}"


class LedActuator:
    """`ports.Actuator` that acts only while this process leads."""

    def __init__(self, actuator: Actuator, leadership: Leadership, shared: Shared) -> None:
        self._actuator = actuator
        self._leadership = leadership
        self._shared = shared

    def reserve(self, reservations: tuple[Reservation, ...], epoch: int) -> None:
        """Lift gates and wake who waits, as the leader, once every replica knows the plan."""
        if self._leads(epoch) and not self._shared.error:
            self._actuator.reserve(reservations, epoch)

    def apply(self, actions: tuple[Action, ...], epoch: int) -> tuple[Outcome, ...]:
        """Apply as the leader; else drop all and say who leads."""
        if self._leads(epoch):
            return self._actuator.apply(actions, epoch)
        detail = f"this replica follows; {self._leadership.holder or 'nobody'} leads"
        return tuple(Outcome(action, applied=False, detail=detail) for action in actions)

    def _leads(self, epoch: int) -> bool:
        """Whether the plan was made in the present term."""
        return self._leadership.is_leader and epoch == self._leadership.epoch


class Publisher:
    """Gives the extender of this replica the plan in force, and shares the leader's.

    Called by the tick, and through `follow` by the thread that watches the shared plan; `send` is
    called by one of them at a time, and never after `stop`.
    """

    def __init__(
        self,
        leadership: Leadership,
        shared: Shared,
        policy: Callable[[], Policy],
        send: Callable[[Standing], None],
        now_seconds: Callable[[], float],
    ) -> None:
        self._leadership = leadership
        self._shared = shared
        self._policy = policy
        self._send = send
        self._now_seconds = now_seconds
        self._lock = threading.Lock()
        self._seen: tuple[Snapshot, Plan] | None = None
        """The last tick's snapshot, and this replica's own plan."""
        self._told: SharedPlan | None = None
        """The shared plan that the extender answers from."""

    def __call__(self, snapshot: Snapshot, plan: Plan) -> None:
        """Publish what the extender answers from until the next tick."""
        if self._leads(snapshot):
            self._shared.write(snapshot, plan)
            with self._lock:
                self._seen, self._told = (snapshot, plan), None
                self._send(standing_of(snapshot, plan, self._policy()))
            return
        self._shared.error = ""  # of a plan that was this replica's while it led
        with self._lock:
            self._seen = (snapshot, plan)
            self._follow(snapshot, plan)

    def follow(self) -> None:
        """Publish the shared plan where it is a newer one, over what the last tick observed."""
        with self._lock:
            if self._seen is None:
                return
            snapshot, plan = self._seen
            if not self._leads(snapshot) and self._shared.newest() != self._told:
                now = msgspec.structs.replace(snapshot, now_seconds=self._now_seconds())
                self._follow(now, plan)

    def stop(self) -> None:
        """Publish nothing of a newer shared plan any more."""
        with self._lock:
            self._seen = None

    def _follow(self, snapshot: Snapshot, own: Plan) -> None:
        self._told = self._shared.newest()
        self._send(standing_of(snapshot, followed(self._told, own), self._policy()))

    def _leads(self, snapshot: Snapshot) -> bool:
        """Whether this replica leads, and did so when it observed."""
        return self._leadership.is_leader and snapshot.epoch == self._leadership.epoch


def followed(shared: SharedPlan | None, own: Plan) -> Plan:
    """Return the shared plan as a plan; without one, this replica's own without its actions.

    What is to come and its prices are not shared: they follow from what each replica observes.
    """
    if shared is None:
        return msgspec.structs.replace(own, actions=(), reservations=())
    stops = tuple(
        StopJob(job=job, expected_attempt=0, for_role="", code="recall", sentence="")
        for job in shared.stopping
    )
    return Plan(
        at_seconds=shared.at_seconds,
        source=shared.source,
        actions=stops,
        reservations=shared.reservations,
        to_come=own.to_come,
        prices=own.prices,
        summary=shared.summary,
    )


def own_state(
    leadership: Leadership, shared: Shared, blocked: Callable[[], dict[str, str]]
) -> Callable[[], OwnState]:
    """Return what an observation takes from Tidal's own state."""

    def read() -> OwnState:
        plan = shared.newest()
        epoch = plan.epoch if plan else 0
        return OwnState(
            reservations=plan.reservations if plan else (),
            stops=plan.stops if plan else (),
            blocked=blocked(),
            epoch=leadership.epoch if leadership.is_leader else epoch,
        )

    return read
