"""Who plans: one Lease, held by at most one process at a time.

A thread creates, takes, renews and gives back the Lease; every write is guarded by the version it
read. Others may take it once it has not changed for `duration_seconds` as they themselves counted
them, so no two clocks are compared. The holder stops `deadline_seconds` after it sent its last
successful renewal, which is earlier. `epoch` rises with each change of holder and fences writes.
"""

import threading
from collections.abc import Callable
from http import HTTPStatus

import msgspec

from scheduler.apiserver import times
from scheduler.apiserver.client import Api, ApiError, ApiUnreachableError
from scheduler.apiserver.objects import Lease, LeaseSpec

STOP_SECONDS = 5.0
_FAILURES = (ApiError, ApiUnreachableError, msgspec.MsgspecError)


class LeaseTiming(msgspec.Struct, frozen=True, kw_only=True):
    """In seconds: `renew` < `deadline` < `duration`; what lies between is left for the network."""

    duration: float = 9.0
    renew: float = 2.0
    deadline: float = 6.0
    follow: float = 1.0
    """How often a follower looks."""


class _Seen(msgspec.Struct, frozen=True):
    """A version of the Lease, and when it was seen first."""

    version: str
    at: float


class Leadership:
    """`is_leader` is true in at most one process; `start` and `stop` its thread.

    `identity` must be unique to the process: a restarted one is another holder. `clock` counts
    seconds steadily, also while the machine sleeps; `now_seconds` is Unix time, for people only.
    `known_epoch` tells the highest epoch found in the cluster, so that a Lease that somebody
    deleted does not start again below it.
    """

    def __init__(  # noqa: PLR0913 - one collaborator each
        self,
        api: Api,
        namespace: str,
        identity: str,
        clock: Callable[[], float],
        now_seconds: Callable[[], float],
        *,
        name: str = "tidal-planner",
        timing: LeaseTiming = LeaseTiming(),  # noqa: B008 - frozen
        on_change: Callable[[], None] = lambda: None,
        known_epoch: Callable[[], int] = lambda: 0,
    ) -> None:
        """`on_change` is called from the thread when the lead was taken or lost."""
        self._api = api
        self._all = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._all}/{name}"
        self._name = name
        self.identity = identity
        self._clock = clock
        self._now_seconds = now_seconds
        self._timing = timing
        self._on_change = on_change
        self._known_epoch = known_epoch
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tidal-lease", daemon=True)
        self._seen: _Seen | None = None
        self._led = False
        self._epoch = 0
        self._lead_ends = float("-inf")
        self.holder = ""
        """Who held the Lease when it was last read or written."""
        self.error = ""
        """Why the last look or renewal failed; empty after one that did not."""

    @property
    def is_leader(self) -> bool:
        """Whether this process may act now, by the clock."""
        with self._lock:
            return self._clock() < self._lead_ends

    @property
    def epoch(self) -> int:
        """The epoch of the present or the last term of this process; 0 before the first."""
        with self._lock:
            return self._epoch

    def start(self) -> None:
        """Begin to seek the lead."""
        self._thread.start()

    def stop(self) -> None:
        """Give the Lease back, so that a follower acts at once; call it when nothing acts."""
        self._stopped.set()
        self._thread.join(STOP_SECONDS)

    def step(self) -> float:
        """Look at the Lease once, take or renew it where that is right; return seconds to wait."""
        try:
            self._look()
            self.error = ""
        except _FAILURES as error:
            self.error = str(error)
        leads = self.is_leader
        if leads != self._led:
            self._led = leads
            self._on_change()
        return self._timing.renew if leads and not self.error else self._timing.follow

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._stopped.wait(self.step())
        self._release()

    def _look(self) -> None:
        asked_at = self._clock()
        try:
            lease = msgspec.json.decode(self._api.get(self._path), type=Lease)
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            self._end()
            self._create(asked_at)
            return
        self._observe(lease, self._clock())
        holder = self.holder
        if holder == self.identity:
            self._write(lease, lease.spec.lease_transitions, asked_at)
            return
        self._end()
        if not holder or self._expired(lease.spec):
            self._write(lease, self._next_transitions(lease.spec), asked_at)

    def _observe(self, lease: Lease, at: float) -> None:
        self.holder = lease.spec.holder_identity or ""
        version = lease.metadata.resource_version
        if self._seen is None or self._seen.version != version:
            self._seen = _Seen(version, at)

    def _expired(self, spec: LeaseSpec) -> bool:
        """Whether nothing was written for as long as the holder promised to need at most."""
        lasts = spec.lease_duration_seconds or self._timing.duration
        return self._seen is not None and self._clock() - self._seen.at >= lasts

    def _next_transitions(self, spec: LeaseSpec) -> int:
        return max(spec.lease_transitions + 1, self._least_transitions())

    def _least_transitions(self) -> int:
        """An epoch is transitions + 1, so the highest known one is the least that is above it."""
        return max(self._known_epoch(), self.epoch)

    def _create(self, asked_at: float) -> None:
        transitions = self._least_transitions()
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": self._spec(transitions) | {"acquireTime": self._time()},
        }
        self._held(self._api.post(self._all, body), transitions, asked_at)

    def _write(self, lease: Lease, transitions: int, asked_at: float) -> None:
        """Renew or take it; fails with 409 where somebody else wrote meanwhile."""
        spec = self._spec(transitions)
        if self.holder != self.identity:
            spec |= {"acquireTime": self._time()}
        self._held(self._patch(lease.metadata.resource_version, spec), transitions, asked_at)

    def _patch(self, version: str, spec: dict[str, object]) -> bytes:
        body = {"metadata": {"resourceVersion": version}, "spec": spec}
        return self._api.patch(self._path, body, "merge")

    def _held(self, answer: bytes, transitions: int, asked_at: float) -> None:
        """Count the term from before the first request: nobody can have seen it earlier."""
        self._observe(msgspec.json.decode(answer, type=Lease), self._clock())
        with self._lock:
            self._epoch = transitions + 1
            self._lead_ends = asked_at + self._timing.deadline

    def _end(self) -> None:
        with self._lock:
            self._lead_ends = float("-inf")

    def _release(self) -> None:
        self._end()
        try:
            lease = msgspec.json.decode(self._api.get(self._path), type=Lease)
            if lease.spec.holder_identity == self.identity:
                self._patch(lease.metadata.resource_version, {"holderIdentity": ""})
        except _FAILURES as error:
            self.error = str(error)

    def _spec(self, transitions: int) -> dict[str, object]:
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": round(self._timing.duration),
            "leaseTransitions": transitions,
            "renewTime": self._time(),
        }

    def _time(self) -> str:
        return times.micro_text(self._now_seconds())
