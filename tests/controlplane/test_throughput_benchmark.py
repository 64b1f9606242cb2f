"""The throughput benchmark, small: every contender binds all pods, and the document says so."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE = [sys.executable, "-m", "tests.benchmarks.kube_throughput"]


def throughput(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MODULE, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.controlplane
def test_it_prints_one_document_with_every_run() -> None:
    done = throughput("--nodes", "8", "--pods", "24", "--rounds", "1", "-o", "json")
    assert done.returncode in {0, 1}, done.stderr  # so few pods say nothing about the ratio
    document = json.loads(done.stdout)
    assert document["schema"] == "tidal.kube_throughput/1"
    names = ["none", "trivial", "tidal", "mtls", "reserved"]
    assert document["results"] == [{"extender": name, "round": 0, "wrong": ""} for name in names]
    timing = document["timing"]
    assert timing["reference_seconds"] > 0
    assert all(timing["median_pods_per_second"][name] > 0 for name in names)
    calls = [one["verbs"].get("filter", {"calls": 0})["calls"] for one in timing["records"]]
    assert calls[:2] == [0, 0], "nobody counts where Tidal is not asked"
    assert min(calls[2:]) >= 24
    assert timing["ratio"] == timing["ratios"]["tidal"]


def test_more_pods_than_gpus_are_refused_in_one_line() -> None:
    done = throughput("--nodes", "1", "--pods", "9")
    assert done.returncode == 2
    assert done.stderr.startswith("--pods: 9 is not from 2 to 8, --nodes x --gpus")
