"""Bodies that nobody should send: a 4xx or an `Error`, never a crash, never a node too many."""

import asyncio
import copy
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.extender import process, server, wire
from scheduler.extender.asks import ask_of
from scheduler.extender.process import ExtenderProcess
from scheduler.planning.index import DEFAULT_RESOURCE
from scheduler.planning.snapshot import Reservation
from scheduler.planning.standing import Place, Standing, Victim
from scheduler.planning.targets import Targets
from scheduler.view import View
from tests.fixtures import payloads

JSON = {"Content-Type": "application/json"}
GPUS = 8
"""Of a node."""
VERBS = ("filter", "prioritize", "preempt", "bind")
POD = json.dumps(payloads.pod()).encode()


def standing() -> Standing:
    """Node a is kept for a role; b and c take what kube-scheduler has room for, up to 8 GPUs."""
    kept = Reservation(
        id="r", owner="chat/decode", parts=(("a", 4),), created_seconds=0.0, expires_seconds=1e9
    )
    return Standing(
        now_seconds=0.0,
        planned_at_seconds=0.0,
        plan_stale_seconds=1e6,
        heuristic_stale_seconds=1e7,
        nodes=tuple(
            Place(name, ("s0", "H"), DEFAULT_RESOURCE, free, 0, GPUS, schedulable=True)
            for name, free in (("a", 4), ("b", 4), ("c", 0))
        ),
        reservations=(kept,),
        victims=(Victim("v1", "c", 8),),
    )


@pytest.fixture(scope="module")
def extender() -> Iterator[ExtenderProcess]:
    running = process.start("127.0.0.1", 0)
    running.publish(standing())
    while call(running, "filter", payloads.by_names(payloads.pod(), "b"))[1].get("Error"):
        pass
    yield running
    assert running.alive
    running.stop()


def call(
    running: ExtenderProcess, verb: str, body: payloads.Json | bytes, headers: dict[str, str] = JSON
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", f"/{verb}", raw, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content)


def around(pod: bytes, rest: bytes = b'"NodeNames": ["a", "b", "c"]') -> bytes:
    return b'{"Pod": ' + pod + b", " + rest + b"}"


BODIES = {
    "empty": b"",
    "null": b"null",
    "a list": b"[]",
    "truncated": around(POD)[:200],
    "trailing": around(POD) + b"}",
    "not UTF-8": around(POD.replace(b"pod-u1", b"\xff\xfe\x80")),
    "a lone surrogate": around(POD.replace(b"pod-u1", b"\\ud800")),
    "UTF-16": around(POD).decode().encode("utf-16"),
    "nested deep": around(POD, b'"x": ' + b"[" * 100_000),
    "nested deep in a known place": b'{"Pod": ' * 100_000,
    "a null pod": around(b"null"),
    "null containers": around(b'{"metadata": {"name": "p"}, "spec": {"containers": null}}'),
    "a null container": around(b'{"metadata": {"name": "p"}, "spec": {"containers": [null]}}'),
    "no spec": around(b'{"metadata": {"name": "p"}}'),
    "null nodes": around(POD, b'"Nodes": null, "NodeNames": null'),
    "null in the names": around(POD, b'"NodeNames": ["b", null]'),
    "numbers as names": around(POD, b'"NodeNames": [1, 2]'),
    "a node without a name": around(POD, b'"Nodes": {"items": [{"metadata": {}}]}'),
    "lower-case keys": around(POD).replace(b'"Pod"', b'"pod"'),
    "negative GPUs": around(POD.replace(b'"4"', b'"-4"')),
    "a float of GPUs": around(POD.replace(b'"4"', b"4.5")),
    "half a GPU": around(POD.replace(b'"4"', b'"500m"')),
    "an endless number of GPUs": around(POD.replace(b'"4"', b"9" * 10_000)),
    "NaN GPUs": around(POD.replace(b'"4"', b"NaN")),
    "true GPUs": around(POD.replace(b'"4"', b"true")),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("what", BODIES)
def test_what_cannot_be_understood_is_a_4xx_with_a_sentence(
    extender: ExtenderProcess, verb: str, what: str
) -> None:
    status, answer = call(extender, verb, BODIES[what])
    assert 400 <= status < 500
    assert list(answer) == ["Error"]
    assert answer["Error"]


def test_of_duplicate_keys_the_last_counts_as_with_kube_scheduler(
    extender: ExtenderProcess,
) -> None:
    body = around(POD, b'"NodeNames": ["b", "c"], "NodeNames": ["a"]')
    status, answer = call(extender, "filter", body)
    assert (status, answer["NodeNames"]) == (200, [])
    twice = POD.replace(b'"nvidia.com/gpu": "4"', b'"nvidia.com/gpu": "0", "nvidia.com/gpu": "16"')
    assert call(extender, "filter", around(twice))[1]["NodeNames"] == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_content_type_is_a_415(extender: ExtenderProcess, kind: str) -> None:
    status, answer = call(extender, "filter", around(POD), {"Content-Type": kind})
    assert (status, list(answer)) == (415, ["Error"])


def test_a_body_that_is_not_what_its_encoding_says_is_a_4xx(extender: ExtenderProcess) -> None:
    status, _ = call(extender, "filter", around(POD), JSON | {"Content-Encoding": "gzip"})
    assert 400 <= status < 500


def test_a_body_over_the_limit_is_a_413(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_LIMIT", 10_000)
    assert answered(b" " * 10_001)[0] == 413


def test_a_body_that_trickles_is_a_408_and_delays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.05)
    assert answered(b"{", promised=1000)[0] == 408


def answered(body: bytes, promised: int | None = None) -> tuple[int, bytes]:
    """Send a body of which `promised` bytes are announced; another caller is served meanwhile."""

    async def run() -> tuple[int, bytes]:
        loop = asyncio.get_running_loop()
        extender = server.Extender(View(), loop.time)
        extender.publish(standing())
        runner = web.AppRunner(extender.app(), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        slow_reader, slow = await asyncio.open_connection("127.0.0.1", port)
        slow.write(head(len(body) if promised is None else promised) + body)
        other_reader, other = await asyncio.open_connection("127.0.0.1", port)
        good = around(POD)
        other.write(head(len(good)) + good)
        assert b" 200 " in await other_reader.readline()
        line = await slow_reader.readline()
        for writer in (slow, other):
            writer.close()
        await runner.cleanup()
        return int(line.split()[1]), line

    return asyncio.run(run())


def head(length: int) -> bytes:
    lines = ("POST /filter HTTP/1.1", "Host: x", f"Content-Type: {server.JSON}")
    return "\r\n".join((*lines, f"Content-Length: {length}", "", "")).encode()


def test_half_a_request_and_no_more_leaves_the_server_serving(extender: ExtenderProcess) -> None:
    with socket.create_connection(("127.0.0.1", extender.port)) as slow:
        slow.sendall(b"POST /filter HTTP/1.1\r\nHost: x\r\nContent-Le")
        assert call(extender, "filter", around(POD))[1]["NodeNames"] == ["b"]
    with socket.create_connection(("127.0.0.1", extender.port)) as broken:
        broken.sendall(head(1000) + b"{")
    with socket.create_connection(("127.0.0.1", extender.port)) as garbage:
        garbage.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10 + b"\r\n\r\n")
        assert b" 400 " in garbage.recv(100)
    assert call(extender, "filter", around(POD))[1]["NodeNames"] == ["b"]


def test_a_hundred_thousand_names_are_answered(extender: ExtenderProcess) -> None:
    names = ["b", *(f"gpu-{number:06}" for number in range(100_000))]
    status, answer = call(extender, "filter", payloads.by_names(payloads.pod(), *names))
    assert (status, answer["NodeNames"]) == (200, ["b"])
    owned = payloads.pod(owner="chat/decode")
    status, answer = call(extender, "filter", payloads.by_names(owned, *names))
    assert (status, answer["NodeNames"]) == (200, [])
    assert len(answer["FailedAndUnresolvableNodes"]) == 100_001


# ---- mutations -----------------------------------------------------------------------------------

SEEDS: tuple[tuple[str, payloads.Json], ...] = (
    ("filter", payloads.by_names(payloads.pod(), "a", "b", "c")),
    ("filter", payloads.by_nodes(payloads.pod(owner="chat/decode"), "a", "b", "c")),
    ("preempt", payloads.by_uids(payloads.pod(gpus=8), a=["x"], c=["v1", "y"])),
    ("preempt", payloads.by_pods(payloads.pod(gpus=8), b=["x"], c=["v1"])),
    ("bind", payloads.binding("u1", "b")),
)
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["-1", "1e400", "\x00", "../..", "a", "b", "default"]),
    st.lists(st.none(), max_size=2),
    st.dictionaries(st.text(max_size=5), st.none(), max_size=2),
)


def spots(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from spots(inner, (*path, key))


def mutated(body: payloads.Json, draw: st.DataObject) -> payloads.Json:
    """Replace or remove up to three values anywhere in the body."""
    body = copy.deepcopy(body)
    for _ in range(draw.draw(st.integers(1, 3))):
        path = draw.draw(st.sampled_from(sorted(spots(body), key=str)))
        target: Any = body
        for key in path[:-1]:
            target = target[key]
        if draw.draw(st.booleans()):
            target[path[-1]] = draw.draw(JUNK)
        else:
            del target[path[-1]]
        if not body:
            break
    return body


def understood(verb: str, raw: bytes) -> bytes | None:
    """Answer as the server does, without HTTP; None for a body that is refused."""
    view = View()
    view.publish(standing())
    try:
        if verb == "bind":
            wire.decode_bind(raw)
            return wire.error_answer("")
        decoded = wire.decode_args(raw) if verb == "filter" else wire.decode_preempt(raw)
        ask = ask_of(decoded.pod, {DEFAULT_RESOURCE}, Targets())
        if isinstance(decoded, wire.ExtenderArgs):
            offered = wire.offered_nodes(decoded)
            return wire.filter_answer(view.steer(ask, tuple(offered), 1.0), offered)
        given_victims = wire.offers(decoded)
        candidates = {node: offer.uids for node, offer in given_victims.items()}
        return wire.preempt_answer(view.preempt(ask, candidates, 1.0), given_victims)
    except wire.BodyError:
        return None


def no_more_than_may(verb: str, raw: bytes, answer: bytes | None) -> None:
    if answer is None:
        return
    found = msgspec.json.decode(answer)
    if verb == "preempt":
        assert set(found["NodeNameToMetaVictims"]) <= {"c"}
        for victims in found["NodeNameToMetaVictims"].values():
            assert [pod["UID"] for pod in victims["Pods"]] == ["v1"]
        return
    if verb == "bind":
        return
    pod = wire.decode_args(raw).pod
    ask = ask_of(pod, {DEFAULT_RESOURCE}, Targets())
    if ask.gpus:
        names = found.get("NodeNames")
        if names is None:
            names = [node["metadata"]["name"] for node in found["Nodes"]["items"]]
        allowed = {"a"} if ask.owner == "chat/decode" and ask.gpus <= 4 else {"b", "c"}
        allowed = allowed if ask.gpus <= GPUS else set()
        assert set(names) <= allowed


@settings(max_examples=max(500, settings().max_examples))
@given(st.sampled_from(SEEDS), st.data())
def test_a_mutated_body_places_nothing_that_its_pod_may_not_have(
    seed: tuple[str, payloads.Json], data: st.DataObject
) -> None:
    verb, body = seed
    raw = json.dumps(mutated(body, data)).encode()
    no_more_than_may(verb, raw, understood(verb, raw))


@given(st.sampled_from(SEEDS), st.data())
def test_a_torn_body_places_nothing(seed: tuple[str, payloads.Json], data: st.DataObject) -> None:
    verb, body = seed
    raw = bytearray(json.dumps(body).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    no_more_than_may(verb, bytes(raw), understood(verb, bytes(raw)))


# ---- recorded payloads ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def samples() -> list[tuple[str, payloads.Json, payloads.Json]]:
    """Recorded calls and answers; skipped where there is no folder of them."""
    folder = Path(__file__).parents[3] / "shared" / "notes" / "extender_samples"
    files = sorted(folder.glob("[0-9]*.json"))
    if not files:
        pytest.skip(f"needs recorded payloads, and there are none in {folder}")
    read = [json.loads(file.read_text()) for file in files]
    return [(one["http"]["path"].rsplit("/", 1)[1], one["request"], one) for one in read]


def test_recorded_calls_are_understood_and_answered_in_their_shape(
    samples: list[tuple[str, payloads.Json, payloads.Json]], extender: ExtenderProcess
) -> None:
    for verb, request, _ in samples:
        status, answer = call(extender, verb, request)
        assert status == 200
        if verb == "filter":
            given_names = request["NodeNames"]
            if given_names is None:
                given_names = [node["metadata"]["name"] for node in request["Nodes"]["items"]]
                assert answer["Nodes"] == {"items": []}
            else:
                assert answer["NodeNames"] == []
            assert sorted(answer["FailedAndUnresolvableNodes"]) == sorted(given_names)
        elif verb == "prioritize":
            assert all(type(one["Score"]) is int for one in answer)
        elif verb == "preempt":
            assert answer == {"NodeNameToMetaVictims": {}}
        else:
            assert "remove bindVerb" in answer["Error"]


def test_recorded_calls_survive_a_round_trip(
    samples: list[tuple[str, payloads.Json, payloads.Json]],
) -> None:
    """Decoded and encoded again they decode to the same, whole nodes byte for byte."""
    decoders = {
        "filter": wire.decode_args,
        "prioritize": wire.decode_args,
        "preempt": wire.decode_preempt,
        "bind": wire.decode_bind,
    }
    for verb, request, _ in samples:
        decode: Any = decoders[verb]
        first = decode(json.dumps(request).encode())
        assert decode(msgspec.json.encode(first)) == first


def test_mutated_recorded_calls_place_nothing(
    samples: list[tuple[str, payloads.Json, payloads.Json]],
) -> None:
    @given(st.sampled_from(samples), st.data())
    def mutate(sample: tuple[str, payloads.Json, payloads.Json], data: st.DataObject) -> None:
        verb, request, _ = sample
        raw = json.dumps(mutated(request, data)).encode()
        verb = "filter" if verb == "prioritize" else verb
        no_more_than_may(verb, raw, understood(verb, raw))

    mutate()
