"""Sums of series: who belongs to them, what is imputed, and that their quantiles are their own."""

import numpy as np
import pytest

from forecasting import DEFAULT_HORIZONS, DEFAULT_LEADS, Sample, forecast, initial_state
from forecasting.grid import make_grid
from forecasting.store import Store, absorb, empty_store
from forecasting.sums import Sum, check_sums, members_of

GRID = make_grid(300.0, DEFAULT_HORIZONS, DEFAULT_LEADS, (0.5, 0.95))
DAY = GRID.day
FLEET = Sum("fleet/tokens", ("*/tokens",))


def samples(key: str, rates: list[float], first: int = 0) -> list[Sample]:
    return [Sample(key, 300.0 * (first + bin_), 300.0, rate) for bin_, rate in enumerate(rates)]


def total(store: Store, bins: int, key: str = "fleet/tokens") -> list[float | None]:
    row = store.keys.index(key)
    known, rate = store.known[row, -bins:].tolist(), store.rate[row, -bins:].tolist()
    return [value if there else None for there, value in zip(known, rate, strict=True)]


TOKENS = Sum("*/tokens", ("*/prompt", "*/generated"))


@pytest.mark.parametrize(
    ("sums", "expected"),
    [
        ((Sum("fleet/prompt", ("*/prompt",)),), {"fleet/prompt": ("a/prompt", "b/prompt")}),
        ((Sum("pool", ("a/prompt", "b/prompt")),), {"pool": ("a/prompt", "b/prompt")}),
        (
            (TOKENS,),
            {"a/tokens": ("a/generated", "a/prompt"), "b/tokens": ("b/prompt",)},
        ),
        (
            (Sum("fleet/prompt", ("*/prompt",)), TOKENS, Sum("x", ("fleet/prompt", "a/prompt"))),
            {
                "a/tokens": ("a/generated", "a/prompt"),
                "b/tokens": ("b/prompt",),
                "fleet/prompt": ("a/prompt", "b/prompt"),
                "x": ("a/prompt",),
            },
        ),
        ((Sum("nobody", ("c/prompt",)),), {}),
        ((), {}),
    ],
)
def test_members(sums: tuple[Sum, ...], expected: dict[str, tuple[str, ...]]) -> None:
    series = {"a/prompt", "b/prompt", "a/generated"}
    assert members_of(sums, series) == expected
    assert members_of(sums, series | expected.keys()) == expected, "the sums are keys by then"


@pytest.mark.parametrize(
    "sums",
    [
        (FLEET, FLEET),
        (Sum("x", ()),),
        (Sum("x/*/*", ("*/a",)),),
        (Sum("*/x", ("a/tokens",)),),
    ],
)
def test_sums_that_cannot_be_used_are_named(sums: tuple[Sum, ...]) -> None:
    with pytest.raises(ValueError, match=r"^sums: "):
        check_sums(sums)


def test_a_sum_is_carried_as_a_series_and_follows_late_corrections() -> None:
    told = [*samples("a/tokens", [1, 2, 3]), *samples("b/tokens", [10, 20, 30])]
    store = absorb(empty_store(GRID), GRID, told, 900.0, (FLEET,))
    assert total(store, 3) == [11, 22, 33]
    late = absorb(store, GRID, samples("a/tokens", [5]), 6000.0, (FLEET,))
    assert total(late, 20)[:3] == [15, 22, 33]
    more = absorb(late, GRID, samples("c/tokens", [100, 100]), 6000.0, (FLEET,))
    assert total(more, 20)[:3] == [115, 122, None]


def test_a_sample_with_the_key_of_a_sum_is_dropped() -> None:
    told = [*samples("a/tokens", [1, 2, 3]), *samples("fleet/tokens", [500, 500, 500])]
    store = absorb(empty_store(GRID), GRID, told, 900.0, (FLEET,))
    assert total(store, 3) == [1, 2, 3]


def test_a_missing_member_counts_as_yesterday_and_never_as_zero() -> None:
    tide = [float(100 + number) for number in range(DAY)]
    told = [*samples("a/tokens", tide), *samples("b/tokens", [900.0] * (DAY + 2))]
    store = absorb(empty_store(GRID), GRID, told, 300.0 * (DAY + 2), (FLEET,))
    assert total(store, 2) == [1000.0, 1001.0]


def test_a_sum_is_unknown_while_too_little_of_it_is_known() -> None:
    told = [*samples("a/tokens", [900.0] * DAY), *samples("b/tokens", [100.0] * (DAY + 3))]
    store = absorb(empty_store(GRID), GRID, told, 300.0 * (DAY + 3), (FLEET,))
    assert total(store, 4) == [1000.0, None, None, None]


def test_a_member_counts_from_its_birth_until_a_day_of_silence() -> None:
    told = [*samples("a/tokens", [50.0] * 10), *samples("b/tokens", [900.0] * (DAY + 20), 5)]
    store = absorb(empty_store(GRID), GRID, told, 300.0 * (DAY + 25), (FLEET,))
    sums = total(store, DAY + 25)
    assert sums[:7] == [50, 50, 50, 50, 50, 950, 950]
    assert sums[20] == 950
    assert sums[-1] == 900


def test_an_outage_of_members_does_not_enter_the_sum() -> None:
    told = [*samples("a/tokens", [50.0] * DAY + [0.0] * 3)]
    told += samples("b/tokens", [70.0] * DAY + [0.0] * 3)
    store = absorb(empty_store(GRID), GRID, told, 300.0 * (DAY + 3), (FLEET,))
    assert total(store, 4) == [120.0, None, None, None]


def test_the_sum_is_covered_where_the_sum_of_quantiles_over_covers() -> None:
    rng = np.random.default_rng(5)
    bins, count = 6 * DAY, 8
    rates = np.zeros((count, bins))
    for column in range(1, bins):
        rates[:, column] = 0.9 * rates[:, column - 1] + rng.normal(size=count)
    rates = np.maximum(100 + 12 * rates, 0)
    first = 5 * DAY
    told = [
        s for row in range(count) for s in samples(f"m{row}/tokens", rates[row, :first].tolist())
    ]
    state = initial_state(
        horizons_seconds=(1800.0,), leads_seconds=(1800.0,), quantiles=(0.5, 0.95), sums=(FLEET,)
    )
    forecasts, state = forecast(state, told, 300.0 * first)
    own, added = [], []
    for now in range(first + 4, bins - 6, 4):
        new = [
            s
            for row in range(count)
            for s in samples(f"m{row}/tokens", rates[row, now - 4 : now].tolist(), now - 4)
        ]
        forecasts, state = forecast(state, new, 300.0 * now)
        came = rates[:, now + 5].sum()
        upper = {key: one.at[0][1] for key, one in forecasts.series.items()}
        own.append(came <= upper.pop("fleet/tokens"))
        added.append(came <= sum(upper.values()))
    assert 0.88 <= np.mean(own) <= 0.99
    assert np.mean(added) == 1.0
