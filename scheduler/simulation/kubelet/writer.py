"""Tells the API server what the kubelets have to say: a few threads, one order per object.

Writes of one pod or node go through one thread, so they arrive in their order. What the server
cannot take now is tried again; an object that is gone or replaced is as good as told; anything
else is a refusal that `refused` hears, once per write.
"""

import threading
import zlib
from collections.abc import Callable
from queue import SimpleQueue

from scheduler.apiserver.client import Api, ApiError, ApiUnreachableError
from scheduler.simulation.kubelet import bodies
from scheduler.simulation.kubelet.writes import Remove, Report, ReportImages, Write

WORKERS = 8
FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 5.0
_NOT_FOUND, _CONFLICT, _TOO_MANY, _SERVER_ERROR = 404, 409, 429, 500


class Writer:
    """Threads that write; `told` and `refused` are called from them."""

    def __init__(
        self,
        api: Api,
        wall_clock: Callable[[], float],
        told: Callable[[Write], None],
        refused: Callable[[str], None],
    ) -> None:
        """Use the wall clock for the times in objects."""
        self._api = api
        self._wall_clock = wall_clock
        self._told = told
        self._refused = refused
        self._stopped = threading.Event()
        self._queues: tuple[SimpleQueue[Write | None], ...] = tuple(
            SimpleQueue() for _ in range(WORKERS)
        )
        self._threads = tuple(
            threading.Thread(target=self._work, args=(queue,), name="fake-kubelet-writer")
            for queue in self._queues
        )

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads after the writes that are under way; drop the others."""
        self._stopped.set()
        for queue in self._queues:
            queue.put(None)
        for thread in self._threads:
            thread.join()

    def submit(self, write: Write) -> None:
        """Put a write in its object's line."""
        key = write.node if isinstance(write, ReportImages) else write.uid
        self._queues[zlib.crc32(key.encode()) % WORKERS].put(write)

    def _work(self, queue: "SimpleQueue[Write | None]") -> None:
        while (write := queue.get()) is not None and not self._stopped.is_set():
            if self._written(write):
                self._told(write)

    def _written(self, write: Write) -> bool:
        """Return whether the server knows now; False also where this stops."""
        wait = FIRST_WAIT_SECONDS
        while not self._stopped.is_set():
            try:
                self._send(write)
                return True
            except ApiUnreachableError:
                pass
            except ApiError as error:
                if _gone(error):
                    return True
                if not _passing(error):
                    self._refused(f"{_subject(write)}: {error}")
                    return False
            self._stopped.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)
        return False

    def _send(self, write: Write) -> None:
        match write:
            case Report():
                path = f"/api/v1/namespaces/{write.namespace}/pods/{write.name}/status"
                self._api.patch(path, bodies.pod_status(write, self._wall_clock()), "strategic")
            case Remove():
                path = f"/api/v1/namespaces/{write.namespace}/pods/{write.name}"
                self._api.delete(path, bodies.removal(write))
            case ReportImages():
                path = f"/api/v1/nodes/{write.node}/status"
                self._api.patch(path, bodies.images(write), "strategic")


def _gone(error: ApiError) -> bool:
    """Return whether the object is gone, or another one has its name."""
    other = error.status == _CONFLICT and "UID" in error.message
    return error.status == _NOT_FOUND or other


def _passing(error: ApiError) -> bool:
    return error.status in {_CONFLICT, _TOO_MANY} or error.status >= _SERVER_ERROR


def _subject(write: Write) -> str:
    match write:
        case ReportImages():
            return f"node {write.node}: images not reported"
        case Remove():
            return f"pod {write.namespace}/{write.name}: not deleted"
        case Report():
            return f"pod {write.namespace}/{write.name}: {write.phase} not reported"
