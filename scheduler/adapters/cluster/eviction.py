"""Evictions of a job's pods through the Eviction API, so that disruption budgets are obeyed.

First a rehearsal: each budget must have room for all pods of the job, and the server, asked with
a dry run, must let each pod go. A job that a budget holds back is remembered for a while, so that
the planner looks for another. Then the Job is suspended, and only then its pods are evicted, each
by its uid and with its own grace period: evicted before, they would count as failures of the Job
and be made anew. What the server refuses by then is tried again in later calls; the Job's
controller ends those pods as well.
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus

import msgspec

from scheduler.adapters.cluster.budgets import by_namespace, matches
from scheduler.adapters.cluster.drivers.gangs import leaving, name_of, pod_path
from scheduler.adapters.cluster.drivers.writing import PASSING, Cluster, DroppedError
from scheduler.apiserver.client import ApiError, ApiUnreachableError
from scheduler.apiserver.objects import DisruptionBudget, Pod

BLOCKED_SECONDS = 120.0
"""How long a job that a budget holds back is no victim."""
TRIES = 20
"""Later calls in which an eviction is tried again."""
MOST_RETRIES = 50
"""Evictions tried again in one call."""

Spent = Mapping[tuple[str, str], int]
"""Namespace and name of a budget -> evictions under it."""


class _Cause(msgspec.Struct, frozen=True):
    reason: str = ""
    message: str = ""


class _Details(msgspec.Struct, frozen=True):
    causes: tuple[_Cause, ...] = ()


class _Status(msgspec.Struct, frozen=True):
    details: _Details | None = None


class Evictions:
    """May be called from several threads at once."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._blocked: dict[str, tuple[float, str]] = {}
        self._spent: dict[tuple[str, str], int] = {}
        self._left: dict[str, tuple[Pod, int]] = {}

    def begin(self) -> None:
        """Start a call: what was taken of budgets before shows in their status by now."""
        with self._lock:
            self._spent.clear()

    def blocked(self, now_seconds: float) -> dict[str, str]:
        """Return the jobs that a budget holds back, and why."""
        with self._lock:
            for job, (until, _) in tuple(self._blocked.items()):
                if until <= now_seconds:
                    del self._blocked[job]
            return {job: why for job, (_, why) in sorted(self._blocked.items())}

    @contextlib.contextmanager
    def rehearsed(
        self, job: str, pods: tuple[Pod, ...], budgets: tuple[DisruptionBudget, ...]
    ) -> Iterator[None]:
        """Hold room in the budgets for all these pods; given back where the body fails.

        Raises DroppedError where a budget forbids it.
        """
        try:
            needed = self._take(pods, budgets)
        except DroppedError as dropped:
            self._block(job, str(dropped))
            raise
        try:
            for pod in pods:
                self._rehearse(job, pod)
            yield
        except BaseException:
            with self._lock:
                for key, count in needed.items():
                    self._spent[key] -= count
            raise

    def evict(self, pods: tuple[Pod, ...]) -> str:
        """Evict; return a sentence where some are left for later."""
        left = [pod for pod in pods if not self._gone(pod)]
        with self._lock:
            self._left |= {pod.metadata.uid: (pod, TRIES) for pod in left}
        return f"{len(left)} evictions are tried again" if left else ""

    def retry(self) -> None:
        """Try what was left; forget what is going by now."""
        with self._lock:
            left = dict(self._left)
        if not left:
            return
        there = {pod.metadata.uid: pod for pod in self._cluster.observed().pods}
        for uid, (_, tries) in list(left.items())[:MOST_RETRIES]:
            pod = there.get(uid)
            done = pod is None or leaving(pod) or self._gone(pod)
            with self._lock:
                if done or tries <= 1:
                    self._left.pop(uid, None)
                elif pod is not None:
                    self._left[uid] = (pod, tries - 1)

    # ---- one pod -------------------------------------------------------------------------------

    def _rehearse(self, job: str, pod: Pod) -> None:
        try:
            self._post(pod, dry_run=True)
        except ApiError as error:
            why = _budget(error)
            if why:
                self._block(job, why)
                raise DroppedError(why, "BlockedByBudget") from error
            if not _absent(error):
                raise DroppedError(f"eviction of {name_of(pod)} refused: {error}") from error

    def _gone(self, pod: Pod) -> bool:
        try:
            self._post(pod, dry_run=False)
        except ApiError as error:
            return _absent(error)
        except ApiUnreachableError:
            return False
        return True

    def _post(self, pod: Pod, *, dry_run: bool) -> None:
        """Evict; an answer that may pass is asked for once more, a budget's is not."""
        meta = pod.metadata
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": meta.name, "namespace": meta.namespace},
            "deleteOptions": {"preconditions": {"uid": meta.uid}},
        }
        query = {"dryRun": "All"} if dry_run else {}
        path = f"{pod_path(pod)}/eviction"
        try:
            self._cluster.api.post(path, body, **query)
        except ApiError as error:
            if error.status not in PASSING or _budget(error) or _absent(error):
                raise
            self._cluster.api.post(path, body, **query)

    # ---- budgets -------------------------------------------------------------------------------

    def _take(self, pods: tuple[Pod, ...], budgets: tuple[DisruptionBudget, ...]) -> Spent:
        """Take from the budgets, which the server's dry runs cannot: each asks for one pod."""
        here = by_namespace(budgets)
        needed: dict[tuple[str, str], int] = {}
        allowed: dict[tuple[str, str], int] = {}
        for pod in pods:
            namespace = pod.metadata.namespace
            for one in here.get(namespace, ()):
                if matches(one.spec.selector, pod.metadata):
                    key = (namespace, one.metadata.name)
                    needed[key] = needed.get(key, 0) + 1
                    allowed[key] = one.status.disruptions_allowed
        with self._lock:
            for key, count in sorted(needed.items()):
                room = allowed[key] - self._spent.get(key, 0)
                if count > room:
                    raise DroppedError(
                        f"PodDisruptionBudget {key[1]} allows {max(room, 0)} evictions of {count}",
                        "BlockedByBudget",
                    )
            for key, count in needed.items():
                self._spent[key] = self._spent.get(key, 0) + count
        return needed

    def _block(self, job: str, why: str) -> None:
        with self._lock:
            self._blocked[job] = (self._cluster.now_seconds() + BLOCKED_SECONDS, why)


def _absent(error: ApiError) -> bool:
    """Return whether the pod, with this uid, is gone already."""
    return error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)


def _budget(error: ApiError) -> str:
    """Return what a budget says against it, or that two of them cover the pod, or nothing."""
    if "more than one PodDisruptionBudget" in error.message:
        return error.message
    if error.status != HTTPStatus.TOO_MANY_REQUESTS:
        return ""
    try:
        details = msgspec.json.decode(error.body, type=_Status).details
    except msgspec.MsgspecError:
        return ""
    causes: Iterable[_Cause] = details.causes if details else ()
    said = [one.message for one in causes if one.reason == "DisruptionBudget"]
    return said[0] or error.message if said else ""
