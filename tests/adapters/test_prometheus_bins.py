"""Answers of ranges become bins, and each bin is told once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.adapters.prometheus.bins import FIELDS, Bin, bins, sources, total
from scheduler.adapters.prometheus.doubts import Doubts
from scheduler.adapters.prometheus.ranges import LATE_BINS, Progress, missed, told
from scheduler.planning.policy import ModelPolicy

ENDS = (0, 300, 600, 900)
Read = dict[str, dict[int, float]]


def read(**sums: tuple[float | None, ...]) -> Read:
    """Ends 0 to 900 s of a healthy engine, some sums changed; None: no value there."""
    healthy: Read = {
        "newest": {end: end - 10.0 for end in ENDS},
        "scrapes": dict.fromkeys(ENDS, 10.0),
        "running": dict.fromkeys(ENDS, 2.0),
        "waiting": dict.fromkeys(ENDS, 0.0),
        "prompt_live": dict.fromkeys(ENDS, 30_000.0),
        "requests": dict.fromkeys(ENDS, 60.0),
    }
    for name, values in sums.items():
        healthy[name] = {
            end: value for end, value in zip(ENDS, values, strict=True) if value is not None
        }
    return healthy


def prompts(given: Read) -> list[float | None]:
    found = bins(given, range(3))
    return [found[number].prompt_tokens if number in found else None for number in range(3)]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (read(), [100.0, 100.0, 100.0]),
        # Prometheus was away at 600 s: two bins miss an edge.
        (read(newest=(0.0, 290.0, 450.0, 890.0)), [100.0, None, None]),
        (read(newest=(0.0, 290.0, None, 890.0)), [100.0, None, None]),
        # A scrape of every minute may be 60 s old, one of every 15 s may not.
        (read(newest=(0.0, 240.0, 540.0, 840.0), scrapes=(5.0,) * 4), [100.0] * 3),
        (read(newest=(0.0, 240.0, 540.0, 840.0), scrapes=(20.0,) * 4), [None] * 3),
        # However few scrapes there were, an edge is never older than 90 s.
        (read(newest=(0.0, 205.0, 600.0, 900.0), scrapes=(2.0,) * 4), [None, None, 100.0]),
        # No sample at all: no engine.
        (read(scrapes=(10.0, None, 10.0, 10.0)), [None, 100.0, 100.0]),
        # 30 wait at the end of the second bin, 500 tokens each; then they are served.
        (read(waiting=(0.0, 0.0, 30.0, 0.0)), [100.0, 150.0, 50.0]),
        (read(waiting=(0.0, 0.0, None, 30.0)), [100.0, 100.0, 100.0]),
        (read(prompt_live=(None,) * 4), [None] * 3),
        (read(prompt_live=(None,) * 4, running=(0.0,) * 4), [0.0] * 3),
        # Counted at the end of requests: those that run have arrived too.
        (
            read(prompt_live=(None,) * 4, prompt_finished=(30_000.0,) * 4, running=(0, 6, 6, 0)),
            [110.0, 100.0, 90.0],
        ),
    ],
)
def test_bins_hold_what_arrived_or_are_unknown(answer: Read, expected: list[float | None]) -> None:
    assert prompts(answer) == pytest.approx(expected)


def test_requests_count_when_they_end_so_open_ones_are_added() -> None:
    found = bins(read(running=(0, 6, 6, 0), waiting=(0, 3, 3, 0)), range(3))
    assert [one.requests for one in found.values()] == pytest.approx([0.23, 0.2, 0.17])


def test_a_role_without_engines_adds_nothing_unless_it_is_the_only_one() -> None:
    one = Bin(prompt_tokens=5.0)
    assert total([one, None], "prompt_tokens") == 5.0
    assert total([one, one], "prompt_tokens") == 10.0
    assert total([one, Bin()], "prompt_tokens") is None
    assert total([None], "prompt_tokens") is None


@pytest.mark.parametrize(
    ("streams", "prompt", "generated"),
    [
        ({"prefill": "prompt", "decode": "generated"}, ("prefill",), ("decode",)),
        ({"all": "generated"}, ("all",), ("all",)),
        ({"a": "prompt", "b": "prompt"}, ("a", "b"), ("a", "b")),
    ],
)
def test_each_stream_is_read_where_it_drives_a_role(
    streams: dict[str, str], prompt: tuple[str, ...], generated: tuple[str, ...]
) -> None:
    roles = {
        name: {"tokens": stream, "capacity_tokens_per_second": {"H100": 1.0}}
        for name, stream in streams.items()
    }
    found = sources(ModelPolicy.model_validate({"roles": roles}))
    assert found == {"requests": prompt, "prompt_tokens": prompt, "generated_tokens": generated}


KNOWN = Bin(1.0, 2.0, 3.0)


def test_a_bin_that_was_unknown_is_told_again_when_it_is_known() -> None:
    first, progress = told("m", Progress(0, 0), {0: KNOWN, 1: Bin(), 2: KNOWN}, 3)
    assert [(one.key, one.start_seconds, one.valid) for one in first[:4]] == [
        ("m/requests", 0.0, True),
        ("m/prompt_tokens", 0.0, True),
        ("m/generated_tokens", 0.0, True),
        ("m/requests", 300.0, False),
    ]
    assert progress.ask == 1
    late, progress = told("m", progress, {1: KNOWN, 2: KNOWN, 3: KNOWN}, 4)
    assert [one.start_seconds for one in late] == [300.0] * 3 + [900.0] * 3
    assert told("m", progress, {}, 4) == ([], progress)


def test_bins_that_nobody_answered_for_stay_open_however_old() -> None:
    samples, progress = missed("m", Progress(0, 0), 500)
    assert len(samples) == 500 * len(FIELDS)
    assert not any(one.valid for one in samples)
    again, progress = missed("m", progress, 501)
    assert len(again) == len(FIELDS)
    found, progress = told("m", progress, dict.fromkeys(range(501), KNOWN), 501)
    assert len(found) == 501 * len(FIELDS)
    assert progress.ask == 501


def test_an_unknown_bin_is_given_up_after_an_hour() -> None:
    _, progress = told("m", Progress(0, 0), dict.fromkeys(range(100), Bin()), 100)
    assert progress.ask == 100 - LATE_BINS


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 4)), max_size=20))
def test_every_known_bin_is_told_once_as_known(steps: list[tuple[bool, int, int]]) -> None:
    progress, last, heard = Progress(0, 0), 0, list[float]()
    for answers, more, late in steps:
        last += more
        if answers:
            # The newest `late` bins have no data yet; nothing is late for longer than an hour.
            seen = {
                number: KNOWN if number < last - late else Bin()
                for number in range(progress.ask, last)
            }
            samples, progress = told("m", progress, seen, last)
        else:
            samples, progress = missed("m", progress, last)
        heard += [one.start_seconds for one in samples if one.valid and one.key == "m/requests"]
    samples, _ = told("m", progress, dict.fromkeys(range(progress.ask, last), KNOWN), last)
    heard += [one.start_seconds for one in samples if one.valid and one.key == "m/requests"]
    assert sorted(heard) == [300.0 * number for number in range(last)]


def test_only_a_role_that_stays_partial_makes_its_bins_doubtful() -> None:
    doubts = Doubts(90.0)
    for at in (0.0, 60.0):
        doubts.note("m/r", at, partial=True)
    doubts.note("m/r", 75.0, partial=False)
    doubts.note("m/r", 150.0, partial=True)
    assert not doubts.holds("m/r", 0)
    doubts.note("m/r", 600.0, partial=True)
    assert doubts.holds("m/r", 2)
    assert not doubts.holds("m/other", 2)
