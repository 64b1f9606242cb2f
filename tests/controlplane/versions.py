"""What became of one object of the API server, version by version."""

import contextlib
import threading
from typing import Any

import msgspec

from scheduler.apiserver.client import ApiError, ApiUnreachableError
from tests.controlplane.kinds.world import Object, World, eventually, version


class History:
    """Every version of one object's spec that the API server showed; its generation counts them."""

    def __init__(self, world: World, resource: str, name: str) -> None:
        self._world, self._resource, self._name = world, resource, name
        self.versions: list[Object] = [world.read(resource, name)]
        self._ended = threading.Event()
        self._watch: Any = None
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        if self._watch is not None:
            self._watch.close()
        self._thread.join()

    @property
    def changes(self) -> list[Object]:
        """The first version, and the first of each new generation; fails where one is missing."""
        self._catch_up()
        found = {one["metadata"]["generation"]: one for one in reversed(self.versions)}
        generations = sorted(found)
        assert generations == list(range(generations[0], generations[-1] + 1)), "versions missed"
        return [found[generation] for generation in generations]

    def annotations(self, name: str) -> list[str]:
        """The values that an annotation had, each run of one value once."""
        self._catch_up()
        values = [one["metadata"].get("annotations", {}).get(name, "") for one in self.versions]
        return [
            value
            for value, before in zip(values, ["", *values], strict=False)
            if value and value != before
        ]

    def _catch_up(self) -> None:
        """Wait until the watch has told what the server has by now."""
        now = version(self._world.read(self._resource, self._name))
        eventually(lambda: version(self.versions[-1]) >= now, f"the history of {self._name}")

    def _follow(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(ApiError, ApiUnreachableError):
                self._take()
            self._ended.wait(0.1)

    def _take(self) -> None:
        path = self._world.path(self._resource)
        since = self.versions[-1]["metadata"]["resourceVersion"]
        query = {"fieldSelector": f"metadata.name={self._name}", "resourceVersion": since}
        try:
            self._watch = self._world.api.watch(path, **query)
            for line in self._watch:
                event = msgspec.json.decode(line)
                if event["type"] == "ERROR":
                    break
                self.versions.append(event["object"])
        except ApiError as error:
            if error.status != 410:
                raise
        now = self._world.read(self._resource, self._name)
        if now["metadata"]["resourceVersion"] != self.versions[-1]["metadata"]["resourceVersion"]:
            self.versions.append(now)
