"""`scalerctl simulate` as a person calls it: one document, its files, and how wrong use ends."""

import json
from pathlib import Path

import pytest

from scheduler.cli.main import main

BROKEN_USE = 2


@pytest.fixture
def demand(tmp_path: Path) -> str:
    path = tmp_path / "chat.csv"
    rows = [f"{600 * k},{600 + 300 * (k % 7)},900000,90000,1" for k in range(48)]
    header = "timestamp_s,requests,prompt_tokens,generated_tokens,valid"
    path.write_text("\n".join((header, *rows)) + "\n")
    return f"chat={path}"


def words(demand: str, *more: str) -> list[str]:
    small = ("--nodes", "2", "--history", "1h", "--days", "0.01", "--processes", "1")
    return ["simulate", "--demand", demand, *small, *more]


def test_the_document_is_printed_and_reported(
    demand: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, events = tmp_path / "new" / "report", tmp_path / "events"
    more = ("--compare", "tidal-greedy,bound", "--report", str(report), "--events", str(events))
    assert main(words(demand, *more, "-o", "json")) == 0
    printed = capsys.readouterr().out
    document = json.loads(printed)
    assert (report / "simulate.json").read_text() == printed
    assert (report / "simulate.png").read_bytes().startswith(b"\x89PNG")
    assert [r["policy"] for r in document["results"]] == ["tidal", "tidal-greedy", "bound"]
    assert [r["policy"] for r in document["timing"]["records"]] == ["tidal", "tidal-greedy"]
    assert json.loads(events.read_text().splitlines()[-1])["t"] <= 0.01 * 86400


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (("--seed", "1", "--seeds", "2"), "--seeds: not allowed with argument --seed"),
        (("--nodes", "64", "--cluster", "x"), "--cluster: not allowed with argument --nodes"),
        (("--compare", "hpa,,static"), "--compare: '' is unknown"),
        (("--compare", "hpa,hpa"), "--compare: 'hpa' is given twice"),
        (("--events", "/nowhere/e"), "--events: /nowhere/e cannot be written"),
        (("--world", "/nowhere"), "--world: /nowhere: cannot be read: No such file or directory"),
        (("--jobs", "/nowhere"), "--jobs: /nowhere: cannot be read"),
        (("--faults", "/nowhere"), "--faults: /nowhere: cannot be read"),
        (("--policy", "/nowhere"), "--policy: /nowhere: cannot be read"),
    ],
)
def test_wrong_use_is_one_line_before_any_run(
    demand: str, more: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(demand, *more)) == BROKEN_USE
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"scalerctl: {line}")
    assert said.err.count("\n") == 1
