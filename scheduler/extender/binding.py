"""Creates Bindings at a Kubernetes API server.

Binding a pod twice is a conflict there, even to the same node; so after a conflict the pod is
read, and a pod that is where it should be counts as bound.
"""

import asyncio
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from scheduler.extender.server import BindError
from scheduler.extender.wire import BindArgs

AT_ONCE = 16
"""Bindings in flight; kube-scheduler sends as many binds as it has pods, all together."""
TIMEOUT_SECONDS = 10.0
CONFLICT = 409


class _Meta(msgspec.Struct):
    uid: str


class _Spec(msgspec.Struct, rename="camel"):
    node_name: str = ""


class _BoundPod(msgspec.Struct):
    metadata: _Meta
    spec: _Spec


class ApiBinder:
    """Binds pods through the API server at `url`; use as an asynchronous context."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        self._session = aiohttp.ClientSession(timeout=timeout)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def __call__(self, args: BindArgs) -> None:
        """Bind the pod, or raise `BindError`."""
        async with self._slots:
            try:
                await self._create(args)
            except (aiohttp.ClientError, TimeoutError) as error:
                cause = str(error) or type(error).__name__
                raise BindError(f"binding {args.name} to {args.node}: {cause}") from error

    async def _create(self, args: BindArgs) -> None:
        pod = f"{self._url}/api/v1/namespaces/{args.namespace}/pods/{args.name}"
        async with self._session.post(f"{pod}/binding", json=_binding(args)) as answer:
            if answer.ok:
                return
            text = (await answer.text())[:300]
        if answer.status == CONFLICT and await self._is_there(pod, args):
            return
        raise BindError(f"binding {args.name} to {args.node}: HTTP {answer.status}: {text}")

    async def _is_there(self, pod: str, args: BindArgs) -> bool:
        async with self._session.get(pod) as answer:
            if not answer.ok:
                return False
            found = msgspec.json.decode(await answer.read(), type=_BoundPod)
        return found.metadata.uid == args.uid and found.spec.node_name == args.node


def _binding(args: BindArgs) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": args.name, "namespace": args.namespace, "uid": args.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": args.node},
    }
