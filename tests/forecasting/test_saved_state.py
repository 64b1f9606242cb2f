"""A state that was saved and read back goes on as if nothing had happened; others are refused."""

import zlib
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pytest

from forecasting import Forecasts, Sample, State, forecast, initial_state
from forecasting.saved import SavedStateError, end_seconds, packed, unpacked

KEYS = ("a/requests", "b/requests", "young/requests", "off/requests")
BEGUN = initial_state()
BINS = 3 * 288
BORN = BINS - 30


def rates(first: int, stop: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Two tides with noise, one with holes; a series that was just born; one mostly off."""
    rng = np.random.default_rng(5)
    bins = np.arange(4 * 288)
    noise = rng.normal(0, 20, (3, bins.size))
    bursts = np.where(rng.random(bins.size // 6) < 0.15, 80.0, 0.0).repeat(6)
    whole = [
        500 + 300 * np.sin(2 * np.pi * bins / 288) + noise[0],
        np.where(bins % 50 == 7, np.nan, 500 + 300 * np.cos(2 * np.pi * bins / 288) + noise[1]),
        np.where(bins < BORN, np.nan, 300 + noise[2]),
        bursts,
    ]
    return np.array(whole)[:, first:stop]


def samples(first: int, stop: int) -> list[Sample]:
    return [
        Sample(key, number * 300.0, 300.0, float(rate))
        for key, row in zip(KEYS, rates(first, stop), strict=True)
        for number, rate in enumerate(row, first)
        if not (key == "young/requests" and number < BORN)
    ]


def ticks(state: State, first: int, stop: int) -> tuple[list[Forecasts], State]:
    issued = []
    for number in range(first, stop):
        one, state = forecast(state, samples(number, number + 1), (number + 1) * 300.0)
        issued.append(one)
    return issued, state


@pytest.fixture(scope="module")
def learnt() -> State:
    """Three days of history, then half an hour of ticks."""
    _, state = forecast(initial_state(), samples(0, BINS), BINS * 300.0)
    return ticks(state, BINS, BINS + 6)[1]


def test_what_is_read_back_is_what_was_saved(learnt: State) -> None:
    again = unpacked(packed(learnt), BEGUN)
    assert packed(again) == packed(learnt)
    assert end_seconds(again) == (BINS + 6) * 300.0


def test_the_forecast_goes_on_as_without_a_restart(learnt: State) -> None:
    """Over two hours, in which the series is learnt anew and feedback moves the quantiles."""
    straight, end = ticks(learnt, BINS + 6, BINS + 30)
    restored = unpacked(packed(learnt), BEGUN)
    resumed, other_end = ticks(restored, BINS + 6, BINS + 30)
    assert msgspec.json.encode(resumed) == msgspec.json.encode(straight)
    assert packed(other_end) == packed(end)


def test_history_told_again_after_the_restart_changes_nothing(learnt: State) -> None:
    now = (BINS + 7) * 300.0
    restored = unpacked(packed(learnt), BEGUN)
    straight, _ = forecast(learnt, samples(BINS + 6, BINS + 7), now)
    resumed, _ = forecast(restored, samples(0, BINS + 7), now)
    assert resumed == straight


def test_a_state_without_series_is_one() -> None:
    assert unpacked(packed(initial_state()), BEGUN).store.keys == ()


def test_other_members_keep_the_observations_and_learn_again(learnt: State) -> None:
    changed = unpacked(packed(learnt), initial_state(members=("last",)))
    fresh_start = msgspec.structs.replace(initial_state(members=("last",)), store=changed.store)
    assert packed(changed) == packed(fresh_start)
    issued, _ = forecast(changed, [], (BINS + 6) * 300.0)
    fresh, _ = forecast(initial_state(members=("last",)), samples(0, BINS + 6), (BINS + 6) * 300.0)
    assert issued == fresh


def test_a_saved_state_is_bounded() -> None:
    """Five weeks take no more room than the ring of four; some kilobytes a series."""
    _, four = forecast(initial_state(), samples_of(28), 28 * 86400.0)
    _, five = forecast(four, samples_of(35), 35 * 86400.0)
    assert len(packed(five)) == pytest.approx(len(packed(four)), rel=0.1)
    assert len(packed(five)) < 100_000


def samples_of(days: int) -> list[Sample]:
    rates = np.random.default_rng(1).gamma(2.0, 50.0, days * 288)
    return [Sample("a", number * 300.0, 300.0, float(rate)) for number, rate in enumerate(rates)]


# ---- refused


def repacked(state: State, change: Callable[[dict[str, object]], object]) -> bytes:
    """The saved state with something changed in its msgpack."""
    document = msgspec.msgpack.decode(zlib.decompress(packed(state)))
    change(document)
    return zlib.compress(msgspec.msgpack.encode(document))


def without_field(document: dict[str, object]) -> None:
    del document["store"]


def with_other_dtype(document: dict[str, object]) -> None:
    store = document["store"]
    assert isinstance(store, dict)
    store["rate"][0] = "<f8"


def with_wrong_shape(document: dict[str, object]) -> None:
    store = document["store"]
    assert isinstance(store, dict)
    store["rate"][1] = [1, 8064]


def with_negative_shape(document: dict[str, object]) -> None:
    store = document["store"]
    assert isinstance(store, dict)
    store["rate"][1] = [-1, 4032]


def with_missing_series(document: dict[str, object]) -> None:
    store = document["store"]
    assert isinstance(store, dict)
    store["keys"] = store["keys"][:1]


def with_a_series_twice(document: dict[str, object]) -> None:
    store = document["store"]
    assert isinstance(store, dict)
    store["keys"] = [store["keys"][0]] * 2


def with_strange_grid(document: dict[str, object]) -> None:
    grid = document["grid"]
    assert isinstance(grid, dict)
    grid["quantiles"] = [0.5, 0.9]


def with_less_feedback(document: dict[str, object]) -> None:
    feedback = document["feedback"]
    assert isinstance(feedback, dict)
    name = min(feedback)
    dtype, shape, _ = feedback[name]
    smaller = [*shape[:-1], shape[-1] - 1]
    feedback[name] = [dtype, smaller, np.zeros(smaller, dtype).tobytes()]


def with_less_of_what_the_edges_learnt(document: dict[str, object]) -> None:
    """Life is as large as there is to learn, so only the rehearsal can tell."""
    life = document["life"]
    assert isinstance(life, dict)
    assert life["keys"] == ["off/requests"]
    for name, value in life["off"].items():
        if isinstance(value, list):
            dtype, shape, _ = value
            smaller = [shape[0], *(max(size - 1, 0) for size in shape[1:])]
            life["off"][name] = [dtype, smaller, np.zeros(smaller, dtype).tobytes()]


def with_other_sums(document: dict[str, object]) -> None:
    document["sums"] = [{"name": "fleet", "members": ["*"]}]


@pytest.mark.parametrize(
    "change",
    [
        with_less_of_what_the_edges_learnt,
        with_other_sums,
        without_field,
        with_other_dtype,
        with_wrong_shape,
        with_negative_shape,
        with_missing_series,
        with_a_series_twice,
        with_strange_grid,
        with_less_feedback,
    ],
)
def test_a_state_of_another_form_is_refused(
    learnt: State, change: Callable[[dict[str, object]], object]
) -> None:
    with pytest.raises(SavedStateError) as caught:
        unpacked(repacked(learnt, change), BEGUN)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"", b"\x00", b"not a state", zlib.compress(b""), zlib.compress(b"\xc1" * 9)]
)
def test_bytes_that_are_no_state_are_refused(body: bytes) -> None:
    with pytest.raises(SavedStateError):
        unpacked(body, BEGUN)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_half_a_state_is_refused(learnt: State, share: float) -> None:
    whole = packed(learnt)
    with pytest.raises(SavedStateError):
        unpacked(whole[: int(len(whole) * share)], BEGUN)


def test_what_cannot_be_saved_is_an_error(learnt: State) -> None:
    members: Sequence[object] = (object(),)
    with pytest.raises(TypeError, match="object cannot be saved"):
        packed(msgspec.structs.replace(learnt, members=members))
