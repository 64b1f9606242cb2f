"""How `scalerctl` ends as a process: broken pipes, Ctrl-C, colour, and words in tables."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.text import Text

from scheduler.cli import words
from scheduler.cli.main import main
from scheduler.cli.terminal import print_parts, table

EXAMPLE = Path(__file__).parents[2] / "deploy" / "policy.example.yaml"
COMMAND = (sys.executable, "-m", "scheduler.cli.main")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.4, "0s"),
        (-0.4, "0s"),
        (59.4, "59s"),
        (60.0, "1m"),
        (750.0, "12m30s"),
        (-90.0, "-1m30s"),
        (11_520.0, "3h12m"),
        (187_200.0, "2d4h"),
    ],
)
def test_spans_read_as_kubectl_writes_them(seconds: float | None, text: str) -> None:
    assert words.span(seconds) == text


@pytest.mark.parametrize(("milli", "text"), [(None, "-"), (2000, "2"), (2050, "2.05"), (0, "0")])
def test_thousandths_drop_needless_zeros(milli: int | None, text: str) -> None:
    assert words.milli(milli) == text


def test_a_table_prints_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 500
    print_parts([table(("PATH", "WHY"), [("plan.actions[0]", "[red]no[/red]"), ("a", long)])])
    out = capsys.readouterr().out
    assert (
        out == f"PATH              WHY\nplan.actions[0]   [red]no[/red]\na                 {long}\n"
    )


def test_sentences_stay_whole(capsys: pytest.CaptureFixture[str]) -> None:
    print_parts([Text("word " * 300), Text("next")])
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    with subprocess.Popen(
        [*COMMAND, "policy", "check", EXAMPLE], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("scheduler.cli.main.import_module", interrupted)
    assert main(("status",)) == 130


def test_a_defect_is_not_taken_for_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("defect")

    monkeypatch.setattr("scheduler.cli.main.import_module", broken)
    with pytest.raises(KeyError):
        main(("status",))
