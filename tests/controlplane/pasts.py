"""Pasts of engines for a real Prometheus, as counters at each scrape, and the policy that asks."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scheduler.planning.policy import Policy, parse

BIN = 300
SCRAPE = 30
DAY = 86400
END = 1_760_000_100 // BIN * BIN  # any multiple of a bin in the past
Find = Callable[[str], Path]
Floats = NDArray[np.float64]


def policy_of(kind: str = "RoleBasedGroup") -> Policy:
    """Prefill and decode of one model, as pods of one RoleBasedGroup or of two Deployments."""

    def target(role: str) -> dict[str, str]:
        if kind == "RoleBasedGroup":
            return {"kind": kind, "namespace": "serving", "name": "pd", "role": role}
        return {"kind": kind, "namespace": "serving", "name": role}

    roles = {
        role: {
            "target": target(role),
            "tokens": stream,
            "capacity_tokens_per_second": {"H100": 1000.0},
        }
        for role, stream in (("prefill", "prompt"), ("decode", "generated"))
    }
    return parse({"version": 1, "models": {"m": {"roles": roles}}})


def engine(pod: str, engine_labels: str = 'model_name="m",engine="0"') -> str:
    return f'{engine_labels},namespace="serving",pod="{pod}",instance="{pod}:8000"'


class Past:
    """Counters of pods over time, as OpenMetrics text. Values at each scrape, None: no scrape."""

    def __init__(self, times: Floats) -> None:
        self.times = times
        self._lines: dict[str, list[str]] = {}

    def add(self, name: str, kind: str, labels: str, values: Sequence[float | None]) -> None:
        family = name.removesuffix("_total")
        lines = self._lines.setdefault(family, [f"# TYPE {family} {kind}"])
        lines += [
            f"{name}{{{labels}}} {value:.3f} {at:.0f}"
            for at, value in zip(self.times, values, strict=True)
            if value is not None
        ]

    @property
    def text(self) -> str:
        return "\n".join([line for lines in self._lines.values() for line in lines] + ["# EOF\n"])


def counted(rate: Floats, restart: int | None, hole: slice) -> list[float | None]:
    """Integrate a rate per scrape. A restart puts the counter to zero just after a scrape: what
    is counted between the last scrape and a restart is lost to everybody. A hole has no scrapes.
    """
    total = np.cumsum(rate * SCRAPE)
    if restart is not None and restart < len(total):
        total[restart:] -= total[restart - 1]
    values: list[float | None] = total.tolist()
    values[hole] = [None] * len(values[hole])
    return values


def tide(times: Floats, low: float, high: float) -> Floats:
    """A day's wave with a faster one on it, in tokens per second."""
    wave = 0.5 - 0.45 * np.cos(2 * np.pi * times / DAY) + 0.02 * np.sin(2 * np.pi * times / 4000)
    return np.asarray(low + (high - low) * wave)


def bin_rates(rate: Floats) -> Floats:
    """Mean rate of each bin; the scrape at a bin's start belongs to the bin before it."""
    return np.asarray(rate[1:].reshape(-1, BIN // SCRAPE).mean(axis=1))


HOLE = slice(2000, 2040)  # 20 minutes without scrapes
RESTART = 3500


def pd_past(times: Floats, prompt: Floats, generated: Floats) -> Past:
    """Two pods per role; both roles count both streams, as engines of a pair do."""
    past = Past(times)
    zero: list[float | None] = [0.0] * len(times)
    zero[HOLE] = [None] * len(zero[HOLE])
    for role in ("prefill", "decode"):
        for index in (0, 1):
            labels = engine(f"pd-{role}-{index}")
            restart = RESTART if index == 0 else None
            share = 0.3 if index == 0 else 0.7
            past.add(
                "vllm:prompt_tokens_total",
                "counter",
                labels,
                counted(prompt * share, restart, HOLE),
            )
            # A prefill engine makes one token per request.
            made = generated * share if role == "decode" else prompt * share / 1000
            past.add(
                "vllm:generation_tokens_total", "counter", labels, counted(made, restart, HOLE)
            )
            past.add(
                "vllm:request_success_total",
                "counter",
                labels,
                counted(prompt * share / 1000, restart, HOLE),
            )
            past.add("vllm:num_requests_running", "gauge", labels, zero)
            past.add("vllm:num_requests_waiting", "gauge", labels, zero)
    return past
