"""All objects that Tidal reads, kept up to date by one reflector for each kind.

A kind that the server does not serve is empty. Custom kinds come and go with their definitions,
so what is served is asked again every minute. A change of any kind is told to `on_change`, from
the reflector's thread; the caller coalesces.
"""

import threading
from collections.abc import Callable
from typing import Any

import msgspec

from scheduler.adapters.cluster import reduction
from scheduler.adapters.cluster.cardless import Cardless
from scheduler.adapters.cluster.observed import Observed
from scheduler.apiserver import objects
from scheduler.apiserver.client import Api, ApiError, ApiUnreachableError
from scheduler.apiserver.discovery import Discovery
from scheduler.apiserver.reflector import STOP_SECONDS, Reflector

DISCOVERY_SECONDS = 60.0
FAILED_DISCOVERY_SECONDS = 2.0


class _Kind(msgspec.Struct, frozen=True):
    """A field of Observed, the resource it comes from, and the struct that reads it."""

    field: str
    resource: str
    type: type[Any]


KINDS = (
    _Kind("nodes", "nodes", objects.Node),
    _Kind("pods", "pods", objects.Pod),
    _Kind("jobs", "jobs.batch", objects.Job),
    _Kind("deployments", "deployments.apps", objects.Replicated),
    _Kind("stateful_sets", "statefulsets.apps", objects.Replicated),
    _Kind(
        "leader_worker_sets",
        "leaderworkersets.leaderworkerset.x-k8s.io",
        objects.LeaderWorkerSet,
    ),
    _Kind("role_based_groups", "rolebasedgroups.workloads.x-k8s.io", objects.RoleBasedGroup),
    _Kind(
        "scaling_adapters",
        "rolebasedgroupscalingadapters.workloads.x-k8s.io",
        objects.ScalingAdapter,
    ),
    _Kind("autoscalers", "horizontalpodautoscalers.autoscaling", objects.Autoscaler),
    _Kind("scaled_objects", "scaledobjects.keda.sh", objects.Autoscaler),
    _Kind("budgets", "poddisruptionbudgets.policy", objects.DisruptionBudget),
    _Kind("priority_classes", "priorityclasses.scheduling.k8s.io", objects.PriorityClass),
)


class Watching:
    """The newest known state of a cluster; `observed` is cheap and asks the server nothing."""

    def __init__(
        self,
        api: Api,
        gpu_resources: tuple[str, ...],
        on_change: Callable[[], None] = lambda: None,
        *,
        read: Callable[[Any], Any] | None = None,
        discovery_seconds: float = DISCOVERY_SECONDS,
    ) -> None:
        """Pods that ask for none of `gpu_resources`, such as nvidia.com/gpu, are only summed.

        `read` changes each object as it comes in, as where the server's clock is another.
        """
        self._api = api
        self._on_change = on_change
        self._read = read
        self._discovery_seconds = discovery_seconds
        self._keep: dict[str, Callable[[Any], Any]] = {
            "nodes": reduction.nodes(),
            "pods": reduction.pods_that_ask_for(gpu_resources),
        }
        self._cardless = Cardless()
        self._discovery = Discovery(api, tuple(one.resource for one in KINDS))
        self._discovered = False
        self._trouble = ""
        self._reflectors: dict[str, Reflector[Any]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="discovery", daemon=True)

    def start(self) -> None:
        """Begin to discover, list and watch."""
        self._thread.start()

    def stop(self) -> None:
        """End all watches."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
        running = self._running().values()
        for one in running:
            one.halt()
        for one in running:
            one.stop()

    @property
    def versions(self) -> dict[str, str]:
        """Served resource, as `plural.group`, -> path of the version that is read."""
        return self._discovery.versions

    @property
    def synced(self) -> bool:
        """Whether every served kind has been listed whole."""
        return self._discovered and all(one.synced for one in self._running().values())

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps kinds from being read, a sentence for each."""
        every = [self._trouble, *(one.problem for one in self._running().values())]
        return tuple(one for one in every if one)

    def observed(self) -> Observed:
        """Return all objects. Each kind is consistent in itself; kinds may differ by moments."""
        running = self._running()
        items = {field: one.items() for field, one in running.items()}
        return Observed(cardless=self._cardless.by_node(), **items)

    def staleness_seconds(self) -> float:
        """Return for how long the least heard kind has not been heard; inf before the first."""
        running = self._running()
        if not self._discovered:
            return float("inf")
        return max((one.age_seconds for one in running.values()), default=float("inf"))

    def _running(self) -> dict[str, Reflector[Any]]:
        with self._lock:
            return dict(self._reflectors)

    # ---- which kinds there are -----------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            wait = self._discovery_seconds
            try:
                self._discovery.refresh()
            except (ApiError, ApiUnreachableError, msgspec.MsgspecError) as error:
                self._trouble = f"discovery: {error}"
                wait = min(wait, FAILED_DISCOVERY_SECONDS)
            else:
                self._trouble = ""
                self._follow()
            self._stopping.wait(wait)

    def _follow(self) -> None:
        """Start reflectors of kinds that came, stop those of kinds that went."""
        versions = self._discovery.versions
        for kind in KINDS:
            version = versions.get(kind.resource)
            path = version and f"{version}/{kind.resource.partition('.')[0]}"
            running = self._running().get(kind.field)
            if (running.path if running else None) != path:
                self._replace(kind, running, path)
        self._discovered = True

    def _replace(self, kind: _Kind, old: Reflector[Any] | None, path: str | None) -> None:
        new = self._reflector(kind, path) if path else None
        with self._lock:
            if new is None:
                self._reflectors.pop(kind.field, None)
            else:
                self._reflectors[kind.field] = new
        if old is not None:
            old.stop()
            self._on_change()
        if new is not None and not self._stopping.is_set():
            new.start()

    def _reflector(self, kind: _Kind, path: str) -> Reflector[Any]:
        keep, read = self._keep.get(kind.field, _whole), self._read
        unkept = self._cardless if kind.field == "pods" else None
        kept = keep if read is None else lambda item: keep(read(item))
        return Reflector(self._api, path, kind.type, kept, self._on_change, unkept=unkept)


def _whole(item: Any) -> Any:  # noqa: ANN401
    return item
