"""Guarded writes: a patch that the server applies whole, or not at all where a guard fails.

A writer decides on the object as last seen, which may be old; the patch tests every value that
the decision rests on, so an old picture can only be refused. Then the object is read and the
decision made again. A test that fails is answered with 422 and no details, like a wrong path.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal, Protocol, TypeVar

import msgspec

from scheduler.adapters.cluster.events import Reference
from scheduler.adapters.cluster.observed import Observed
from scheduler.apiserver.client import FIELD_MANAGER, ApiError, Form
from scheduler.apiserver.objects import Meta
from scheduler.planning import marks
from scheduler.planning.policy import Policy

TRIES = 3
ANNOTATIONS = "/metadata/annotations"
PASSING = (
    HTTPStatus.CONFLICT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)
"""Answers after which the same may succeed."""

Operation = dict[str, object]
"""One operation of a JSON Patch."""
Tell = Callable[[Reference, Literal["Normal", "Warning"], str, str], None]
"""Says a sentence to users on an object, under a one-word reason."""
T = TypeVar("T")


class DroppedError(Exception):
    """An action was not applied; the message says why. `reason` names what users are told."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class Calls(Protocol):
    """What of the API is used: `apiserver.client.Api`."""

    def get(self, path: str, /, **query: str) -> bytes: ...
    def post(self, path: str, body: object, /, **query: str) -> bytes: ...
    def patch(self, path: str, body: object, form: Form, /, **query: str) -> bytes: ...


@dataclass(frozen=True)
class Cluster:
    """What every part of the actuator works with."""

    api: Calls
    observed: Callable[[], Observed]
    versions: Callable[[], Mapping[str, str]]
    """Served resource, as `plural.group`, -> path of its version."""
    policy: Callable[[], Policy]
    now_seconds: Callable[[], float]
    tell: Tell

    def path(self, resource: str, namespace: str, name: str = "") -> str:
        """Return the path of an object, or of the collection where there is no name."""
        version = self.versions().get(resource)
        if version is None:
            raise DroppedError(f"the API server does not serve {resource}")
        whole = f"{version}/namespaces/{namespace}/{resource.partition('.')[0]}"
        return f"{whole}/{name}" if name else whole

    def read(self, path: str, kind: type[T], **query: str) -> T:
        """Return an object as it is now; raise DroppedError where it is gone or unreadable."""
        try:
            return msgspec.json.decode(self.api.get(path, **query), type=kind)
        except ApiError as error:
            raise refused(error, path) from error
        except msgspec.MsgspecError as error:
            raise DroppedError(f"{path} cannot be read: {error}") from error


def write(
    cluster: Cluster,
    path: str,
    seen: T,
    decide: Callable[[T], list[Operation]],
    reread: Callable[[], T],
) -> None:
    """Patch the object as `decide` says of `seen`; where the server refuses, of a fresh reading.

    Raises DroppedError, also what `decide` raises, and ApiUnreachableError.
    """
    for left in range(TRIES - 1, -1, -1):
        operations = decide(seen)
        try:
            cluster.api.patch(path, operations, "json", fieldManager=FIELD_MANAGER)
            return
        except ApiError as error:
            if not left or not (error.status in PASSING or guard_failed(error)):
                raise refused(error, path) from error
        seen = reread()


def guard_failed(error: ApiError) -> bool:
    """Return whether a `test` failed, or a path was wrong: the server does not tell which."""
    if error.status != HTTPStatus.UNPROCESSABLE_ENTITY:
        return False
    try:
        return not msgspec.json.decode(error.body, type=_Status).details
    except msgspec.MsgspecError:
        return False


class _Status(msgspec.Struct, frozen=True):
    details: dict[str, object] | None = None


def refused(error: ApiError, path: str) -> DroppedError:
    """Return what an answer means for an action."""
    name = "/".join(path.rsplit("/", 2)[-2:])
    if error.status == HTTPStatus.NOT_FOUND:
        return DroppedError(f"{name} is gone")
    return DroppedError(f"the API server refused {name}: {error}")


# ---- operations ------------------------------------------------------------------------------


def test(path: str, value: object) -> Operation:
    """Return a guard; null stands for absent."""
    return {"op": "test", "path": path, "value": value}


def put(path: str, value: object) -> Operation:
    """Return what sets a member of an object, whether it is there or not."""
    return {"op": "add", "path": path, "value": value}


def remove(path: str) -> Operation:
    """Return what takes away what must be there."""
    return {"op": "remove", "path": path}


def pointer(*keys: str) -> str:
    """Return the JSON Pointer of nested members."""
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in keys)


def changed(path: str, before: object, after: object) -> list[Operation]:
    """Return a guard on the value before, and the change."""
    return [test(path, before), put(path, after)]


def annotated(seen: Mapping[str, str], values: Mapping[str, str | None]) -> list[Operation]:
    """Return what sets annotations (None: takes away), guarded by each one's value as seen."""
    if not seen:
        new = {key: value for key, value in values.items() if value is not None}
        return [test(ANNOTATIONS, None), put(ANNOTATIONS, new)] if new else []
    operations: list[Operation] = []
    for key, value in values.items():
        path = ANNOTATIONS + pointer(key)
        operations.append(test(path, seen.get(key)))
        if value is not None:
            operations.append(put(path, value))
        elif key in seen:
            operations.append(remove(path))
    return operations


def same(uid: str) -> Operation:
    """Return the guard against another object under the same name."""
    return test("/metadata/uid", uid)


def fence(annotations: Mapping[str, str], epoch: int) -> None:
    """Raise DroppedError where a later planner has written."""
    written = annotations.get(marks.EPOCH, "")
    if written.isdecimal() and int(written) > epoch:
        raise DroppedError(f"epoch {epoch} is fenced off by {written}", "FencedOff")


def free_of_masters(kind: str, meta: Meta) -> None:
    """Raise DroppedError where another object decides; it would undo the write, at a loss."""
    master = meta.controller
    if master.kind:
        raise DroppedError(
            f"{kind} {meta.namespace}/{meta.name} belongs to {master.kind} {master.name}, which "
            f"would undo the change: name that as the target"
        )
