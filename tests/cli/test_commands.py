"""`scalerctl` against a real API: what it prints, and what it says when it cannot."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

from scheduler.adapters.ledger import open_ledger
from scheduler.cli.main import COMMANDS, main
from scheduler.cli.plan import reason_rows
from scheduler.daemon.api import Api, ApiServer
from scheduler.daemon.documents.shapes import Facts
from scheduler.daemon.tick import Progress
from scheduler.planning.actions import Reason
from tests.fixtures.ticks import busy_tick, tampered

Capture = pytest.CaptureFixture[str]
LOOPBACK = "127.0.0.1"


@pytest.fixture(scope="module")
def ledger_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of tick 7, and tick 8 with a lie in it."""
    path = tmp_path_factory.mktemp("ledger") / "ticks.db"
    with open_ledger(path) as ledger:
        ledger.record(busy_tick())
        lie = tampered(busy_tick(), lendable_gpus=5)
        ledger.record(msgspec.structs.replace(lie, number=8))
    return path


@pytest.fixture(scope="module")
def url(ledger_file: Path) -> Iterator[str]:
    facts = Facts(policy_errors=("mode: must be 'off'",), worker_failures=2)
    with open_ledger(ledger_file) as ledger:
        api = Api(ledger, lambda: facts)
        tick = msgspec.structs.replace(busy_tick(), violations=("job x runs twice",))
        api.publish(Progress(number=8, last=tick))
        server = ApiServer(api, LOOPBACK, 0)
        yield f"http://{LOOPBACK}:{server.port}"
        server.stop()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that does not exist must not be asked."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("TIDAL_SERVER", raising=False)


def shown(capsys: Capture, *argv: str) -> str:
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys: Capture, *argv: str) -> str:
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("scalerctl: ")
    assert err.count("\n") == 1
    return err


READERS = [
    (("status",), "tidal.status/1"),
    (("forecast", "chat"), "tidal.forecast/2"),
    (("plan",), "tidal.plan/1"),
    (("explain", "chat/decode"), "tidal.explain/1"),
    (("replay", "7"), "tidal.replay/1"),
]


@pytest.mark.parametrize(("argv", "schema"), READERS)
def test_json_and_yaml_hold_the_same_document(
    capsys: Capture, url: str, argv: tuple[str, ...], schema: str
) -> None:
    as_json = json.loads(shown(capsys, *argv, "--server", url, "-o", "json"))
    as_yaml = yaml.safe_load(shown(capsys, *argv, "--server", url, "-o", "yaml"))
    assert as_json["schema"] == as_yaml["schema"] == schema
    assert set(as_json) == set(as_yaml)


@pytest.mark.parametrize(
    ("argv", "lines"),
    [
        (
            ("status",),
            [
                "MODE   TICK   PLAN   AGE",
                "16     2        10     1       3          0      0           0        81.2%",
                "chat/decode   1/7     0          0",
                "H100-SXM-80GB   3           0           2 GPUs 1.64",
                "violation: job x runs twice",
                "policy: the last edit is refused: mode: must be 'off'",
                "planner: its process failed 2 times since the daemon started",
                "ALLOCATED: GPUs that any pod holds / all GPUs of Ready nodes",
            ],
        ),
        (
            ("forecast", "chat"),
            [
                "chat/generated_tokens: live, last 8,000; all rates in generated tokens/s",
                "IN    P50",
                "PEAK WITHIN   P50",
                "8h  ",
            ],
        ),
        (
            ("plan",),
            [
                "chat/decode   lead_peak   0 tok/s   8,000 tok/s   the peak within 300 s is",
                "chat/decode   wanted      1         8 ",
                "chat/decode    n0:2    5m           chat/decode@10000.000-0",
                "online     1       6        a-0,b-1",
                "chat/decode lacks 1.0 replicas: no further GPU can be freed",
            ],
        ),
        (
            ("explain", "loan-b-1"),
            ["loan: 8 GPUs lent to b-1, due back in 2000 s", "return in      33m20s"],
        ),
        (("replay", "7"), ["tick 7 (full, plan full): nothing differs; packings verified: 1"]),
    ],
)
def test_tables_are_plain_where_nobody_watches(
    capsys: Capture, url: str, argv: tuple[str, ...], lines: list[str]
) -> None:
    out = shown(capsys, *argv, "--server", url)
    found = out.splitlines()
    for line in lines:
        assert any(one.startswith(line) for one in found), (line, out)
    assert "\x1b" not in out
    assert found == [line.rstrip() for line in found]


def test_the_server_comes_from_the_environment(
    capsys: Capture, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDAL_SERVER", url)
    assert "MODE" in shown(capsys, "status")


@pytest.mark.parametrize("ledger", [False, True], ids=["daemon", "file"])
def test_a_replay_that_differs_ends_with_1(
    capsys: Capture, url: str, ledger_file: Path, ledger: bool
) -> None:
    source = ("--ledger", str(ledger_file)) if ledger else ("--server", url)
    assert main(("replay", "8", *source)) == 1
    out, err = capsys.readouterr()
    assert "plan.lendable_gpus   5        0" in out
    assert err == ""


def test_a_replay_needs_no_daemon(capsys: Capture, ledger_file: Path) -> None:
    out = shown(capsys, "replay", "7", "--ledger", str(ledger_file), "-o", "json")
    assert json.loads(out)["differences"] == []


def test_watch_repeats_until_ctrl_c(
    capsys: Capture, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def interrupted(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("scheduler.cli.status.time.sleep", interrupted)
    assert main(("status", "--watch", "--server", url)) == 130
    out, err = capsys.readouterr()
    assert out.count("MODE") == 2
    assert err == ""


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "COMMAND: is missing; one of status, "),
        (("stats",), "COMMAND: invalid choice: 'stats'"),
        (("status", "--bar"), "--bar: is not known here; see 'scalerctl --help'"),
        (("status", "-o", "xml"), "-o/--output: invalid choice: 'xml'"),
        (("status", "--out", "json"), "--out json: is not known here"),
        (("status", "--watch", "-o", "json"), "--watch: "),
        (("forecast",), "MODEL: is missing; see 'scalerctl forecast --help'"),
        (("explain", ""), "OBJECT: is empty; name one"),
        (("replay", "seven"), "TICK: 'seven' is no tick number; see 'scalerctl replay --help'"),
        (("policy",), "ACTION: is missing"),
        (("status", "--server", "ftp://x"), "--server: 'ftp://x' is no http:// address; give one"),
        (("status", "--server", "http://[::1"), "--server: "),
        (("status", "--server", "http://127.0.0.1:1"), "cannot be reached (Connection refused)"),
        (("replay", "1", "--ledger", "/nowhere"), "--ledger: /nowhere is no file"),
        (("replay", "1", "--ledger", __file__), "is no ledger"),
        (("policy", "check", "/nowhere"), "/nowhere: cannot be read: No such file or directory"),
    ],
)
def test_wrong_use_is_one_line(capsys: Capture, argv: tuple[str, ...], words: str) -> None:
    assert words in refused(capsys, *argv)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("forecast", "chut"), "model: there is no 'chut'; known models: chat"),
        (("forecast", "chat/x"), "no series or role of chat; its series: chat/generated_tokens"),
        (("explain", "chat/decod"), "near: chat/decode"),
        (("explain", "a b?c#d"), "object: there is no 'a b?c#d'"),
        (("replay", "99"), "tick 99 is not in the ledger; it holds 7 to 8"),
    ],
)
def test_what_the_daemon_does_not_know_is_one_line(
    capsys: Capture, url: str, argv: tuple[str, ...], words: str
) -> None:
    assert words in refused(capsys, *argv, "--server", url)


def test_an_unknown_tick_of_a_file_is_one_line(capsys: Capture, ledger_file: Path) -> None:
    err = refused(capsys, "replay", "99", "--ledger", str(ledger_file))
    assert "tick 99 is not in the ledger" in err


def test_another_server_is_told_apart(capsys: Capture, url: str) -> None:
    assert "path: " in refused(capsys, "status", "--server", f"{url}/elsewhere")
    err = refused(capsys, "status", "--server", f"{url}/metrics?")
    assert "answers with another document than expected" in err


def test_a_policy_check_says_every_error_in_its_own_line(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("version: 2\nmodels: {}\nlending: {quantile: 0.8, speed: 1}\n")
    assert main(("policy", "check", str(path))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    fields = [line.split(": ")[:2] for line in err.splitlines()]
    assert fields == [
        ["scalerctl", "version"],
        ["scalerctl", "models"],
        ["scalerctl", "lending.quantile"],
        ["scalerctl", "lending.speed"],
    ]


def test_a_good_policy_is_shown_with_its_defaults(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        "version: 1\nmodels: {chat: {roles: {decode: "
        "{tokens: generated, capacity_tokens_per_second: {H100: 1000}}}}}\n"
    )
    out = shown(capsys, "policy", "check", str(path))
    assert out.startswith("the policy is good; mode act\n")
    assert "chat/decode   1      generated" in out
    document = json.loads(shown(capsys, "policy", "check", str(path), "-o", "json"))
    assert document["schema"] == "tidal.policy/1"
    assert document["policy"]["lending"]["quantile"] == 0.9


def test_the_version_is_the_installed_one(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.cli.main.metadata.version", {"tidal": "1.2.3"}.__getitem__)
    assert shown(capsys, "--version") == "scalerctl 1.2.3\n"


def test_help_lists_every_command(capsys: Capture) -> None:
    out = shown(capsys, "--help")
    assert all(f"\n    {command}" in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys: Capture, command: str) -> None:
    assert shown(capsys, command, "--help").startswith(f"usage: scalerctl {command} ")


def test_steps_of_a_sizing_are_told_in_tokens_or_replicas() -> None:
    steps = (Reason("level", 0, 7640, "a", "tokens_per_second"), Reason("replicas", 0, 1008, "b"))
    assert reason_rows(steps) == [
        ("level", "0 tok/s", "7,640 tok/s", "a"),
        ("replicas", "0", "1.01", "b"),
    ]
