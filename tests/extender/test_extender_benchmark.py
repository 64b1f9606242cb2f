"""The extender's benchmark, small: the document it prints, and how it refuses bad use."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULE = [sys.executable, "-m", "tests.benchmarks.extender"]


def test_it_prints_one_document_with_both_halves_of_each_verb() -> None:
    arguments = ["--nodes", "16", "--concurrency", "2", "--calls", "8", "-o", "json"]
    done = subprocess.run(
        [*MODULE, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == "tidal.extender/1"
    records = document["timing"]["records"]
    assert [(one["verb"], one["planning"]) for one in records] == [
        (verb, planning)
        for planning in (False, True)
        for verb in ("filter", "prioritize", "preempt")
    ]
    assert all(one["calls"] == 8 and one["errors"] == 0 for one in records)
    assert all(0 < one["p50_seconds"] <= one["p99_seconds"] for one in records)


def test_wrong_use_is_one_line_that_names_the_argument() -> None:
    done = subprocess.run(
        [*MODULE, "--calls", "0"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("--calls: '0' is not a whole number of 1 or more")
    assert done.stderr.count("\n") == 1
