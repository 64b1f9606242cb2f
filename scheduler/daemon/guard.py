"""Lets a request through to the API when its owner may make it.

The two questions (whose token, what may they) are functions given from outside, run in threads.
Without an answer nobody gets in. Probes of the kubelet are open, as they carry no token.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
SCHEME = "Bearer "
MOST_TOKEN = 16 * 1024
THREADS = 4
"""Reviews at once; a flood of bad tokens must not become one of the API server."""

User = TypeVar("User")


class UnknownUserError(Exception):
    """No token, or one that the API server does not know."""


class NotAllowedError(Exception):
    """The user lacks a rule; the message names it."""


class NoAnswerError(Exception):
    """The API server did not say who it is or what they may."""


class Guard(Generic[User]):
    """Authentication and authorisation of every request but probes."""

    def __init__(
        self,
        user_of: Callable[[str], User | None],
        may: Callable[[User, str, str], bool],
        name_of: Callable[[User], str],
    ) -> None:
        """`user_of` a token; `may` a user do a verb to a path; any error they raise refuses."""
        self._user_of = user_of
        self._may = may
        self._name_of = name_of
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="tidal-guard")

    def close(self) -> None:
        """End the threads; questions under way are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def middleware(self) -> Middleware:
        """Return it for an application, below what turns errors into answers."""

        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path not in OPEN_PATHS:
                loop = asyncio.get_running_loop()
                token = _token(request)
                verb = request.method.lower()
                await loop.run_in_executor(self._threads, self._check, token, verb, request.path)
            return await handler(request)

        return guarded

    def _check(self, token: str, verb: str, path: str) -> None:
        try:
            user = self._user_of(token)
            allowed = user is not None and self._may(user, verb, path)
        except Exception as error:  # whatever it is, nobody gets in
            raise NoAnswerError(
                f"token: the API server cannot be asked about it ({error}); ask again shortly"
            ) from error
        if user is None:
            raise UnknownUserError("token: is not known to this cluster; log in again")
        if not allowed:
            raise NotAllowedError(
                f"path: {self._name_of(user)} may not {verb} {path}; bind a ClusterRole with a "
                f"rule of nonResourceURLs [{path!r}] and verbs [{verb!r}], such as tidal-reader"
            )


def _token(request: web.Request) -> str:
    header = request.headers.get(hdrs.AUTHORIZATION, "")
    token = header.removeprefix(SCHEME).strip()
    if not header.startswith(SCHEME) or not token or len(token) > MOST_TOKEN:
        raise UnknownUserError("token: is missing; send 'Authorization: Bearer TOKEN'")
    return token
