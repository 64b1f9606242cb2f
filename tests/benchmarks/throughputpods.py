"""The pods of `kube_throughput`: made, deleted, and seen bound."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import msgspec

from scheduler.apiserver.client import Api
from scheduler.planning.targets import GROUP_ANNOTATION, OWNER_ANNOTATION

GPU = "nvidia.com/gpu"
PODS = "/api/v1/namespaces/default/pods"
ROLE = "chat/decode"
CONNECTIONS = 16
POLL_SECONDS = 0.05

Contender = Literal["none", "trivial", "tidal", "mtls", "reserved"]


def pod(name: str, scheduler: str, owner: str) -> dict[str, Any]:
    """Return a pod of one GPU."""
    marks = {OWNER_ANNOTATION: owner, GROUP_ANNOTATION: f"default/{name}"} if owner else {}
    limits = {"resources": {"limits": {GPU: "1"}}}
    return {
        "metadata": {"name": name, "annotations": marks},
        "spec": {
            "schedulerName": scheduler,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [{"name": "main", "image": "llm:v1", **limits}],
        },
    }


def owner_of(contender: Contender, number: int) -> str:
    """Return whose the pod is."""
    return ROLE if contender == "reserved" and number % 2 else ""


def create(api: Api, contender: Contender, scheduler: str, pods: int) -> None:
    """Create the pods over parallel connections."""

    def one(number: int) -> None:
        api.post(PODS, pod(f"{scheduler}-{number:05}", scheduler, owner_of(contender, number)))

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for _ in pool.map(one, range(pods)):
            pass


def clear(api: Api) -> None:
    """Delete all pods by force, and wait until they are gone."""
    api.delete(PODS, gracePeriodSeconds="0")
    while json.loads(api.get(PODS, limit="1"))["items"]:
        time.sleep(POLL_SECONDS)


class Spec(msgspec.Struct, frozen=True):
    """Where a pod is."""

    nodeName: str = ""  # noqa: N815  # the API's name


class Name(msgspec.Struct, frozen=True):
    """What a pod is called."""

    name: str = ""
    annotations: dict[str, str] = {}
    resourceVersion: str = ""  # noqa: N815  # the API's name


class Watched(msgspec.Struct, frozen=True):
    """A pod, reduced."""

    metadata: Name
    spec: Spec = Spec()


class Event(msgspec.Struct, frozen=True):
    """One line of a watch."""

    object: Watched


class Binds:
    """Sees pods bound: `at` is name -> monotonic seconds, `where` is name -> (owner, node)."""

    def __init__(self, api: Api, expected: int) -> None:
        """Watch from now on."""
        listed = msgspec.json.decode(api.get(PODS, limit="1"), type=Watched)
        version = listed.metadata.resourceVersion
        self.at: dict[str, float] = {}
        self.where: dict[str, tuple[str, str]] = {}
        self.done = threading.Event()
        self._expected = expected
        self._watch = api.watch(PODS, resourceVersion=version)
        self._thread = threading.Thread(target=self._follow, name="binds", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watch."""
        self._watch.close()
        self._thread.join()

    def _follow(self) -> None:
        decoder = msgspec.json.Decoder(Event)
        for line in self._watch:
            seen = decoder.decode(line).object
            name, node = seen.metadata.name, seen.spec.nodeName
            if node and name not in self.at:
                self.at[name] = time.monotonic()
                self.where[name] = (seen.metadata.annotations.get(OWNER_ANNOTATION, ""), node)
            if len(self.at) == self._expected:
                self.done.set()
