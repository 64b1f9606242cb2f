"""`scalerctl demo` from end to end on two nodes, and what it says to bad input."""

import json
import socket
from pathlib import Path

import pytest
import yaml

from scheduler.adapters.ledger import open_ledger
from scheduler.cli.main import main
from scheduler.simulation.clusterfile import build
from scheduler.simulation.generated import generate
from scheduler.simulation.run import Setup
from scheduler.simulation.worldfile import load_world
from tests.fixtures.calm import calm

LINE = "{t:.0f},{requests:.0f},{prompt:.0f},{generated:.0f},1\n"


SETUP = Setup(
    world=load_world(),
    cluster=build(2),
    traces={"code": generate("code", 0.6, 1)},
    history_seconds=6 * 3600.0,
    days=0.02,
    peak_share=0.5,
    demand_shares={},
    jobs=None,
)


def written_trace(path: Path) -> Path:
    """The trace as a file."""
    trace = SETUP.traces["code"]
    rows = zip(trace.requests, trace.prompt_tokens, trace.generated_tokens, strict=True)
    lines = [
        LINE.format(t=number * trace.bin_seconds, requests=r, prompt=p, generated=g)
        for number, (r, p, g) in enumerate(rows)
    ]
    path.write_text("timestamp_s,requests,prompt_tokens,generated_tokens,valid\n" + "".join(lines))
    return path


def test_it_plays_compares_and_leaves_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = written_trace(tmp_path / "code.csv")
    out = tmp_path / "out"
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump(calm(SETUP).model_dump(mode="json")))
    world = ["--nodes", "2", "--days", "0.02", "--history", "6h", "--demand", f"code={trace}"]
    assert main(["demo", *world, "--policy", str(policy), "--out", str(out)]) == 0
    said = capsys.readouterr()
    rows = [line.split() for line in said.out.splitlines()]
    assert [row[0] for row in rows[1:4]] == ["tidal", "static", "hpa"]
    assert "100%" not in said.out
    assert "daemon  process" in said.err
    report = json.loads((out / "report.json").read_text())
    assert report["schema"] == "tidal.demo/1"
    assert report["inputs"]["compare"] == ["static", "hpa"]
    assert report["inputs"]["files_sha256"].keys() == {"demand.code", "policy"}
    tidal, *rivals = report["results"]
    assert tidal["policy"] == "tidal"
    assert tidal["violations"] == 0
    # an answer that a slow machine gives too late counts as none
    assert tidal["placed_by_extender"] > 10 * tidal["placed_by_default"]
    assert tidal["ledger_gaps"] == tidal["daemon_restarts"] == 0
    assert {one["policy"] for one in rivals if one["equal_slo"]} == {"static", "hpa"}
    assert report["timing"]["wall_seconds"] >= report["timing"]["play_seconds"] > 0
    assert (out / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "events.jsonl").stat().st_size > 0
    with open_ledger(out / "ledger.sqlite") as ledger:
        assert ledger.next_number() - 1 == tidal["ticks"]
    trace.unlink()


@pytest.fixture
def taken() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--nodes", "0"], "--nodes: '0'"),
        (["--days", "never"], "--days: 'never'"),
        (["--demand", "chat"], "--demand: 'chat' is not MODEL=FILE"),
        (["--demand", "chat=none.csv"], "none.csv"),
        (["--demand", "chat=bad.csv"], "bad.csv: line 1: column timestamp_s"),
        (["--cluster", "bad.csv"], ""),
        (["--world", "none.yaml"], ": none.yaml: cannot be read"),
        (["--policy", "none.yaml"], ": none.yaml: cannot be read"),
        (["--port", "-1"], "--port: '-1' is no port"),
        (["--out", "bad.csv"], "--out: bad.csv cannot be written"),
        (["--faster"], "--faster: is not known here"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_started(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.csv").write_text("a,b\n")
    assert main(["demo", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("scalerctl: ")
    assert sentence in said.err
    assert len(said.err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bad.csv"]


def test_a_port_in_use_is_named(taken: socket.socket, capsys: pytest.CaptureFixture[str]) -> None:
    with taken:
        port = taken.getsockname()[1]
        assert main(["demo", "--port", str(port)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"scalerctl: --port: cannot listen on 127.0.0.1:{port} (Address already in use); "
        "choose another, or 0 for any\n"
    )
