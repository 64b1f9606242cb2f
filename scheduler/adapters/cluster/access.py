"""Who asks, and whether they may: the API server answers both.

A bearer token is checked with a TokenReview, and what its owner may do with a SubjectAccessReview
on path and verb, as for the paths of the API server itself, so that RBAC rules with
`nonResourceURLs` decide. Answers are kept for seconds, by the token's hash.
"""

import hashlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from scheduler.apiserver.client import Api

KEEP_SECONDS = 10.0
MOST_KEPT = 1024

K = TypeVar("K")
V = TypeVar("V")


class User(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who a token belongs to, as a TokenReview tells it."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] | None = None
    extra: dict[str, tuple[str, ...]] | None = None


class _TokenStatus(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: User = User()
    error: str = ""


class _TokenReview(msgspec.Struct, frozen=True):
    status: _TokenStatus = _TokenStatus()


class _AccessStatus(msgspec.Struct, frozen=True):
    allowed: bool = False


class _AccessReview(msgspec.Struct, frozen=True):
    status: _AccessStatus = _AccessStatus()


class Access:
    """Both questions; each call may wait for the API server, so call it from a worker thread.

    Both raise ApiError and ApiUnreachableError; who asks for others then refuses.
    """

    def __init__(self, api: Api, clock: Callable[[], float]) -> None:
        """`clock` counts seconds steadily."""
        self._api = api
        self._users: _Kept[str, User | None] = _Kept(clock)
        self._verdicts: _Kept[tuple[str, str, str], bool] = _Kept(clock)

    def user_of(self, token: str) -> User | None:
        """Return whose token it is, None where the API server does not know it."""
        key = hashlib.sha256(token.encode()).hexdigest()
        return self._users.get(key, lambda: self._review(token))

    def may(self, user: User, verb: str, path: str) -> bool:
        """Return whether the user may do this to the path; the verb is a method in lower case."""
        who = hashlib.sha256(msgspec.json.encode(user)).hexdigest()
        return self._verdicts.get((who, verb, path), lambda: self._check(user, verb, path))

    def _review(self, token: str) -> User | None:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        }
        answer = self._api.post("/apis/authentication.k8s.io/v1/tokenreviews", body)
        status = msgspec.json.decode(answer, type=_TokenReview).status
        return status.user if status.authenticated and not status.error else None

    def _check(self, user: User, verb: str, path: str) -> bool:
        spec = {
            "user": user.username,
            "uid": user.uid,
            "groups": user.groups or (),
            "extra": user.extra or {},
            "nonResourceAttributes": {"path": path, "verb": verb},
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": spec,
        }
        answer = self._api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
        return msgspec.json.decode(answer, type=_AccessReview).status.allowed


class _Kept(Generic[K, V]):
    """Answers for a while, the oldest thrown out first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._values: dict[K, tuple[float, V]] = {}

    def get(self, key: K, ask: Callable[[], V]) -> V:
        """Return a fresh answer, or ask; what `ask` raises is not kept."""
        now = self._clock()
        with self._lock:
            kept = self._values.get(key)
            if kept is not None and now - kept[0] < KEEP_SECONDS:
                return kept[1]
        found = ask()
        with self._lock:
            self._values.pop(key, None)
            self._values[key] = (now, found)
            if len(self._values) > MOST_KEPT:
                del self._values[next(iter(self._values))]
        return found
