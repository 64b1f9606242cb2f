"""A stand-in for `apiserver.client.Api`: objects by path, the two patch forms, every call kept.

Answers as the real server was seen to: 422 without details for a `test` that fails, 409 or 429
only where a test puts them in. It runs no controllers and checks no schema.
"""

import copy
import threading
from typing import Any

import msgspec

from scheduler.adapters.cluster.drivers.writing import Operation
from scheduler.apiserver.client import ApiError, ApiUnreachableError, Form

Object = dict[str, Any]


def refusal(
    status: int, reason: str = "", message: str = "", details: Object | None = None
) -> ApiError:
    body = {"reason": reason, "message": message, "code": status, "details": details or {}}
    return ApiError(status, msgspec.json.encode(body))


GUARD = refusal(422, "Invalid", "the server rejected our request due to an error in our request")
BUDGET = refusal(
    429,
    "TooManyRequests",
    "Cannot evict pod as it would violate the pod's disruption budget.",
    {"causes": [{"reason": "DisruptionBudget", "message": "The disruption budget b needs 2"}]},
)


class FakeApi:
    """`answers` are raised, first in first out, by the call `"VERB path"` before it does anything;
    None lets the call through. `between` runs before the next patch, as another writer.
    """

    def __init__(self, objects: dict[str, Object] | None = None) -> None:
        self.objects = objects or {}
        self.calls: list[tuple[str, str, Any]] = []
        self.answers: dict[str, list[Exception | None]] = {}
        self.between: list[Any] = []
        self._lock = threading.Lock()

    def get(self, path: str, /, **query: str) -> bytes:
        with self._lock:
            self._came("GET", path, query)
            return msgspec.json.encode(self._at(path))

    def post(self, path: str, body: object, /, **query: str) -> bytes:
        with self._lock:
            self._came("DRY" if "dryRun" in query else "POST", path, body)
            return b"{}"

    def patch(self, path: str, body: object, form: Form, /, **query: str) -> bytes:
        with self._lock:
            if self.between:
                self.between.pop(0)()
            self._came("DRY" if "dryRun" in query else "PATCH", path, body)
            found = copy.deepcopy(self._at(path))
            if form == "json":
                assert isinstance(body, list)
                for operation in body:
                    _apply(found, operation)
            else:
                assert form == "merge"
                _merge(found, body)
                if found["metadata"]["uid"] != self._at(path)["metadata"]["uid"]:
                    raise refusal(422, "Invalid", "uid", {"name": "x"})
            if "dryRun" not in query:
                self.objects[path] = found
            return msgspec.json.encode(found)

    def wrote(self, verb: str = "PATCH") -> list[str]:
        return [path for kind, path, _ in self.calls if kind == verb]

    def _came(self, verb: str, path: str, body: object) -> None:
        self.calls.append((verb, path, body))
        waiting = self.answers.get(f"{verb} {path}")
        answer = waiting.pop(0) if waiting else None
        if answer is not None:
            raise answer

    def _at(self, path: str) -> Object:
        if path not in self.objects:
            raise refusal(404, "NotFound", "not found")
        return self.objects[path]


UNREACHABLE = ApiUnreachableError("PATCH https://api: connection refused")


def _apply(found: Object, operation: Operation) -> None:
    *way, last = [
        key.replace("~1", "/").replace("~0", "~") for key in str(operation["path"]).split("/")[1:]
    ]
    here: Any = found
    for key in way:
        here = here[int(key)] if isinstance(here, list) else here.get(key)
        if here is None:
            if operation["op"] == "test" and operation["value"] is None:
                return
            raise GUARD
    spot: Any = int(last) if isinstance(here, list) else last
    there = spot in here if isinstance(here, dict) else spot < len(here)
    match operation["op"]:
        case "test" if (here[spot] if there else None) != operation["value"]:
            raise GUARD
        case "remove" if not there:
            raise GUARD
        case "add":
            here[spot] = operation["value"]
        case "remove":
            del here[spot]
        case _:
            assert operation["op"] == "test"


def _merge(found: Object, body: Any) -> None:  # noqa: ANN401
    for key, value in body.items():
        if isinstance(value, dict):
            _merge(found.setdefault(key, {}), value)
        elif value is None:
            found.pop(key, None)
        else:
            found[key] = value
