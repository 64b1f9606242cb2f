"""Pods by name, names in all spellings, and failures of Prometheus as one error each."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from forecasting import Stretch
from scheduler.adapters.prometheus.connection import (
    Connection,
    PrometheusDownError,
    PrometheusError,
    Value,
)
from scheduler.adapters.prometheus.engines import engines, places, pod_pattern
from scheduler.adapters.prometheus.gpus import use, utilisation
from scheduler.adapters.prometheus.names import CANDIDATES, EVERY_NAME
from scheduler.adapters.prometheus.signals import PrometheusSignals
from scheduler.planning.policy import Policy, TargetPolicy, parse


@pytest.mark.parametrize(
    ("kind", "role", "pod", "matches"),
    [
        ("Deployment", "", "llm-5d4f8c7b9-x2xkq", True),
        ("Deployment", "", "llm-decode-5d4f8c7b9-x2xkq", False),
        ("Deployment", "", "llm-0", False),
        ("StatefulSet", "", "llm-12", True),
        ("StatefulSet", "", "llm-decode-0", False),
        ("LeaderWorkerSet", "", "llm-0", True),
        ("LeaderWorkerSet", "", "llm-0-3", True),
        ("LeaderWorkerSet", "", "llm-decode-0", False),
        ("RoleBasedGroup", "decode", "llm-decode-0", True),
        ("RoleBasedGroup", "decode", "llm-decode-0-1", True),
        ("RoleBasedGroup", "decode", "llm-decode-dtbk2-1", True),
        ("RoleBasedGroup", "decode", "llm-prefill-0", False),
        ("RoleBasedGroup", "decode", "llm-decode-large-0", False),
    ],
)
def test_a_role_has_the_pods_that_its_controller_names(
    kind: str, role: str, pod: str, *, matches: bool
) -> None:
    target = TargetPolicy.model_validate({"kind": kind, "name": "llm", "role": role})
    assert bool(re.fullmatch(pod_pattern(target), pod)) is matches


def test_every_candidate_is_in_the_one_expression_in_all_spellings() -> None:
    for meaning, candidates in CANDIDATES.items():
        for candidate in candidates:
            assert re.fullmatch(EVERY_NAME, candidate.name), meaning
    kv = [candidate.name for candidate in CANDIDATES["kv_usage"]]
    assert kv[:5] == [
        "vllm:kv_cache_usage_perc",
        "vllm_kv_cache_usage_perc",
        "kserve_vllm:kv_cache_usage_perc",
        "kserve_vllm_kv_cache_usage_perc",
        "vllm:gpu_cache_usage_perc",
    ]


def policy(**role: object) -> Policy:
    whole = {"tokens": "prompt", "capacity_tokens_per_second": {"H100": 1.0}, **role}
    return parse({"version": 1, "models": {"m": {"roles": {"r": whole}}}})


def test_labels_come_from_the_policy_and_are_quoted() -> None:
    plain = places(engines(policy(), "m/r"))
    assert [matchers for matchers, _ in plain] == ['model_name="m"']
    odd = places(engines(policy(engine_labels={"model": 'a"b\\c', "app": "x"}), "m/r"))
    assert odd[0][0] == 'app="x",model="a\\"b\\\\c"'
    target = {"kind": "StatefulSet", "namespace": "n", "name": "llm"}
    matchers = [one for one, _ in places(engines(policy(target=target), "m/r"))]
    assert matchers == [
        'model_name="m",namespace="n",pod=~"llm-[0-9]+"',
        'model_name="m",exported_namespace="n",exported_pod=~"llm-[0-9]+"',
        'model_name="m",exported_namespace="n",pod=~"llm-[0-9]+"',
        'model_name="m",pod="",exported_pod=""',
    ]


class Answers:
    """An HTTP server that gives one answer to everything, and keeps the last header."""

    def __init__(self) -> None:
        self.status, self.body, self.token = 200, b"", ""
        outer = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.token = self.headers.get("Authorization", "")
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def answers() -> Iterator[Answers]:
    made = Answers()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("status", "body", "down", "says"),
    [
        (400, b'{"status":"error","error":"parse error"}', False, "parse error"),
        (401, b"who are you", False, "401"),
        (503, b"starting", True, "503"),
        (200, b"<html>", False, "not answer as Prometheus"),
        (200, b"", False, "not answer as Prometheus"),
        (200, b"[]", False, "not answer as Prometheus"),
        (200, b'{"data":{"result":[{"metric":{},"value":[1]}]}}', False, "not answer as"),
        (200, b'{"data":{"result":[{"metric":{},"value":["x","1"]}]}}', False, "not answer as"),
        (200, b'{"data":{"result":7}}', False, "not answer as"),
    ],
)
def test_whatever_answers_a_failure_is_one_sentence(
    answers: Answers, status: int, body: bytes, *, down: bool, says: str
) -> None:
    answers.status, answers.body = status, body
    with pytest.raises(PrometheusError, match=says) as error:
        Connection(answers.url).instant("x", 1.0)
    assert isinstance(error.value, PrometheusDownError) is down
    assert answers.url in str(error.value)
    assert "\n" not in str(error.value)


def test_values_that_are_no_number_are_left_out(answers: Answers) -> None:
    answers.body = (
        b'{"data":{"result":[{"metric":{"a":"b"},"value":[1,"NaN"]},'
        b'{"metric":{},"value":[1,"+Inf"]},{"metric":{},"value":[1,"x"]},{"metric":{"c":"d"},"value":[1,"2.5"]}]}}'
    )
    assert Connection(answers.url).instant("x", 1.0) == (Value({"c": "d"}, 2.5),)


@pytest.mark.parametrize(
    ("values", "at", "known"),
    [
        (b'[[300,"1.5"],[600.4,"2"]]', [300, 600], [1.5, 2.0]),
        (b'[[300,"NaN"],[600,"+Inf"],[900,"x"],[1200,"2.5"]]', [1200], [2.5]),
        (b"[]", [], []),
    ],
)
def test_a_range_holds_its_finite_values(
    answers: Answers, values: bytes, at: list[int], known: list[float]
) -> None:
    answers.body = b'{"data":{"result":[{"metric":{"a":"b"},"values":%b}]}}' % values
    (line,) = Connection(answers.url).span("x", 0, 1200, 300)
    assert line.labels == {"a": "b"}
    assert (line.at_seconds.tolist(), line.values.tolist()) == (at, known)


def test_the_token_is_read_again_for_every_request(answers: Answers, tmp_path: Path) -> None:
    answers.body = b'{"data":{"result":[]}}'
    file = tmp_path / "token"
    connection = Connection(answers.url, token_file=file)
    for token in ("one", "two"):
        file.write_text(f"{token}\n")
        connection.instant("x", 1.0)
        assert answers.token == f"Bearer {token}"
    file.unlink()
    with pytest.raises(PrometheusError, match="token"):
        connection.instant("x", 1.0)


def test_no_failure_leaves_the_port(answers: Answers) -> None:
    answers.status = 500
    signals = PrometheusSignals(Connection(answers.url), policy)
    ready = {("m/r", "H100"): 2}
    assert [one.status for one in signals.roles(4000.0, ready)] == ["absent"]
    assert [one.samples for one in signals.capacities(4000.0, ready)] == [0]
    assert "500" in signals.problem
    history = signals.history(4000.0)
    assert [one.key for one in history] == ["m/requests", "m/prompt_tokens", "m/generated_tokens"]
    assert not any(np.isfinite(one.rates).any() for one in history if isinstance(one, Stretch))
    assert signals.utilisation(4000.0).gpus == 0
    # It answers again, and knows nothing of these engines.
    answers.status, answers.body = 200, b'{"data":[]}'
    signals.samples(4600.0)
    signals.roles(4600.0, ready)
    assert "no fresh engine metrics of m/r" in signals.problem
    signals.roles(4615.0, {})
    assert signals.problem == ""


def test_gpu_use_says_which_metric_it_is() -> None:
    def both(metric: str, mean: float, count: float) -> tuple[Value, ...]:
        return (
            Value({"meaning": metric}, mean),
            Value({"meaning": metric, "of": "gpus"}, count),
        )

    util = both("DCGM_FI_DEV_GPU_UTIL", 80.0, 4)
    active = both("DCGM_FI_PROF_SM_ACTIVE", 0.3, 3)
    engine = both("DCGM_FI_PROF_GR_ENGINE_ACTIVE", 0.5, 4)
    found = use((*util, *active, *engine))
    assert (found.gpus, found.gpu_util, found.active) == (4, 0.8, 0.3)
    assert found.active_metric == "DCGM_FI_PROF_SM_ACTIVE"
    assert found.note == "DCGM_FI_PROF_SM_ACTIVE comes from 3 of 4 GPUs"
    assert use((*util, *engine)).active == 0.5
    assert use(engine).gpus == 4
    assert use(util).active is None
    assert use(()).note.startswith("no DCGM")
    assert "does not answer" in utilisation(Connection("http://127.0.0.1:9"), 0.0).note
