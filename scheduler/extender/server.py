"""The HTTP server: JSON in, the view's answer, JSON out.

Every verb is answered with status 200, refusals included; only a body that cannot be understood
gets a 4xx. The clock measures how long ago the newest standing came; times on the standing's own
time line are its `now_seconds` plus that span at the rate at which the world runs. What people
and probes ask (GET) is in `Extender.health_app` too, which needs no certificate.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from aiohttp import ClientPayloadError, web

from scheduler.extender import asks, wire
from scheduler.extender.counts import VERBS, Told, VerbCounts, open_metrics
from scheduler.planning.index import mode_at, prepare
from scheduler.planning.standing import PodAsk, Standing
from scheduler.view import NoStandingError, View

_T = TypeVar("_T")

Binder = Callable[[wire.BindArgs], Awaitable[None]]
"""Creates the Binding; returns when the pod is on that node, also if it was before."""

REMEMBERED = 8192
"""Pods whose ask or node is remembered between filter and bind."""
BODY_LIMIT = 64 * 1024 * 1024
"""5,000 whole nodes are 10 MB."""
BODY_SECONDS = 10.0
"""A body that takes longer than this is given up; kube-scheduler itself waits 5 s at most."""
UNREAD = frozenset({408, 413, 415})
"""Answers to bodies that were not read to their end; the connection ends with them."""
JSON = "application/json"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_Route = Callable[[web.Request, VerbCounts], Awaitable[bytes]]


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
        self._counts = {verb: VerbCounts() for verb in VERBS}
        self.tls_error = ""
        """Why renewed certificates are not in use."""
        self._asks: dict[str, PodAsk] = {}
        self._nodes: dict[str, str] = {}
        self._binding: dict[str, tuple[str, asyncio.Future[str]]] = {}

    def publish(self, standing: Standing) -> None:
        """Answer from this standing from now on; may be called from any thread."""
        former = None if self._view.standing is None else self._view.index
        self._view.publish(standing)
        self._epoch = (standing.now_seconds, self._clock())
        prepare(self._view.index, former)

    @property
    def now_seconds(self) -> float:
        """The present on the standing's time line."""
        at, received = self._epoch
        return at + (self._clock() - received) * self._clock_rate

    def app(self) -> web.Application:
        """Return the application with its routes."""
        app = web.Application(client_max_size=BODY_LIMIT)
        routes: dict[str, _Route] = {
            "filter": self._filter,
            "prioritize": self._prioritize,
            "preempt": self._preempt,
            "bind": self._bind,
        }
        for verb, route in routes.items():
            app.router.add_post(f"/{verb}", self._counted(route, self._counts[verb]))
        self._add_reading(app)
        return app

    def health_app(self) -> web.Application:
        """Return what probes and people read, without the verbs."""
        app = web.Application()
        self._add_reading(app)
        return app

    def _add_reading(self, app: web.Application) -> None:
        app.router.add_get("/healthz", _alive)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/v1/extender", self._status)

    def _counted(
        self, route: _Route, counts: VerbCounts
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            began = self._clock()
            status = 200
            try:
                body = await route(request, counts)
            except wire.BodyError as error:
                counts.errors += 1
                body, status = wire.error_answer(str(error)), error.status
            counts.took(self._clock() - began)
            response = web.Response(body=body, status=status, content_type=JSON)
            if status in UNREAD:
                response.force_close()
            return response

        return answer

    async def _filter(self, request: web.Request, counts: VerbCounts) -> bytes:
        args = wire.decode_args(await _body(request))
        offered = wire.offered_nodes(args)
        try:
            ask = self._remember(args.pod)
            verdict = self._view.steer(ask, tuple(offered), self.now_seconds)
        except NoStandingError as error:
            counts.errors += 1
            return wire.error_answer(str(error))
        counts.refused += not verdict.passed
        return wire.filter_answer(verdict, offered)

    async def _prioritize(self, request: web.Request, counts: VerbCounts) -> bytes:
        args = wire.decode_args(await _body(request))
        offered = wire.offered_nodes(args)
        try:
            ask = self._remember(args.pod)
            scores = self._view.prioritise(ask, tuple(offered), self.now_seconds)
        except NoStandingError:
            counts.errors += 1
            scores = ()
        return wire.scores_answer(scores)

    async def _preempt(self, request: web.Request, counts: VerbCounts) -> bytes:
        args = wire.decode_preempt(await _body(request))
        given = wire.offers(args)
        candidates = {node: offer.uids for node, offer in given.items()}
        try:
            ask = self._remember(args.pod)
            kept = self._view.preempt(ask, candidates, self.now_seconds)
        except NoStandingError:
            counts.errors += 1
            kept = {}
        counts.refused += not kept
        return wire.preempt_answer(kept, given)

    async def _bind(self, request: web.Request, counts: VerbCounts) -> bytes:
        args = wire.decode_bind(await _body(request))
        refused = await self._bound_once(args)
        counts.refused += bool(refused)
        return wire.error_answer(refused)

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

    async def _status(self, _: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self._told()), content_type=JSON)

    async def _metrics(self, _: web.Request) -> web.Response:
        text = open_metrics(self._told()).encode()
        return web.Response(body=text, headers={"Content-Type": OPEN_METRICS})

    def _told(self) -> Told:
        standing, now = self._view.standing, self.now_seconds
        return Told(
            mode="none" if standing is None else mode_at(standing, now),
            epoch=0 if standing is None else standing.epoch,
            plan_age_seconds=None if standing is None else now - standing.planned_at_seconds,
            observation_age_seconds=None if standing is None else now - standing.now_seconds,
            plan_stale_seconds=None if standing is None else standing.plan_stale_seconds,
            heuristic_stale_seconds=None if standing is None else standing.heuristic_stale_seconds,
            nodes=0 if standing is None else len(standing.nodes),
            reservations=0 if standing is None else len(standing.reservations),
            tls_error=self.tls_error,
            verbs=self._counts,
        )

    def _remember(self, pod: wire.Pod) -> PodAsk:
        """Return the pod's ask, and keep it: bind names the pod but not its GPUs."""
        index = self._view.index
        ask = asks.ask_of(pod, index.resources, index.targets, index.card_memory_mib)
        _put(self._asks, ask.uid, ask)
        return ask


def _put(memory: dict[str, _T], key: str, value: _T) -> None:
    memory[key] = value
    if len(memory) > REMEMBERED:
        del memory[next(iter(memory))]


async def _alive(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _body(request: web.Request) -> bytes:
    """Read the body, or raise `BodyError`."""
    if request.content_type != JSON:
        raise wire.BodyError(f"Content-Type is {request.content_type!r}, not {JSON}", 415)
    if "Content-Encoding" in request.headers:
        raise wire.BodyError("Content-Encoding is set; send the body as it is", 415)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise wire.BodyError(f"the body took longer than {BODY_SECONDS:g} s", 408) from None
    except web.HTTPRequestEntityTooLarge:
        raise wire.BodyError(f"the body is larger than {BODY_LIMIT} bytes", 413) from None
    except ClientPayloadError as error:
        raise wire.BodyError(f"request body: {error}") from None
