"""Answers of ranges become bins, and each bin is told once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting import Observed, Sample, Stretch
from scheduler.adapters.prometheus.bins import (
    FIELDS,
    Bins,
    Floats,
    bins,
    either,
    no_bins,
    sources,
    total,
)
from scheduler.adapters.prometheus.doubts import Doubts
from scheduler.adapters.prometheus.ranges import LATE_BINS, Progress, missed, told
from scheduler.planning.policy import ModelPolicy

ENDS = np.array([0.0, 300.0, 600.0, 900.0])
Read = dict[str, Floats]
ALL = (1.0, 2.0, 3.0)
"""Rates of a bin in which every field is known."""
NONE = (np.nan,) * 3


def read(**sums: tuple[float | None, ...]) -> Read:
    """Ends 0 to 900 s of a healthy engine, some sums changed; None: no value there."""
    healthy: dict[str, tuple[float | None, ...]] = {
        "newest": (-10.0, 290.0, 590.0, 890.0),
        "scrapes": (10.0,) * 4,
        "running": (2.0,) * 4,
        "waiting": (0.0,) * 4,
        "prompt_live": (30_000.0,) * 4,
        "requests": (60.0,) * 4,
    }
    return {
        name: np.array([np.nan if value is None else value for value in values])
        for name, values in (healthy | sums).items()
    }


def known(rates: Floats) -> list[float | None]:
    return [None if np.isnan(rate) else rate for rate in rates.tolist()]


def prompts(given: Read) -> list[float | None]:
    return known(bins(given, ENDS).rates[FIELDS.index("prompt_tokens")])


def rates(*of_bins: tuple[float, ...]) -> Floats:
    return np.array(of_bins, dtype=np.float64).reshape(-1, 3).T


def told_of(told: list[Observed]) -> list[tuple[str, float, bool]]:
    """Key, start and whether it is known, of each bin in the order told."""
    out = []
    for one in told:
        match one:
            case Sample():
                out.append((one.key, one.start_seconds, one.valid))
            case Stretch():
                starts = one.start_seconds + np.arange(one.rates.size) * one.width_seconds
                known = np.isfinite(one.rates).tolist()
                out += [(one.key, *each) for each in zip(starts.tolist(), known, strict=True)]
    return out


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
        # Counters fell: of most engines in one bin, of one in twenty in another.
        (read(reset=(None, 0.9, 0.05, None)), [None, 100.0, 100.0]),
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
    found = bins(read(running=(0, 6, 6, 0), waiting=(0, 3, 3, 0)), ENDS)
    assert known(found.rates[FIELDS.index("requests")]) == pytest.approx([0.23, 0.2, 0.17])


def test_a_bin_without_samples_had_no_engine() -> None:
    found = bins(read(scrapes=(10.0, None, 0.0, 10.0)), ENDS)
    assert found.there.tolist() == [False, False, True]
    assert not bins({}, ENDS).there.any()


def role(*prompt_tokens: float | None) -> Bins:
    """A role that was there in all bins but those without a value; NaN: there, and unknown."""
    there = np.array([value is not None for value in prompt_tokens])
    values = [np.nan if value is None else value for value in prompt_tokens]
    return Bins(there, np.array([values] * 3))


def test_a_role_without_engines_adds_nothing_unless_it_is_the_only_one() -> None:
    one, other = role(5.0, 5.0, 5.0, None), role(None, 5.0, np.nan, None)
    assert known(total([one, other], "prompt_tokens")) == [5.0, 10.0, None, None]


def test_where_labels_changed_each_place_knows_its_own_time() -> None:
    before, after = role(1.0, np.nan, None, None), role(7.0, 7.0, 7.0, None)
    joined = either(either(no_bins(4), before), after)
    assert known(joined.rates[0]) == [1.0, 7.0, 7.0, None]
    assert joined.there.tolist() == [True, True, True, False]


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


def test_a_bin_that_was_unknown_is_told_again_when_it_is_known() -> None:
    first, progress = told("m", Progress(0, 0), rates(ALL, NONE, ALL), 3)
    assert told_of(first)[:4] == [
        ("m/requests", 0.0, True),
        ("m/prompt_tokens", 0.0, True),
        ("m/generated_tokens", 0.0, True),
        ("m/requests", 300.0, False),
    ]
    assert progress.ask == 1
    late, progress = told("m", progress, rates(ALL, ALL, ALL), 4)
    assert [start for _, start, _ in told_of(late)] == [300.0] * 3 + [900.0] * 3
    assert told("m", progress, rates(), 4) == ([], progress)


def test_many_bins_are_told_as_one_stretch_for_each_field() -> None:
    history, _ = told("m", Progress(5, 5), rates(*[ALL, NONE] * 50), 105)
    assert [type(one) for one in history] == [Stretch] * 3
    assert told_of(history)[:2] == [("m/requests", 1500.0, True), ("m/requests", 1800.0, False)]
    assert len(told_of(history)) == 300


def test_bins_that_nobody_answered_for_stay_open_however_old() -> None:
    first, progress = missed("m", Progress(0, 0), 500)
    assert len(told_of(first)) == 500 * len(FIELDS)
    assert not any(known for *_, known in told_of(first))
    again, progress = missed("m", progress, 501)
    assert len(told_of(again)) == len(FIELDS)
    found, progress = told("m", progress, rates(*[ALL] * 501), 501)
    assert len(told_of(found)) == 501 * len(FIELDS)
    assert progress.ask == 501


def test_an_unknown_bin_is_given_up_after_an_hour() -> None:
    _, progress = told("m", Progress(0, 0), rates(*[NONE] * 100), 100)
    assert progress.ask == 100 - LATE_BINS


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20), st.integers(0, 4)), max_size=20))
def test_every_known_bin_is_told_once_as_known(steps: list[tuple[bool, int, int]]) -> None:
    progress, last, heard = Progress(0, 0), 0, list[float]()

    def hear(observed: list[Observed]) -> None:
        heard.extend(
            start for key, start, known in told_of(observed) if known and key == "m/requests"
        )

    for answers, more, late in steps:
        last += more
        if answers:
            # The newest `late` bins have no data yet; nothing is late for longer than an hour.
            seen = [ALL if number < last - late else NONE for number in range(progress.ask, last)]
            observed, progress = told("m", progress, rates(*seen), last)
        else:
            observed, progress = missed("m", progress, last)
        hear(observed)
    rest = [ALL] * (last - progress.ask)
    hear(told("m", progress, rates(*rest), last)[0])
    assert sorted(heard) == [300.0 * number for number in range(last)]


def test_only_a_role_that_stays_partial_makes_its_bins_doubtful() -> None:
    doubts = Doubts(90.0)
    for at in (0.0, 60.0):
        doubts.note("m/r", at, partial=True)
    doubts.note("m/r", 75.0, partial=False)
    doubts.note("m/r", 150.0, partial=True)
    assert doubts.bins("m/r") == frozenset()
    doubts.note("m/r", 600.0, partial=True)
    assert doubts.bins("m/r") == {2}
    assert doubts.bins("m/other") == frozenset()
