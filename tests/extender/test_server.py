"""The server on a loopback port: each verb as kube-scheduler calls it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
from aiohttp import web

from scheduler.apiserver.client import Api
from scheduler.extender.binding import ApiBinder
from scheduler.extender.server import Binder, BindError, Extender
from scheduler.extender.wire import BindArgs
from scheduler.planning import reasons
from scheduler.planning.snapshot import Reservation
from scheduler.planning.standing import Place, Standing, Victim
from scheduler.view import View
from tests.fixtures import payloads

NOW = 1000.0
JSON = {"Content-Type": "application/json"}


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 50.0

    def __call__(self) -> float:
        return self.seconds


class Caller:
    """Calls verbs of one extender and returns status and body."""

    def __init__(self, extender: Extender, clock: Clock, url: str) -> None:
        self.extender = extender
        self.clock = clock
        self._url = url

    async def post(self, verb: str, body: Any) -> tuple[int, Any]:  # noqa: ANN401
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self._url}/{verb}", data=raw, headers=JSON) as answer,
        ):
            return answer.status, await answer.json()

    async def get(self, path: str) -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self._url}/{path}") as answer,
        ):
            return answer.status


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def play(
    scene: Callable[[Caller], Awaitable[None]],
    standing: Standing | None,
    binder: Binder | None = None,
    rate: float = 1.0,
) -> None:
    """Run a scene against a server that answers from `standing`."""

    async def run() -> None:
        clock = Clock()
        extender = Extender(View(), clock, rate, binder)
        if standing is not None:
            extender.publish(standing)
        async with served(extender.app()) as url:
            await scene(Caller(extender, clock, url))

    asyncio.run(run())


def standing() -> Standing:
    """Two nodes; one is kept for chat/decode, on the other a job is about to go."""
    reservation = Reservation(
        id="r",
        owner="chat/decode",
        parts=(("a", 4),),
        created_seconds=NOW,
        expires_seconds=NOW + 1e6,
    )
    return Standing(
        now_seconds=NOW,
        planned_at_seconds=NOW,
        plan_stale_seconds=300.0,
        heuristic_stale_seconds=900.0,
        nodes=(
            Place("a", ("s0", "H"), "nvidia.com/gpu", 4, 0, 8, schedulable=True),
            Place("b", ("s0", "H"), "nvidia.com/gpu", 4, 4, 8, schedulable=True),
        ),
        reservations=(reservation,),
        victims=(Victim("v1", "b", 4),),
    )


def test_filter_refuses_under_failed_and_unresolvable() -> None:
    async def scene(caller: Caller) -> None:
        status, answer = await caller.post("filter", payloads.by_names(payloads.pod(), "b", "a"))
        assert status == 200
        assert answer["NodeNames"] == ["b"]
        assert answer["FailedNodes"] == answer["FailedAndUnresolvableNodes"] == {}
        assert answer["Error"] == ""
        _, answer = await caller.post("filter", payloads.by_names(payloads.pod(), "a"))
        assert answer["NodeNames"] == []
        assert answer["FailedNodes"] == {}
        assert list(answer["FailedAndUnresolvableNodes"]) == ["a"]
        owned = payloads.pod(owner="chat/decode")
        _, answer = await caller.post("filter", payloads.by_nodes(owned, "b", "a"))
        assert [node["metadata"]["name"] for node in answer["Nodes"]["items"]] == ["a"]

    play(scene, standing())


def test_all_refused_is_an_empty_list() -> None:
    async def scene(caller: Caller) -> None:
        _, answer = await caller.post("filter", payloads.by_names(payloads.pod(gpus=16), "a", "b"))
        assert answer["NodeNames"] == []
        assert answer["FailedAndUnresolvableNodes"] == {"a": reasons.FULL, "b": reasons.FULL}

    play(scene, standing())


def test_scores_are_a_list_of_integers() -> None:
    async def scene(caller: Caller) -> None:
        body = payloads.by_names(payloads.pod(gpus=1), "b", "x")
        status, answer = await caller.post("prioritize", body)
        assert status == 200
        assert answer == [{"Host": "b", "Score": 10}, {"Host": "x", "Score": 0}]

    play(scene, standing())


def test_preempt_answers_by_uid() -> None:
    async def scene(caller: Caller) -> None:
        body = payloads.by_uids(payloads.pod(gpus=8), a=["x"], b=["v1", "y"])
        status, answer = await caller.post("preempt", body)
        assert status == 200
        kept = {"b": {"Pods": [{"UID": "v1"}], "NumPDBViolations": 1}}
        assert answer == {"NodeNameToMetaVictims": kept}

    play(scene, standing())


def test_a_bad_body_is_a_400_that_names_the_field() -> None:
    async def scene(caller: Caller) -> None:
        for verb in ("filter", "prioritize", "preempt", "bind"):
            status, answer = await caller.post(verb, b'{"Pod": 7}')
            assert status == 400
            assert "$.Pod" in answer["Error"] or "PodName" in answer["Error"]

    play(scene, standing())


def test_before_the_first_standing_nothing_is_decided() -> None:
    async def scene(caller: Caller) -> None:
        assert await caller.get("healthz") == 200
        assert await caller.get("readyz") == 503
        names = payloads.by_names(payloads.pod(), "a")
        status, answer = await caller.post("filter", names)
        assert (status, list(answer)) == (200, ["Error"])
        assert (await caller.post("prioritize", names)) == (200, [])
        victims = payloads.by_uids(payloads.pod(), a=["v1"])
        assert (await caller.post("preempt", victims))[1] == {"NodeNameToMetaVictims": {}}
        caller.extender.publish(standing())
        assert await caller.get("readyz") == 200

    play(scene, None)


def test_the_plan_ages_at_the_rate_of_the_world() -> None:
    async def scene(caller: Caller) -> None:
        names = payloads.by_names(payloads.pod(gpus=16), "a", "b", "x")
        for wall_seconds, passed in ((29, []), (31, ["x"]), (91, ["a", "b", "x"])):
            caller.clock.seconds = 50.0 + wall_seconds
            _, answer = await caller.post("filter", names)
            assert answer["NodeNames"] == passed

    play(scene, standing(), rate=10.0)


class Recorder:
    """A binder that records, waits until it may go on, and fails where told to."""

    def __init__(self, failing: str = "") -> None:
        self.calls: list[tuple[str, str]] = []
        self.called = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.failing = failing

    async def __call__(self, args: BindArgs) -> None:
        self.calls.append((args.uid, args.node))
        self.called.set()
        await self.gate.wait()
        if self.failing:
            raise BindError(self.failing)


def test_bind_is_idempotent_by_uid() -> None:
    recorder = Recorder()

    async def scene(caller: Caller) -> None:
        await caller.post("filter", payloads.by_names(payloads.pod("p1"), "b"))
        recorder.gate.clear()
        twice = [
            asyncio.create_task(caller.post("bind", payloads.binding("p1", "b"))) for _ in range(2)
        ]
        await recorder.called.wait()
        elsewhere = {"Error": "pod pod-p1 is already bound to b"}
        assert (await caller.post("bind", payloads.binding("p1", "a")))[1] == elsewhere
        recorder.gate.set()
        assert [await one for one in twice] == [(200, {"Error": ""})] * 2
        assert await caller.post("bind", payloads.binding("p1", "b")) == (200, {"Error": ""})
        assert (await caller.post("bind", payloads.binding("p1", "a")))[1] == elsewhere
        assert recorder.calls == [("p1", "b")]

    play(scene, standing(), recorder)


def test_a_bind_takes_its_gpus_at_once() -> None:
    async def scene(caller: Caller) -> None:
        for uid in ("p1", "p2"):
            await caller.post("filter", payloads.by_names(payloads.pod(uid), "b"))
        assert (await caller.post("bind", payloads.binding("p1", "b")))[1] == {"Error": ""}
        _, answer = await caller.post("bind", payloads.binding("p2", "b"))
        assert answer == {"Error": f"b: {reasons.FULL}"}

    play(scene, standing(), Recorder())


def test_a_failed_bind_gives_its_gpus_back() -> None:
    recorder = Recorder(failing="HTTP 500")

    async def scene(caller: Caller) -> None:
        for uid in ("p1", "p2"):
            await caller.post("filter", payloads.by_names(payloads.pod(uid), "b"))
        assert (await caller.post("bind", payloads.binding("p1", "b")))[1] == {"Error": "HTTP 500"}
        recorder.failing = ""
        assert (await caller.post("bind", payloads.binding("p2", "b")))[1] == {"Error": ""}

    play(scene, standing(), recorder)


def test_without_a_binder_bind_refuses() -> None:
    async def scene(caller: Caller) -> None:
        _, answer = await caller.post("bind", payloads.binding("p1", "b"))
        assert "remove bindVerb" in answer["Error"]

    play(scene, standing())


def api(pods: dict[str, tuple[str, str]]) -> web.Application:
    """The two calls of an API server that a binder makes, answered as recorded from a real one.

    `pods` maps name to (uid, node); a second binding is a conflict, even to the same node.
    """

    async def bind(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        body = await request.json()
        if name not in pods:
            return web.json_response({"message": f'pods "{name}" not found'}, status=404)
        uid, node = pods[name]
        if node or body["metadata"]["uid"] != uid:
            return web.json_response({"message": "conflict"}, status=409)
        pods[name] = (uid, body["target"]["name"])
        return web.json_response({"kind": "Status", "status": "Success"}, status=201)

    async def read(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        uid, node = pods[name]
        spec = {"nodeName": node} if node else {}
        return web.json_response({"metadata": {"name": name, "uid": uid}, "spec": spec})

    app = web.Application()
    app.router.add_post("/api/v1/namespaces/default/pods/{name}/binding", bind)
    app.router.add_get("/api/v1/namespaces/default/pods/{name}", read)
    return app


def bound_through(pods: dict[str, tuple[str, str]], *wanted: BindArgs) -> list[str]:
    """Bind in turn against an API server that holds `pods`; return the errors."""

    async def run() -> list[str]:
        errors = []
        async with served(api(pods)) as url:
            binder = ApiBinder(partial(Api.plain, url))
            for args in wanted:
                try:
                    await binder(args)
                except BindError as error:
                    errors.append(str(error))
            binder.close()
        return errors

    return asyncio.run(run())


def test_a_binding_is_made_once_and_a_repetition_is_no_error() -> None:
    pods = {"p1": ("u1", "")}
    wanted = BindArgs("p1", "default", "u1", "b")
    assert bound_through(pods, wanted, wanted) == []
    assert pods == {"p1": ("u1", "b")}


def test_a_pod_elsewhere_of_another_uid_or_gone_is_an_error() -> None:
    pods = {"p1": ("u1", "a"), "p2": ("u2", "")}
    errors = bound_through(
        pods,
        BindArgs("p1", "default", "u1", "b"),
        BindArgs("p2", "default", "old", "b"),
        BindArgs("p3", "default", "u3", "b"),
    )
    assert ["409" in errors[0], "409" in errors[1], "404" in errors[2]] == [True] * 3
    assert pods == {"p1": ("u1", "a"), "p2": ("u2", "")}


def test_an_api_server_that_is_away_is_an_error() -> None:
    async def run() -> str:
        async with served(api({})) as url:
            pass
        binder = ApiBinder(partial(Api.plain, url))
        try:
            await binder(BindArgs("p1", "default", "u1", "b"))
        except BindError as error:
            return str(error)
        finally:
            binder.close()
        return ""

    assert "binding p1 to b" in asyncio.run(run())
