"""What is served of a forecast: the series asked for, their past, and how far to rely on them."""

import msgspec
import numpy as np
import pytest

from forecasting import Record, Sample, SeriesForecast, State, forecast, initial_state
from forecasting.diagnostics import Diagnosis, Errors
from scheduler.daemon.documents.outlook import PAST_DAYS, outlook, unit
from scheduler.daemon.documents.remarks import Judged, remarks
from scheduler.daemon.documents.shapes import NoSuchError, Outlook
from scheduler.planning.snapshot import Snapshot
from scheduler.ports import Tick
from tests.fixtures.ticks import busy_tick, busy_world, tick_of
from tests.fixtures.worlds import node, policy, world

BINS = 2 * 288
SERIES = ("chat/generated_tokens", "chat/requests", "code/requests")


def tidal() -> tuple[Tick, State]:
    """A tick whose forecasts are those of the state, and the state."""
    rng = np.random.default_rng(3)
    rates = 800 + 300 * np.sin(np.arange(BINS) / 46) + rng.normal(0, 20, BINS)
    samples = [
        Sample(key, number * 300.0, 300.0, float(rate))
        for key in SERIES
        for number, rate in enumerate(rates)
    ]
    issued, state = forecast(initial_state(), samples, BINS * 300.0)
    tick = busy_tick()
    seen = msgspec.structs.replace(tick.snapshot, now_seconds=BINS * 300.0 + 20.0, forecasts=issued)
    return msgspec.structs.replace(tick, snapshot=seen), state


@pytest.fixture(scope="module")
def known() -> tuple[Tick, State]:
    return tidal()


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("chat", ["chat/generated_tokens", "chat/requests"]),
        ("code", ["code/requests"]),
        ("chat/decode", ["chat/generated_tokens"]),
        ("chat/requests", ["chat/requests"]),
    ],
    ids=["model", "model of one series", "role", "series"],
)
def test_a_name_means_a_model_a_role_or_a_series(
    known: tuple[Tick, State], name: str, keys: list[str]
) -> None:
    shown = outlook(known[0], name, known[1])
    assert [one.forecast.key for one in shown.series] == keys
    assert shown.model == name.partition("/")[0]


def test_a_series_comes_with_its_past_and_its_diagnosis(known: tuple[Tick, State]) -> None:
    (one,) = outlook(known[0], "chat/decode", known[1]).series
    assert one.unit == "generated tokens/s"
    assert len(one.past) == PAST_DAYS * 288
    assert one.past[:288] == (None,) * 288
    assert one.past[-1] == pytest.approx(one.forecast.last)
    assert one.diagnosis.known_seconds == BINS * 300.0
    assert one.diagnosis.season_day is not None


def test_what_was_learnt_after_the_forecast_is_left_out(known: tuple[Tick, State]) -> None:
    tick, state = known
    late = [Sample(key, BINS * 300.0, 300.0, 9e6) for key in SERIES]
    _, later = forecast(state, late, (BINS + 1) * 300.0)
    assert (
        outlook(tick, "code", later).series[0].past == outlook(tick, "code", state).series[0].past
    )


def test_the_document_survives_the_wire(known: tuple[Tick, State]) -> None:
    shown = outlook(known[0], "chat", known[1])
    assert shown.schema == "tidal.forecast/2"
    assert (shown.judged_horizon_seconds, shown.judged_quantile) == (1800.0, 0.9)
    assert msgspec.json.decode(msgspec.json.encode(shown), type=Outlook) == shown


def test_a_series_without_state_is_shown_with_an_unknown_past() -> None:
    shown = outlook(busy_tick(), "chat", initial_state())
    (one,) = shown.series
    assert set(one.past) == {None}
    assert one.diagnosis == Diagnosis(known_seconds=0.0)


@pytest.mark.parametrize(
    ("snapshot", "name", "words"),
    [
        (busy_world(), "chut", ["'chut'", "known models: chat"]),
        (busy_world(), "chut/decode", ["'chut'", "known models: chat"]),
        (busy_world(), "chat/x", ["'chat/x'", "its series: chat/generated_tokens"]),
        (world(node("n0")), "chat", ["nothing is forecast yet"]),
    ],
)
def test_an_unknown_name_is_an_error_that_names_the_known(
    snapshot: Snapshot, name: str, words: list[str]
) -> None:
    with pytest.raises(NoSuchError) as caught:
        outlook(tick_of(snapshot, policy()), name, initial_state())
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("key", "said"),
    [("a/requests", "requests/s"), ("a/prompt_tokens", "prompt tokens/s"), ("a", "a/s")],
)
def test_units_follow_the_field(key: str, said: str) -> None:
    assert unit(key) == said


# ---- remarks

JUDGED = Judged(1800.0, 0.9)
GOOD = Diagnosis(known_seconds=9 * 86400.0, newest_age_seconds=0.0, zero_share=0.0)


def series(**changes: object) -> SeriesForecast:
    known = busy_tick().snapshot.forecasts
    assert known is not None
    good = {"coverage": 0.9, "skill": 0.3, "record": record()}
    return msgspec.structs.replace(known.series["chat/generated_tokens"], **good | changes)


def record(yesterday: float | None = 0.3, last: float | None = 0.3) -> tuple[Record, ...]:
    """Half an hour with skill, then six hours with this one."""
    return tuple(
        Record(horizon_seconds=ahead, coverage=0.9, skill_yesterday=first, skill_last=second)
        for ahead, first, second in ((1800.0, 0.5, 0.5), (21600.0, yesterday, last))
    )


def test_a_good_record_needs_no_remark() -> None:
    assert remarks(series(), GOOD, JUDGED) == ()


@pytest.mark.parametrize(
    ("changes", "diagnosis", "begins"),
    [
        (
            {"status": "stale"},
            {"newest_age_seconds": 2520.0},
            ["Stale: the newest known rate is 42"],
        ),
        ({"status": "partial"}, {}, ["Partial: "]),
        ({"status": "idle"}, {}, ["Idle: "]),
        ({"record": ()}, {"known_seconds": 5 * 3600.0}, ["Young: 5.0 h", "Not judged yet: "]),
        ({}, {"zero_share": 0.82}, ["Intermittent: nothing came in 82%"]),
        ({"record": record(yesterday=0.0)}, {}, ["No better than yesterday's value 6 h ahead: "]),
        ({"record": record(last=0.01)}, {}, ["No better than the last value 6 h ahead: "]),
        ({"record": record(-3.0, -3.0)}, {}, ["No better than the l", "No better than y"]),
        (
            {"coverage": 0.8},
            {},
            ["Off lately: P90 30 min ahead held in 80.0% of cases, not in 90%"],
        ),
        ({"coverage": 0.97}, {}, ["Off lately: "]),
        ({"coverage": None}, {}, []),
    ],
)
def test_what_limits_a_forecast_is_said(
    changes: dict[str, object], diagnosis: dict[str, object], begins: list[str]
) -> None:
    found = msgspec.structs.replace(GOOD, **diagnosis)
    said = remarks(series(**changes), found, JUDGED)
    assert len(said) == len(begins)
    for sentence, start in zip(said, begins, strict=True):
        assert sentence.startswith(start)


@pytest.mark.parametrize(
    ("peak", "word"), [(0.0, "say nothing"), (5.0, "a guess from the other models")]
)
def test_a_series_that_was_never_seen_says_where_its_rates_come_from(
    peak: float, word: str
) -> None:
    (said,) = remarks(series(status="absent", peak=((peak,) * 4,)), GOOD, JUDGED)
    assert word in said


@pytest.mark.parametrize(
    ("correlation", "p_value", "count"), [(0.5, 0.001, 1), (0.1, 0.001, 0), (0.5, 0.2, 0)]
)
def test_errors_are_remarked_only_where_they_are_plainly_not_random(
    correlation: float, p_value: float, count: int
) -> None:
    errors = Errors(count=600, correlation=correlation, lag_seconds=86400.0, p_value=p_value)
    said = remarks(series(), msgspec.structs.replace(GOOD, errors=errors), JUDGED)
    assert len(said) == count
    assert all("24 h apart go together" in sentence for sentence in said)
