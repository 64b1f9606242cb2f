"""Short words for tests on the real API server: objects in, objects out, waiting."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

from scheduler.apiserver.client import Api, ApiError
from scheduler.apiserver.watch import Watch
from scheduler.simulation.clusterfile import parse_cluster
from scheduler.simulation.kubelet.manners import Manners
from scheduler.simulation.kubelet.shell import FakeKubelet

WAIT_SECONDS = 120.0
LOOK_SECONDS = 0.05
Object = dict[str, Any]
T = TypeVar("T")


def eventually(look: Callable[[], T], what: str, seconds: float = WAIT_SECONDS) -> T:
    """The first truthy value of `look`; fails after the time with what was awaited."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)
    return found


def within(look: Callable[[], object], what: str, seconds: float) -> None:
    """Fails unless `look` is true in that time. A look counts for so long at most, however late it
    came: a machine that is late with a look is late with what is looked for.
    """
    spent, before = 0.0, time.monotonic()
    while not look():
        time.sleep(0.02)
        now = time.monotonic()
        spent, before = spent + min(now - before, LOOK_SECONDS), now
        assert spent < seconds, f"not within {seconds:g} s: {what}"


class World:
    """One namespace of an API server."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api = api
        self.namespace = namespace

    def path(self, resource: str, name: str = "") -> str:
        """`pods`, or `GROUP/VERSION/PLURAL`; in the namespace."""
        *group, plural = resource.split("/")
        root = f"/apis/{'/'.join(group)}" if group else "/api/v1"
        return f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def make(self, resource: str, body: Object) -> Object:
        answer = self.api.post(self.path(resource), body)
        return dict(msgspec.json.decode(answer))

    def read(self, resource: str, name: str) -> Object:
        return dict(msgspec.json.decode(self.api.get(self.path(resource, name))))

    def found(self, resource: str, name: str) -> Object | None:
        try:
            return self.read(resource, name)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def all(self, resource: str, selector: str = "") -> list[Object]:
        query = {"labelSelector": selector} if selector else {}
        answer = self.api.get(self.path(resource), **query)
        return sorted(msgspec.json.decode(answer)["items"], key=lambda one: one["metadata"]["name"])

    def names(self, resource: str, selector: str = "") -> list[str]:
        return [one["metadata"]["name"] for one in self.all(resource, selector)]

    def delete(self, resource: str, name: str, grace: int | None = None) -> None:
        options = {} if grace is None else {"gracePeriodSeconds": str(grace)}
        self.api.delete(self.path(resource, name), **options)


@contextmanager
def kubelets(
    api: Api, count: int, gpus: int, manners: Manners, rate: float = 1.0
) -> Iterator[FakeKubelet]:
    """The fake kubelets of nodes n-0001 and so on, each on a leaf of its own; nothing that they
    write may be refused.
    """
    group = {"name": "n", "count": count, "gpus": gpus, "gpu_model": "H100-SXM-80GB"}
    cluster = parse_cluster({"groups": [{**group, "leaf_nodes": 1}]})
    refused: list[str] = []
    one = FakeKubelet(api, cluster, manners, time.time, rate=rate, refused=refused.append)
    one.start()
    try:
        yield one
    finally:
        one.stop()
    assert refused == []


class Log:
    """Everything that happens from now on, by one watch after the other; `stop` ends it."""

    def __init__(self, world: World, resource: str) -> None:
        self._api, self._path = world.api, world.path(resource)
        self._began = int(self._list()["metadata"]["resourceVersion"])
        self.events: list[tuple[str, Object]] = []
        self._ended = threading.Event()
        self._watch = self._open(self._began)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _open(self, since: int) -> Watch:
        query = {"resourceVersion": str(since), "allowWatchBookmarks": "true"}
        return self._api.watch(self._path, **query)

    def _read(self) -> None:
        since = self._began
        while not self._ended.is_set():
            for line in self._watch:
                event = msgspec.json.decode(line)
                assert event["type"] != "ERROR", event
                since = version(event["object"])
                if event["type"] != "BOOKMARK":
                    self.events.append((event["type"], event["object"]))
            self._watch = self._open(since)
        self._watch.close()
        for _ in self._watch:  # its reader lets go of the connection
            pass

    def catch_up(self) -> list[tuple[str, Object]]:
        """Wait until all that has happened by now is in `events`, and return them."""
        answer = self._list()
        until = int(answer["metadata"]["resourceVersion"])
        there = {one["metadata"]["uid"]: version(one) for one in answer["items"]}

        def caught_up() -> bool:
            last = {one["metadata"]["uid"]: (kind, version(one)) for kind, one in self.events}
            seen = {uid: at for uid, (_, at) in last.items()}
            gone = ((kind, at) for uid, (kind, at) in last.items() if uid not in there)
            return all(seen.get(uid, self._began) >= at for uid, at in there.items()) and all(
                kind == "DELETED" or at > until for kind, at in gone
            )

        eventually(caught_up, "the watch tells what the list shows")
        return list(self.events)

    def stop(self) -> list[tuple[str, Object]]:
        events = self.catch_up()
        self.close()
        return events

    def close(self) -> None:
        self._ended.set()
        self._watch.close()
        self._thread.join()

    def _list(self) -> Object:
        return dict(msgspec.json.decode(self._api.get(self._path)))


def version(item: Object) -> int:
    """Place of a write in the order of all that the API server has taken."""
    return int(item["metadata"]["resourceVersion"])


def condition(item: Object, kind: str) -> str:
    """Status of a condition, empty where there is none."""
    found = {one["type"]: one["status"] for one in item.get("status", {}).get("conditions", [])}
    return str(found.get(kind, ""))


def phase(item: Object | None) -> str:
    return "" if item is None else str(item["status"].get("phase", ""))


def devices(item: Object) -> set[int]:
    text = item["metadata"].get("annotations", {}).get("tidal.dev/sim-devices", "")
    return {int(one) for one in text.split(",") if one}


def pod(name: str, gpus: int = 1, node: str = "", **more: Any) -> Object:  # noqa: ANN401
    """A pod; `sim` holds seconds by annotation suffix, `spec` and `meta` go on top."""
    notes = {f"tidal.dev/sim-{key}": str(value) for key, value in more.get("sim", {}).items()}
    container = {
        "name": "main",
        "image": more.get("image", "engine:1"),
        "resources": {"limits": {"nvidia.com/gpu": gpus}} if gpus else {},
    }
    spec = {"containers": [container], **more.get("spec", {})}
    if node:
        spec["nodeName"] = node
    metadata = {"name": name, "annotations": notes, **more.get("meta", {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
