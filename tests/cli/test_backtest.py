"""`scalerctl backtest` on small made-up files: what it prints, writes and refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from forecasting.backtest import RIVAL_METHODS
from scheduler.cli.backtestwords import verdicts
from scheduler.cli.main import main

Capture = pytest.CaptureFixture[str]
Writer = Callable[..., Path]
HEADER = "timestamp_s,requests,prompt_tokens,generated_tokens,valid"
QUICK = ("--first-origin", "2d", "--step", "2h", "--horizons", "1h,6h", "--leads", "1h")
OF_700S = ("--horizons", "70m", "--leads", "70m", "--step", "70m")
ONE = (*QUICK, "--fields", "requests", "--processes", "1")


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    def written(name: str, days: float = 5, *, seed: int = 0, width: int = 1800) -> Path:
        """A tide with noise; two bins are not valid."""
        rng = np.random.default_rng(seed)
        bins = round(days * 86400 / width)
        level = 100 + 60 * np.sin(np.arange(bins) * width / 86400 * 2 * np.pi)
        requests = rng.poisson(level)
        rows = [
            f"{at * width},{count},{count * 500},{count * 200},{int(at not in (70, 71))}"
            for at, count in enumerate(requests.tolist())
        ]
        path = tmp_path / name
        path.write_text("\n".join([HEADER, *rows]) + "\n")
        return path

    return written


def refused(capsys: Capture, *argv: str) -> str:
    assert main(("backtest", *argv)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("scalerctl: ").rstrip("\n")


def test_json_has_every_method_and_no_trace_of_the_number_of_processes(
    capsys: Capture, write: Writer
) -> None:
    files = [f"models/a={write('a.csv')}", f"tenants/b={write('b.csv', seed=1)}"]
    documents = []
    for processes in ("1", "2"):
        argv = ("backtest", "--demand", *files, *QUICK, "--processes", processes, "-o", "json")
        assert main(argv) == 0
        out, err = capsys.readouterr()
        assert err == ""  # no progress where nobody watches
        documents.append(json.loads(out))
    first, second = documents
    timing = first.pop("timing")
    assert second.pop("timing")["cores"] == timing["cores"]
    assert first == second
    assert first["schema"] == "tidal.backtest/1"
    assert first["inputs"]["horizons_seconds"] == [3600, 21600]
    assert set(first["inputs"]["files_sha256"]) == {"models/a", "tenants/b"}
    results = first["results"]
    assert {one["method"] for one in results} == {"tidal", *RIVAL_METHODS} - {
        "seasonal-naive-7d",  # five days hold no week
        "seasonal-naive-7d-scaled",
    }
    assert {(one["group"], one["series"]) for one in results} == {("models", "a"), ("tenants", "b")}
    fields = {one["field"] for one in results}
    assert fields == {"requests", "prompt_tokens", "generated_tokens"}
    tidal = [one for one in results if one["method"] == "tidal" and "quantile" in one]
    assert {one["targets"] for one in tidal if one.get("horizon_seconds") == 3600} == {34}
    assert all(0 < one["pinball"] < 0.3 and 0 <= one["coverage"] <= 1 for one in tidal)
    assert [one["horizon_seconds"] for one in first["ratios"] if "horizon_seconds" in one] == [
        3600,
        21600,
    ] * 2
    assert timing["cpu_seconds_per_series_tick"] > 0
    assert timing["bytes_per_series"] > 1000


def test_a_table_ends_with_a_verdict_and_the_report_can_be_looked_at(
    capsys: Capture, write: Writer, tmp_path: Path
) -> None:
    files = [f"models/a={write('a.csv', 8)}", f"b={write('b.csv', 8, seed=1)}"]
    folder = tmp_path / "deep" / "report"
    assert main(("backtest", "--demand", *files, *ONE, "--report", str(folder))) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "P90 LOSS, % OF MEAN DEMAND" in out
    assert "-scaled" not in out.partition("TIDAL AGAINST")[0]
    assert "TIDAL AGAINST ITS RIVALS" in out
    assert [line for line in out.splitlines() if line.startswith(("models: ", "all: "))]
    names = {path.name for path in folder.iterdir()}
    pictures = {"loss.png", "calibration.png", "fan-models.png", "fan-all.png"}
    assert names == {"backtest.json", *pictures}
    for name in pictures:
        pixels = imread(folder / name)
        assert pixels.shape[0] > 300
        assert np.ptp(pixels[..., :3]) > 0.5
    assert json.loads((folder / "backtest.json").read_text())["ratios"]


def test_rivals_can_be_looked_at_without_tidal(
    capsys: Capture, write: Writer, tmp_path: Path
) -> None:
    argv = ("--demand", f"a={write('a.csv')}", *ONE, "--methods", "constant", "--quantiles", ".95")
    assert main(("backtest", *argv, "--report", str(tmp_path / "r"))) == 0
    out, _ = capsys.readouterr()
    assert "constant" in out
    assert "AGAINST" not in out
    assert "P95 LOSS" in out
    assert {path.name for path in (tmp_path / "r").iterdir()} == {"backtest.json", "loss.png"}


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda text: text.replace("prompt_tokens", "prompt"), "column prompt_tokens: missing"),
        (lambda text: text.replace("\n1800,", "\n5400,"), "column timestamp_s: 3600 does not come"),
        (lambda text: text.replace("\n1800,", "\n0,"), "column timestamp_s: 0 does not come after"),
        (lambda text: text.replace("\n1800,", "\n2000,"), "no whole multiple of the bin width"),
        (lambda text: text.replace("\n1800,", "\n1800,nan,0,0,1\n2700,"), "column requests: 'nan'"),
        (lambda text: text.replace("\n1800,", "\n1800,-1,0,0,1\n2700,"), "column requests: '-1'"),
        (lambda text: text.split("\n", maxsplit=1)[0] + "\n", "0 rows"),
    ],
)
def test_a_bad_file_is_named_with_its_column(
    capsys: Capture, write: Writer, edit: Callable[[str], str], named: str
) -> None:
    path = write("a.csv")
    path.write_text(edit(path.read_text()))
    error = refused(capsys, "--demand", f"a={path}", *ONE)
    assert error.startswith(f"{path}: ")
    assert named in error


def test_wrong_use_is_one_line_with_the_fix(capsys: Capture, write: Writer, tmp_path: Path) -> None:
    path = write("a.csv")
    (tmp_path / "file").write_text("")
    one = ("--demand", f"a={path}")
    for argv, named in (
        ((), "--demand: missing; give at least one NAME=FILE"),
        (("--demand", str(path)), "is not [GROUP/]NAME=FILE"),
        (("--demand", f"a={tmp_path}/none.csv"), "none.csv: cannot be read: No such file"),
        ((*one, f"all/a={path}"), "--demand: all/a is given twice"),
        ((*one, "--methods", "tidal,prophet"), "--methods: 'prophet' is unknown; use tidal, "),
        ((*one, "--fields", "tokens"), "--fields: 'tokens' is unknown; use requests, "),
        ((*one, "--horizons", "1h,30m"), "--horizons: '1h,30m' is not ascending"),
        ((*one, "--horizons", "soon"), "--horizons: 'soon' is no duration"),
        ((*one, "--quantiles", ".9,1"), "--quantiles: '1' is no quantile"),
        ((*one, *QUICK, "--horizons", "45m"), f"{path}: a/requests: --horizons: 2700 s is no mult"),
        ((*one, *QUICK, "--horizons", "2d"), "--horizons: 172800 s is not between its bin of 1800"),
        ((*one, *QUICK, "--leads", "30m,100m"), "--leads: 6000 s is no multiple of its bins"),
        (("--demand", f"a={write('w', width=7200)}", *ONE), "--horizons: 3600 s is not between"),
        (("--demand", f"a={write('u', width=700)}", *OF_700S), "does not divide an hour; use 300"),
        ((*one, "--leads", "1h", "--horizons", "1h"), "--first-origin: 5 days hold"),
        ((*one, *QUICK, "--step", "20m"), "--step: 1200 s is not between its bin"),
        ((*one, *ONE, "--report", str(tmp_path / "file")), "--report: "),
    ):
        assert named in refused(capsys, *argv)


def test_without_a_p90_the_nearest_quantile_is_judged(capsys: Capture, write: Writer) -> None:
    argv = ("--demand", f"a={write('a.csv', 8)}", *ONE, "--methods", "tidal,constant")
    assert main(("backtest", *argv, "--quantiles", ".5,.8")) == 0
    out, _ = capsys.readouterr()
    assert "P80 LOSS" in out
    assert "AT P80" in out
    assert "P90" not in out


def record(**changes: object) -> dict[str, object]:
    return {
        "group": "g",
        "intermittent": False,
        "horizon_seconds": 1800.0,
        "series": 2,
        "quantile": 0.9,
        "targets": 600,
        "best_rival": "constant",
        "pinball_ratio_best_rival": 0.8,
        "coverage_p90": 0.9,
        "coverage_error_p90_points": 0.0,
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "g: Trust it. Its P90 loses less than every rival's: 30m (-20% against constant)."),
        ({"pinball_ratio_best_rival": 0.99}, "g: No skill up to an hour: rely on its quantiles"),
        ({"pinball_ratio_best_rival": 1.2}, "g: No skill: a rival would have served this history"),
        ({"coverage_error_p90_points": -5.0}, "g: Do not rely on its P90 here yet."),
        ({"targets": 97, "series": 1, "coverage_error_p90_points": 3.8}, "g: Trust it."),
        ({"targets": 20}, "g: too short for a verdict: 10 targets a series, 48 are needed."),
        ({"best_rival": None}, "g: too short for a verdict: no rival has known errors enough"),
        ({"intermittent": True}, "g, mostly zero: Trust it."),
    ],
)
def test_the_verdict_says_what_the_figures_say(changes: dict[str, object], said: str) -> None:
    (sentence,) = verdicts([record(**changes)], 1800.0)
    assert sentence.startswith(said)


def test_what_may_be_chance_is_not_called_wrong() -> None:
    """At a day, 600 targets half an hour apart say as much as 12."""
    near = record(coverage_p90=0.85, coverage_error_p90_points=-5.0)
    far = record(horizon_seconds=86400.0, coverage_p90=0.8, coverage_error_p90_points=-10.0)
    (sentence,) = verdicts([far], 1800.0)
    assert sentence.endswith("Too few targets to tell whether its P90 holds: 1d (80.0%).")
    (sentence,) = verdicts([near, far], 1800.0)
    assert "Its P90 does not hold: 30m (85.0%). Too few targets" in sentence


def test_a_verdict_names_the_horizons_that_a_rival_wins() -> None:
    far = record(
        horizon_seconds=86400.0,
        best_rival="fft",
        pinball_ratio_best_rival=1.3,
        coverage_p90=0.7,
        coverage_error_p90_points=-20.0,
    )
    (sentence,) = verdicts([record(), far], 1800.0)
    assert sentence.startswith("g: Trust it up to an hour.")
    assert "A rival does better: 1d (+30% against fft)." in sentence
    assert "Its P90 does not hold: 1d (70.0%)." in sentence
