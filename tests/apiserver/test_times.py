import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.apiserver import times


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2024-02-29T12:00:00Z", 1709208000.0),
        ("2024-02-29T12:00:00.250000Z", 1709208000.25),
        ("2024-02-29T12:00:00.250000999Z", 1709208000.25),
        ("2024-02-29T14:00:00+02:00", 1709208000.0),
    ],
)
def test_reads_the_forms_that_servers_write(text: str, seconds: float) -> None:
    assert times.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "2024-02-29T12:00:00"])
def test_other_text_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"isoformat|offset"):
        times.seconds(text)


@given(st.integers(min_value=0, max_value=4_000_000_000_000_000))
def test_what_is_written_is_read_back(micros: int) -> None:
    seconds = micros / 1e6
    assert times.seconds(times.text(seconds)) == seconds // 1
    assert abs(times.seconds(times.micro_text(seconds)) - seconds) < 2e-6


def test_micro_times_have_six_decimals() -> None:
    assert times.micro_text(0.0) == "1970-01-01T00:00:00.000000Z"
