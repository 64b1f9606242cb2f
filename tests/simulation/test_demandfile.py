"""Reading demand: what is kept, what is filled, and where a bad file is refused."""

from pathlib import Path

import pytest

from scheduler.simulation.demandfile import DemandError, Trace, load_demand

HEADER = "timestamp_s,requests,prompt_tokens,generated_tokens,valid"


def loaded(folder: Path, *rows: str, header: str = HEADER) -> Trace:
    path = folder / "demand.csv"
    path.write_text("\n".join((header, *rows)) + "\n")
    return load_demand(path)


def test_columns_are_found_by_name_and_others_ignored(tmp_path: Path) -> None:
    trace = loaded(
        tmp_path,
        "1,50,7,x,0,2.5,100",
        "0,60,8,x,10,1.5,200",
        header="valid,timestamp_s,requests,note,generated_tokens,iat_cv,prompt_tokens",
    )
    assert (trace.start_seconds, trace.bin_seconds, trace.end_seconds) == (50, 10, 70)
    assert trace.requests.tolist() == [7, 8]
    assert trace.prompt_tokens.tolist() == [100, 200]
    assert trace.generated_tokens.tolist() == [0, 10]
    assert trace.valid.tolist() == [True, False]
    assert trace.iat_cv.tolist() == [2.5, 1.5]


def test_missing_rows_become_invalid_bins(tmp_path: Path) -> None:
    trace = loaded(tmp_path, "0,1,1,1,1", "60,2,2,2,1", "240,3,3,3,1")
    assert trace.requests.tolist() == [1, 2, 0, 0, 3]
    assert trace.valid.tolist() == [True, True, False, False, True]
    assert trace.iat_cv.tolist() == [1] * 5


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["0,1,1,1,1"], "1 rows; give at least 2"),
        ([], "0 rows"),
        (["0,1,1,1,1", "60,x,1,1,1"], "line 3: column requests: 'x'"),
        (["0,1,1,1,1", "60,-1,1,1,1"], "line 3: column requests: '-1'"),
        (["0,1,1,1,1", "60,1,inf,1,1"], "line 3: column prompt_tokens: 'inf'"),
        (["0,1,1,1,1", "60,1,1,nan,1"], "line 3: column generated_tokens: 'nan'"),
        (["0,1,1,1,1", "60,1,1,,1"], "line 3: column generated_tokens: ''"),
        (["0,1,1,1,1", "60,1,1"], "line 3: column generated_tokens: missing"),
        (["0,1,1,1,1", "60,1,1,1,2"], "line 3: column valid: 2; write 1, or 0"),
        (["0,1,1,1,1", "60,0,5,0,1"], "line 3: column prompt_tokens: tokens in a bin without"),
        (["0,1,1,1,1", "0,1,1,1,1"], "line 3: column timestamp_s: 0 does not come after"),
        (["60,1,1,1,1", "0,1,1,1,1"], "line 3: column timestamp_s: 0 does not come after"),
        (["0,1,1,1,1", "60,1,1,1,1", "150,1,1,1,1"], "line 4: column timestamp_s: 90 s after"),
        (["0,1,1,1,1", "1,1,1,1,1", "9e9,1,1,1,1"], "line 4: column timestamp_s: 9000000001 bins"),
        (["0,0,0,0,1", "60,1,1,1,0"], "column requests: no valid bin has any"),
    ],
)
def test_a_bad_file_is_refused_where_it_is_bad(tmp_path: Path, rows: list[str], words: str) -> None:
    with pytest.raises(DemandError) as caught:
        loaded(tmp_path, *rows)
    assert str(caught.value).startswith(str(tmp_path / "demand.csv"))
    assert words in str(caught.value)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(DemandError, match="line 1: column valid: missing"):
        loaded(tmp_path, "0,1,1,1", header="timestamp_s,requests,prompt_tokens,generated_tokens")


def test_a_cell_without_a_column_and_a_column_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DemandError, match="line 2: more cells than the header"):
        loaded(tmp_path, "0,1,1,1,1,9", "60,1,1,1,1")
    with pytest.raises(DemandError, match="column requests: stands twice"):
        loaded(tmp_path, "0,1,1,1,1,9", header=f"{HEADER},requests")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DemandError, match=r"nowhere\.csv: cannot be read"):
        load_demand(tmp_path / "nowhere.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DemandError, match=r"bytes\.csv: cannot be read"):
        load_demand(tmp_path / "bytes.csv")


def test_recorded_files_load(shared_data: Path) -> None:
    small = load_demand(shared_data / "demand" / "servegen_m-small_600s.csv")
    assert (len(small.valid), int(small.valid.sum()), small.bin_seconds) == (1440, 1434, 600)
    code = load_demand(shared_data / "demand" / "azure2023_code_60s.csv")
    assert (len(code.valid), int(code.valid.sum()), code.bin_seconds) == (60, 56, 60)
