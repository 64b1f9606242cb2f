import pytest
from hypothesis import given
from hypothesis import strategies as st

from binpacking.problem import Gang
from preemption.victims import minimal

costs_and_gpus = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 8)), max_size=8)


def victims(*costs: int) -> tuple[Gang, ...]:
    return tuple(Gang(key=f"v{n}", parts=(("n", 1),), cost=cost) for n, cost in enumerate(costs))


@pytest.mark.parametrize(
    ("costs", "enough", "kept"),
    [
        ((5, 9, 1), [{"v0"}, {"v1"}], ["v0"]),  # the dearer of two that do alone is spared
        ((5, 5), [{"v0"}, {"v1"}], ["v1"]),  # of equals the first by key
        ((5, 9, 1), [{"v0", "v2"}], ["v0", "v2"]),
        ((5, 9), [set()], []),
    ],
)
def test_the_dearest_that_can_be_spared_go_first(
    costs: tuple[int, ...], enough: list[set[str]], kept: list[str]
) -> None:
    found = minimal(victims(*costs), lambda keys: any(need <= keys for need in enough))
    assert [victim.key for victim in found] == kept


@given(costs_and_gpus, st.integers(0, 30))
def test_the_result_fits_and_no_member_can_be_spared(
    drawn: list[tuple[int, int]], needed: int
) -> None:
    everybody = victims(*(cost for cost, _ in drawn))
    frees = {victim.key: gpus for victim, (_, gpus) in zip(everybody, drawn, strict=True)}

    def fits(keys: frozenset[str]) -> bool:
        return sum(frees[key] for key in keys) >= needed

    if not fits(frozenset(frees)):
        with pytest.raises(ValueError, match="does not fit with all of them stopped"):
            minimal(everybody, fits)
        return
    kept = frozenset(victim.key for victim in minimal(everybody, fits))
    assert fits(kept)
    assert not any(fits(kept - {key}) for key in kept)
