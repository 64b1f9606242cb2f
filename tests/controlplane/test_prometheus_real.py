"""Signals read from a real Prometheus: backfilled tides, holes, renamed metrics, a trace."""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from forecasting import Observed, Sample
from scheduler.adapters.prometheus.connection import Connection
from scheduler.adapters.prometheus.signals import PrometheusSignals
from scheduler.ports import Signals
from tests.controlplane.pasts import (
    BIN,
    DAY,
    END,
    HOLE,
    RESTART,
    SCRAPE,
    Find,
    Floats,
    Past,
    bin_rates,
    counted,
    engine,
    pd_past,
    policy_of,
    tide,
)
from tests.controlplane.prometheus_server import PrometheusServer

pytestmark = pytest.mark.controlplane


@pytest.fixture(scope="module")
def days(
    tmp_path_factory: pytest.TempPathFactory, program: Find
) -> Iterator[tuple[PrometheusServer, Floats, Floats]]:
    times = END - 2 * DAY + SCRAPE * np.arange(2 * DAY // SCRAPE + 1, dtype=np.float64)
    prompt, generated = tide(times, 500, 20_000), tide(times + 7000, 100, 3000)
    with PrometheusServer(tmp_path_factory.mktemp("days"), program) as server:
        server.backfill(pd_past(times, prompt, generated).text)
        server.start()
        yield server, bin_rates(prompt), bin_rates(generated)


def series(observed: Sequence[Observed], key: str) -> list[Sample]:
    """The bins of one series; those of a stretch as samples."""
    out: list[Sample] = []
    for one in observed:
        if one.key != key:
            continue
        if isinstance(one, Sample):
            out.append(one)
            continue
        for number, rate in enumerate(one.rates.tolist()):
            start = one.start_seconds + number * one.width_seconds
            out.append(Sample(key, start, one.width_seconds, rate, valid=math.isfinite(rate)))
    return out


def errors(samples: Sequence[Sample], truth: Floats) -> list[float]:
    """Relative errors of the valid bins against the truth, which ends with the last sample."""
    pairs = zip(samples[-len(truth) :], truth.tolist(), strict=True)
    return [abs(one.rate / true - 1) for one, true in pairs if one.valid]


def test_history_of_two_days_is_within_two_per_cent_of_the_truth(
    days: tuple[PrometheusServer, Floats, Floats],
) -> None:
    server, prompt, generated = days
    signals = PrometheusSignals(Connection(server.url), policy_of)
    history = signals.history(END + 10.0)
    assert signals.problem == ""
    for key, truth in (("m/prompt_tokens", prompt), ("m/generated_tokens", generated)):
        seen = series(history, key)
        assert len(seen) == 14 * DAY // BIN
        assert [one.start_seconds % BIN for one in seen[:3]] == [0, 0, 0]
        assert seen[-1].start_seconds == END - BIN
        recorded = seen[-len(truth) :]
        assert not any(one.valid for one in seen[: -len(truth)])
        missing = [number for number, one in enumerate(recorded) if not one.valid]
        first, last = HOLE.start * SCRAPE // BIN, HOLE.stop * SCRAPE // BIN
        reset = RESTART * SCRAPE // BIN - 1  # a third of what it counts is of a counter that fell
        assert missing == [*range(first, last), reset], "no scrapes at an edge, or a reset"
        assert max(errors(seen, truth)) < 0.02
    requests = series(history, "m/requests")
    assert max(errors(requests, prompt / 1000)) < 0.02


def test_no_bin_is_told_twice(days: tuple[PrometheusServer, Floats, Floats]) -> None:
    server, prompt, _ = days
    signals = PrometheusSignals(Connection(server.url), policy_of)
    signals.history(END - 1000.0)
    after = series(signals.samples(END + 10.0), "m/prompt_tokens")
    assert [one.start_seconds for one in after] == [
        END - 4 * BIN,
        END - 3 * BIN,
        END - 2 * BIN,
        END - BIN,
    ]
    assert max(errors(after, prompt[-4:])) < 0.02
    assert signals.samples(END + 20.0) == []


def test_bins_in_which_ready_replicas_did_not_report_are_unknown(
    days: tuple[PrometheusServer, Floats, Floats],
) -> None:
    server, _, _ = days
    signals: Signals = PrometheusSignals(Connection(server.url), policy_of)
    three = {("m/prefill", "H100"): 3, ("m/decode", "H100"): 2}
    signals.history(END - 4.0 * BIN)
    for at in range(END - 4 * BIN, END - 2 * BIN + 1, 60):
        statuses = [one.status for one in signals.roles(float(at), three)]
        assert statuses == ["live", "partial"]
    told = signals.samples(END + 10.0)
    assert [one.valid for one in series(told, "m/prompt_tokens")] == [False, False, False, True]
    assert [one.valid for one in series(told, "m/generated_tokens")] == [True] * 4


def test_a_history_that_nobody_answered_for_comes_when_prometheus_is_back(
    tmp_path: Path, program: Find
) -> None:
    times = END - DAY / 4 + SCRAPE * np.arange(DAY // 4 // SCRAPE + 1, dtype=np.float64)
    rate = tide(times, 500, 20_000)
    with PrometheusServer(tmp_path, program) as server:
        server.backfill(pd_past(times, rate, rate).text)
        signals = PrometheusSignals(Connection(server.url, timeout_seconds=1), policy_of)
        missed = signals.history(END + 1.0)
        assert missed
        assert not any(one.valid for one in series(missed, "m/prompt_tokens"))
        assert "does not answer" in signals.problem
        assert [one.status for one in signals.roles(END + 1.0, {})] == ["absent", "absent"]
        server.start()
        late = series(signals.samples(END + 2.0), "m/prompt_tokens")
        assert [one.status for one in signals.roles(END + 2.0, {})] == ["live", "live"]
        assert signals.problem == ""
        assert len(late) == DAY // 4 // BIN, "the known bins only: the others were told"
        assert (
            max(
                abs(one.rate / true - 1)
                for one, true in zip(late, bin_rates(rate).tolist(), strict=True)
            )
            < 0.02
        )


def test_renamed_metrics_under_labels_that_were_moved_aside(tmp_path: Path, program: Find) -> None:
    """A collector in between keeps `namespace` and `pod` for itself; KServe renames metrics."""
    times = END - 7200 + SCRAPE * np.arange(7200 // SCRAPE + 1, dtype=np.float64)
    past = Past(times)
    steady = np.full(len(times), 3000.0)
    ours = {"pd-prefill-0": "kserve_vllm_", "pd-decode-bcdfg-0": "vllm_"}
    for pod, prefix in {**ours, "pd-decode-large-0": "vllm_"}.items():
        labels = (
            f'model_name="m",exported_namespace="serving",exported_pod="{pod}",'
            f'namespace="monitoring",pod="collector-0",instance="{pod}"'
        )
        for stream in ("prompt", "generation"):
            name = f"{prefix}{stream}_tokens_total"
            past.add(name, "counter", labels, counted(steady, None, slice(0, 0)))
        past.add(f"{prefix}num_requests_running", "gauge", labels, [1.0] * len(times))
    with PrometheusServer(tmp_path, program) as server:
        server.backfill(past.text)
        server.start()
        signals = PrometheusSignals(Connection(server.url), policy_of)
        history = signals.history(END + 1.0)
        for key in ("m/prompt_tokens", "m/generated_tokens"):
            last = series(history, key)[-20:]
            assert all(one.valid for one in last)
            assert [one.rate for one in last] == pytest.approx([3000.0] * 20, rel=0.001)
        # Nobody counts requests here: not known is not zero.
        assert not any(one.valid for one in series(history, "m/requests"))
        assert [one.status for one in signals.roles(END + 1.0, {})] == ["live", "live"]
        ready = {("m/decode", "H100"): 2, ("m/prefill", "H100"): 1}
        assert [one.status for one in signals.roles(END + 2.0, ready)] == ["partial", "live"]


def test_tokens_counted_at_the_end_of_requests_and_counters_not_born(
    tmp_path: Path, program: Find
) -> None:
    """SGLang: no counter before the first request; then a queue that only grows."""
    times = END - 7200 + SCRAPE * np.arange(7200 // SCRAPE + 1, dtype=np.float64)
    past = Past(times)
    born = len(times) // 2
    done = np.maximum(np.arange(len(times)) - born, 0.0)
    waits = np.where(done > 0, 2 * done, 0.0)
    for role in ("prefill", "decode"):
        labels = engine(f"pd-{role}-0", 'model_name="m"')
        past.add("sglang:num_running_reqs", "gauge", labels, np.minimum(done, 5).tolist())
        past.add("sglang:num_queue_reqs", "gauge", labels, waits.tolist())
        for name, each in (
            ("sglang:prompt_tokens_total", 600),
            ("sglang:generation_tokens_total", 90),
            ("sglang:num_requests_total", 1),
        ):
            values = [each * float(one) if one > 0 else None for one in done]
            past.add(name, "counter", labels, values)
    with PrometheusServer(tmp_path, program) as server:
        server.backfill(past.text)
        server.start()
        signals = PrometheusSignals(Connection(server.url), policy_of)
        idle_at = END - 7200 + 1500.0
        assert [one.status for one in signals.roles(idle_at, {})] == ["idle", "idle"]
        history = signals.history(END + 1.0)
        recorded = series(history, "m/prompt_tokens")[-24:]
        assert [(one.rate, one.valid) for one in recorded[2:10]] == [(0.0, True)] * 8
        # One request ends per scrape and two more wait: three arrive, of 600 tokens each.
        arrived = [one.rate for one in recorded[-8:]]
        assert arrived == pytest.approx([3 * 600 / SCRAPE] * 8, rel=0.02)
        decode, prefill = signals.roles(END + 1.0, {})
        assert prefill.arrived_tokens_per_second == pytest.approx(60.0, rel=0.05)
        assert prefill.served_tokens_per_second == pytest.approx(20.0, rel=0.05)
        assert decode.queued_tokens == pytest.approx(waits[-1] * 90, rel=0.02)


def test_a_recorded_trace_comes_back(tmp_path: Path, program: Find, shared_data: Path) -> None:
    with (shared_data / "demand" / "servegen_m-small_600s.csv").open() as file:
        rows = list(csv.DictReader(file))[: 2 * DAY // 600]
    prompt = np.repeat([float(row["prompt_tokens"]) / 600 for row in rows], 600 // SCRAPE)
    generated = np.repeat([float(row["generated_tokens"]) / 600 for row in rows], 600 // SCRAPE)
    known = np.repeat([row["valid"] == "1" for row in rows], 2)
    prompt, generated = np.insert(prompt, 0, 0.0), np.insert(generated, 0, 0.0)
    times = END - 2 * DAY + SCRAPE * np.arange(2 * DAY // SCRAPE + 1, dtype=np.float64)
    with PrometheusServer(tmp_path, program) as server:
        server.backfill(pd_past(times, prompt, generated).text)
        server.start()
        signals = PrometheusSignals(Connection(server.url), policy_of)
        history = signals.history(END + 10.0)
    for key, rate in (("m/prompt_tokens", prompt), ("m/generated_tokens", generated)):
        truth = bin_rates(rate)
        seen = series(history, key)[-len(truth) :]
        off = [
            abs(one.rate - true) / true
            for one, true, good in zip(seen, truth.tolist(), known.tolist(), strict=True)
            if one.valid and good
        ]
        assert len(off) > 0.95 * len(truth)
        assert float(np.mean(off)) < 0.02
        total = sum(one.rate for one in seen if one.valid)
        whole = sum(true for one, true in zip(seen, truth.tolist(), strict=True) if one.valid)
        assert math.isclose(total, whole, rel_tol=0.002)


def test_gpus_report_by_two_generations_of_the_exporter(tmp_path: Path, program: Find) -> None:
    times = END - 600 + SCRAPE * np.arange(21, dtype=np.float64)
    past = Past(times)
    for host, gpu, label, value in (
        ("a", "0", "Hostname", 80),
        ("a", "1", "Hostname", 40),
        ("b", "0", "hostname", 60),
    ):
        labels = f'{label}="{host}",gpu="{gpu}",UUID="{host}{gpu}"'
        values = [float(value)] * len(times)
        past.add("DCGM_FI_DEV_GPU_UTIL", "gauge", labels, values)
        past.add("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "gauge", labels, [each / 200 for each in values])
    # The same GPU by a second scrape job counts once.
    past.add(
        "DCGM_FI_DEV_GPU_UTIL",
        "gauge",
        'hostname="b",gpu="0",UUID="b0",job="x"',
        [60.0] * len(times),
    )
    with PrometheusServer(tmp_path, program) as server:
        server.backfill(past.text)
        server.start()
        signals = PrometheusSignals(Connection(server.url), policy_of)
        use = signals.utilisation(END + 5.0)
        assert use.gpus == 3
        assert use.gpu_util == pytest.approx(0.6)
        assert use.active == pytest.approx(0.3)
        assert use.active_metric == "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
        assert "SM_ACTIVE is not exported" in use.note
        assert signals.utilisation(END + 200.0).gpus == 0
