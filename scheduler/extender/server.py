"""The HTTP server: JSON in, the view's answer, JSON out.

Every verb is answered with status 200, refusals included; only a body that cannot be understood
gets 400. The clock measures how long ago the newest standing came; times on the standing's own
time line are its `now_seconds` plus that span at the rate at which the world runs.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web

from scheduler.extender import wire
from scheduler.planning.standing import PodAsk, Standing
from scheduler.view import NoStandingError, View

_T = TypeVar("_T")

Binder = Callable[[wire.BindArgs], Awaitable[None]]
"""Creates the Binding; returns when the pod is on that node, also if it was before."""

REMEMBERED = 8192
"""Pods whose ask or node is remembered between filter and bind."""
BODY_LIMIT = 64 * 1024 * 1024
"""5,000 whole nodes are 10 MB."""


class BindError(Exception):
    """The Binding was not made; the message is for kube-scheduler's event."""


class Extender:
    """The four verbs over one view."""

    def __init__(
        self,
        view: View,
        clock: Callable[[], float],
        clock_rate: float = 1.0,
        binder: Binder | None = None,
    ) -> None:
        self._view = view
        self._clock = clock
        self._clock_rate = clock_rate
        self._binder = binder
        self._epoch = (0.0, 0.0)
        self._resources: frozenset[str] = frozenset()
        self._asks: dict[str, PodAsk] = {}
        self._nodes: dict[str, str] = {}
        self._binding: dict[str, tuple[str, asyncio.Future[str]]] = {}

    def publish(self, standing: Standing) -> None:
        """Answer from this standing from now on; may be called from any thread."""
        self._view.publish(standing)
        self._resources = frozenset(place.resource for place in standing.nodes)
        self._epoch = (standing.now_seconds, self._clock())

    @property
    def now_seconds(self) -> float:
        """The present on the standing's time line."""
        at, received = self._epoch
        return at + (self._clock() - received) * self._clock_rate

    def app(self) -> web.Application:
        """Return the application with its routes."""
        app = web.Application(client_max_size=BODY_LIMIT, middlewares=[_refuse_bad_bodies])
        app.router.add_post("/filter", self._filter)
        app.router.add_post("/prioritize", self._prioritize)
        app.router.add_post("/preempt", self._preempt)
        app.router.add_post("/bind", self._bind)
        app.router.add_get("/healthz", _alive)
        app.router.add_get("/readyz", self._ready)
        return app

    async def _filter(self, request: web.Request) -> web.Response:
        args = wire.decode_args(await request.read())
        offered = wire.offered_nodes(args)
        ask = self._remember(args.pod)
        try:
            verdict = self._view.filter(ask, tuple(offered), self.now_seconds)
        except NoStandingError as error:
            return _json(wire.error_answer(str(error)))
        return _json(wire.filter_answer(verdict, offered))

    async def _prioritize(self, request: web.Request) -> web.Response:
        args = wire.decode_args(await request.read())
        offered = wire.offered_nodes(args)
        ask = self._remember(args.pod)
        try:
            scores = self._view.prioritise(ask, tuple(offered), self.now_seconds)
        except NoStandingError:
            scores = ()
        return _json(wire.scores_answer(scores))

    async def _preempt(self, request: web.Request) -> web.Response:
        args = wire.decode_preempt(await request.read())
        given = wire.offers(args)
        ask = self._remember(args.pod)
        candidates = {node: offer.uids for node, offer in given.items()}
        try:
            kept = self._view.preempt(ask, candidates, self.now_seconds)
        except NoStandingError:
            kept = {}
        return _json(wire.preempt_answer(kept, given))

    async def _bind(self, request: web.Request) -> web.Response:
        args = wire.decode_bind(await request.read())
        return _json(wire.error_answer(await self._bound_once(args)))

    async def _bound_once(self, args: wire.BindArgs) -> str:
        """Bind unless the pod is bound or being bound; return nothing, or the reason why not."""
        goes_to, running = self._binding.get(args.uid, ("", None))
        node = self._nodes.get(args.uid, goes_to)
        if node not in {"", args.node}:
            return f"pod {args.name} is already bound to {node}"
        if args.uid in self._nodes:
            return ""
        if running is None:
            running = asyncio.ensure_future(self._bound(args))
            self._binding[args.uid] = (args.node, running)
            running.add_done_callback(lambda _: self._binding.pop(args.uid, None))
        # kube-scheduler's time-out must not undo a bind that is on its way to the API server
        return await asyncio.shield(running)

    async def _bound(self, args: wire.BindArgs) -> str:
        """Claim the node, bind, and return nothing, or the reason why not."""
        if self._binder is None:
            return "this extender binds no pods; remove bindVerb from its configuration"
        refused = self._claim(args)
        if refused:
            return refused
        try:
            await self._binder(args)
        except BindError as error:
            self._view.release(args.uid)
            return str(error)
        _put(self._nodes, args.uid, args.node)
        return ""

    def _claim(self, args: wire.BindArgs) -> str:
        """Claim the node; without a claim where another replica of Tidal answered filter."""
        ask = self._asks.get(args.uid)
        if ask is None:
            return ""
        try:
            refused = self._view.claim(ask, args.node, self.now_seconds)
        except NoStandingError as error:
            return str(error)
        return f"{args.node}: {refused}" if refused else ""

    async def _ready(self, _: web.Request) -> web.Response:
        if self._view.standing is None:
            return web.Response(status=503, text="no plan received yet\n")
        return web.Response(text="ok\n")

    def _remember(self, pod: wire.Pod) -> PodAsk:
        """Return the pod's ask, and keep it: bind names the pod but not its GPUs."""
        ask = wire.ask_of(pod, self._resources)
        _put(self._asks, ask.uid, ask)
        return ask


def _put(memory: dict[str, _T], key: str, value: _T) -> None:
    memory[key] = value
    if len(memory) > REMEMBERED:
        del memory[next(iter(memory))]


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


async def _alive(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


@web.middleware
async def _refuse_bad_bodies(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except wire.BodyError as error:
        return web.json_response({"Error": str(error)}, status=400)
