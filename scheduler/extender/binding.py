"""Creates Bindings at a Kubernetes API server.

Binding a pod twice is a conflict there, even to the same node; so after a conflict the pod is
read, and a pod that is where it should be counts as bound.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import msgspec

from scheduler.apiserver.client import Api, ApiError, ApiUnreachableError
from scheduler.apiserver.objects import Pod
from scheduler.extender.server import BindError
from scheduler.extender.wire import BindArgs

AT_ONCE = 16
"""Bindings in flight; kube-scheduler sends as many binds as it has pods, all together."""
CONFLICT = 409

Connect = Callable[[], Api]
"""Makes the client in the process that binds; picklable, as `functools.partial(Api.load, file)`."""


class ApiBinder:
    """Binds pods through the API server that `connect` reaches; `close` it."""

    def __init__(self, connect: Connect) -> None:
        self._api = connect()
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bind")

    def close(self) -> None:
        """End the connections; binds under way fail."""
        self._api.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, args: BindArgs) -> None:
        """Bind the pod, or raise `BindError`."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, self._bind, args)

    def _bind(self, args: BindArgs) -> None:
        pod = f"/api/v1/namespaces/{quote(args.namespace, '')}/pods/{quote(args.name, '')}"
        try:
            self._api.post(f"{pod}/binding", _binding(args))
        except ApiError as error:
            if error.status != CONFLICT or not self._is_there(pod, args):
                raise BindError(f"binding {args.name} to {args.node}: HTTP {error}") from error
        except ApiUnreachableError as error:
            raise BindError(f"binding {args.name} to {args.node}: {error}") from error

    def _is_there(self, path: str, args: BindArgs) -> bool:
        try:
            found = msgspec.json.decode(self._api.get(path), type=Pod)
        except (ApiError, ApiUnreachableError, msgspec.DecodeError):
            return False
        return found.metadata.uid == args.uid and found.spec.node_name == args.node


def _binding(args: BindArgs) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": args.name, "namespace": args.namespace, "uid": args.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": args.node},
    }
