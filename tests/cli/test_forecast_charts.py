"""The fan chart in characters and as PNG."""

import struct
from pathlib import Path

import msgspec
import pytest

from forecasting import Record, SeriesForecast
from forecasting.diagnostics import Diagnosis, Errors
from scheduler.cli.fan import INTERVALS, LABEL, PAST, between, fan, scale_of
from scheduler.cli.fanpicture import draw
from scheduler.cli.forecast import tell
from scheduler.cli.main import main
from scheduler.cli.terminal import print_parts
from scheduler.cli.words import figure
from scheduler.daemon.documents.shapes import Outlook, SeriesOutlook

HORIZONS = (300.0, 3600.0, 86400.0)
LEADS = (300.0, 3600.0)
QUANTILES = (0.5, 0.9, 0.95, 0.99)
AT = ((100.0, 110.0, 120.0, 130.0), (100.0, 130.0, 150.0, 180.0), (60.0, 120.0, 180.0, 240.0))
PAST_RATES = (None,) * 576 + tuple(100.0 if number % 2 else 90.0 for number in range(288))


def outlook(**changes: object) -> Outlook:
    forecast = SeriesForecast(
        key="chat/requests",
        status="live",
        at=AT,
        peak=AT[:2],
        last=90.0,
        weights={"last": 0.25, "profile": 0.75, "harmonic": 0.0},
        coverage=0.912,
        skill=0.31,
        record=(
            Record(horizon_seconds=1800.0, coverage=0.912, skill_yesterday=0.31, skill_last=0.07),
            Record(horizon_seconds=86400.0, coverage=0.88, skill_yesterday=-0.02, skill_last=None),
        ),
    )
    one = SeriesOutlook(
        unit="requests/s",
        past=PAST_RATES,
        forecast=msgspec.structs.replace(forecast, **changes),
        diagnosis=Diagnosis(
            known_seconds=12.5 * 86400,
            newest_age_seconds=0.0,
            zero_share=0.0,
            season_day=0.77,
            autocorrelation_day=0.6,
            errors=Errors(count=640, correlation=0.41, lag_seconds=86400.0, p_value=1e-9),
        ),
        remarks=("Partial: something.",),
    )
    return Outlook(
        tick=4,
        now_seconds=1_000_030.0,
        model="chat",
        issued_at_seconds=1_000_000.0,
        bin_seconds=300.0,
        horizons_seconds=HORIZONS,
        leads_seconds=LEADS,
        quantiles=QUANTILES,
        judged_horizon_seconds=1800.0,
        judged_quantile=0.9,
        series=(one,),
    )


def shown(capsys: pytest.CaptureFixture[str], document: Outlook) -> list[str]:
    print_parts(tell(document))
    return capsys.readouterr().out.splitlines()


def test_the_table_reads_as_it_should(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, outlook())
    assert lines[:2] + lines[3:4] == [
        "chat: issued 30s before the last observation",
        "",
        "- Partial: something.",
    ]
    assert lines[2] == "chat/requests: live, last 90.0; all rates in requests/s"
    for wanted in (
        "IN   P50    P90   P95   P99",
        "1d   60.0   120   180   240",
        "PEAK WITHIN   P50   P90   P95   P99",
        "P90 IN   HELD    VS YESTERDAY   VS LAST VALUE",
        "30m      91.2%   +31%           +7%",
        "1d       88.0%   -2%            -",
        "known          12d12h   of the last four weeks",
        "tide of 24 h   0.77     0 none, 1 nothing else (STL)",
        "tide of 7 d    -        the same, beside that of 24 h",
        "errors         +0.41    correlation with errors 1d before (Ljung-Box p 1e-09)",
        "that guess with a band of the same kind.",
        "P90 in 30m is made of profile 75%, last 25%.",
    ):
        assert wanted in lines, wanted
    assert max(map(len, lines)) <= 80


NOTHING = ((0.0,) * 4,) * 2


def test_of_a_series_that_was_never_seen_only_that_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = shown(capsys, outlook(status="absent", peak=NOTHING))
    assert lines[2:] == ["chat/requests: absent; all rates in requests/s", "- Partial: something."]


def test_a_guess_for_a_series_that_was_never_seen_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = shown(capsys, outlook(status="absent", weights={}, record=()))
    assert "PEAK WITHIN   P50   P90   P95   P99" in lines
    assert "P90 in 30m is made of -." in lines
    assert not any("HELD" in line for line in lines)
    assert not any("%" in line for line in lines if "zero" not in line)


def test_long_remarks_are_broken_between_words(capsys: pytest.CaptureFixture[str]) -> None:
    document = outlook()
    (one,) = document.series
    long = msgspec.structs.replace(one, remarks=("twelve chars " * 12,))
    lines = shown(capsys, msgspec.structs.replace(document, series=(long,)))
    assert lines[3].startswith("- twelve chars")
    assert lines[4].startswith("  twelve")
    assert max(map(len, lines)) <= 80


# ---- the chart


def chart(past: tuple[float | None, ...] = PAST_RATES) -> list[str]:
    return fan(past, HORIZONS, AT, QUANTILES, 300.0).splitlines()


def test_the_chart_fits_eighty_columns_and_labels_its_axes() -> None:
    lines = chart()
    assert max(map(len, lines)) <= 80
    assert [line[:LABEL].strip() for line in lines if "┤" in line] == [
        *("300", "250", "200", "150", "100", "50", "0"),
    ]
    assert lines[-3].split() == [
        *("-24h", "-18h", "-12h", "-6h", "now", "+6h", "+12h", "+18h", "+24h"),
    ]
    assert lines[-1].split("   ")[-4:] == ["─ P50", "▓ up to P90", "▒ up to P95", "░ up to P99"]


def test_quantiles_stand_above_each_other_in_every_column() -> None:
    rows = chart()[: INTERVALS + 1]
    start = LABEL + 1 + PAST
    order = {" ": 4, "░": 3, "▒": 2, "▓": 1, "─": 0}
    for column in range(start, start + 34):
        cells = [row.ljust(start + 34)[column] for row in rows]
        ranks = [order[cell] for cell in cells]
        below = cells.index("─")
        assert ranks[: below + 1] == sorted(ranks[: below + 1], reverse=True)
        assert set(cells[below + 1 :]) <= {" "}


def test_the_past_is_drawn_where_it_was() -> None:
    """A day at 100 of 250 fills the row of 100 and no other, from -24 h until now."""
    rows = fan((100.0,) * 288, HORIZONS, AT, QUANTILES, 300.0).splitlines()[: INTERVALS + 1]
    scale = scale_of(240.0)
    filled = [
        (INTERVALS - number, row[LABEL + 1 : LABEL + 1 + PAST].strip())
        for number, row in enumerate(rows)
        if row[LABEL + 1 : LABEL + 1 + PAST].strip()
    ]
    assert [row for row, _ in filled] == [scale.row(100.0)]
    assert len(filled[0][1]) == PAST


@pytest.mark.parametrize("past", [(), (None,) * 288, (None,) * 864])
def test_an_unknown_past_is_blank(past: tuple[float | None, ...]) -> None:
    for row in chart(past)[: INTERVALS + 1]:
        assert row[LABEL + 1 : LABEL + 1 + PAST].strip() == ""


def test_a_gap_is_blank_and_a_young_past_stands_at_the_right() -> None:
    rows = chart((100.0,) * 72 + (None,) * 72 + (100.0,) * 72)[: INTERVALS + 1]
    columns = [
        any(row.ljust(80)[LABEL + 1 + column] != " " for row in rows) for column in range(PAST)
    ]
    assert not any(columns[:8])
    assert all(columns[9:16])
    assert not any(columns[18:25])
    assert all(columns[26:])


@pytest.mark.parametrize("highest", [0.0, 1e-4, 0.3, 1.0, 7.0, 99.0, 1234.0, 3e8])
def test_a_scale_holds_its_value_and_wastes_little(highest: float) -> None:
    scale = scale_of(highest)
    assert scale.top >= highest
    assert highest == 0.0 or scale.top <= 1.8 * highest
    assert INTERVALS % scale.every == 0


def test_a_forecast_of_zero_draws_a_line_at_zero() -> None:
    rows = fan((0.0,) * 288, HORIZONS, ((0.0,) * 4,) * 3, QUANTILES, 300.0).splitlines()
    assert rows[INTERVALS].endswith("─" * 34)


@pytest.mark.parametrize(
    ("ahead", "middle"),
    [(0.0, 100.0), (300.0, 100.0), (3600.0, 100.0), (45000.0, 80.0), (1e9, 60.0)],
)
def test_between_horizons_lie_straight_lines(ahead: float, middle: float) -> None:
    assert between(HORIZONS, AT, ahead)[0] == pytest.approx(middle)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.02134, "0.0213"),
        (1.0, "1.00"),
        (99.96, "100"),
        (123.4, "123"),
        (12345.0, "12,300"),
        (1e9, "1,000,000,000"),
    ],
)
def test_rates_of_any_size_have_three_digits(value: float, text: str) -> None:
    assert figure(value) == text


# ---- the picture


def test_the_picture_is_a_png_with_a_panel_for_each_series(tmp_path: Path) -> None:
    one = outlook()
    heights = []
    for count in (1, 2):
        path = tmp_path / f"{count}.png"
        draw(path, msgspec.structs.replace(one, series=one.series * count))
        head = path.read_bytes()[:24]
        assert head.startswith(b"\x89PNG")
        assert path.stat().st_size > 10_000
        heights.append(struct.unpack(">II", head[16:24])[1])
    assert heights[1] > 1.5 * heights[0]


def test_a_file_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.cli.forecast.show", lambda *_: outlook())
    path = tmp_path / "nowhere" / "x.png"
    assert main(("forecast", "chat", "--png", str(path))) == 2
    assert capsys.readouterr().err == (
        f"scalerctl: --png: {path}: No such file or directory; name another file\n"
    )
    assert main(("forecast", "chat", "--png", str(tmp_path / "x.png"))) == 0
    assert (tmp_path / "x.png").stat().st_size > 10_000
