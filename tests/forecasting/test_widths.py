"""Widths that few errors tell lean on the usual one, and no further than evidence is missing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting.widths import steadied

USUAL = np.array([0.0, 2.0, 3.0])


def settled(offset: list[float], independent: float) -> list[float]:
    """One band with its median at 1."""
    given_offset = np.array([offset])
    out = steadied(given_offset, np.array([[1.0]]), USUAL, np.array([independent]))
    return [float(value) for value in out[0]]


@pytest.mark.parametrize(
    ("offset", "independent", "expected"),
    [
        ([1.0, 9.0, 13.0], 0.0, [1.0, 3.0, 4.0]),  # no error of its own: the usual width
        ([1.0, 9.0, 13.0], 1.5, [1.0, 5.0, 7.0]),  # half way between their logarithms
        ([1.0, 1.5, 1.75], 1.5, [1.0, 2.0, 2.5]),  # narrow ones grow as wide ones shrink
        ([1.0, 9.0, 13.0], 1e12, [1.0, 9.0, 13.0]),  # enough errors: its own
        ([1.0, 1.0, 0.5], 1.5, [1.0, 1.0, 0.5]),  # no width, or on the other side: stays
    ],
)
def test_widths_lean_on_the_usual_one(
    offset: list[float], independent: float, expected: list[float]
) -> None:
    assert settled(offset, independent) == pytest.approx(expected)


def test_unknown_offsets_stay_unknown() -> None:
    assert np.isnan(settled([float("nan")] * 3, 0.0)).all()


@given(st.floats(0.01, 100.0), st.floats(0.01, 100.0), st.floats(0.0, 1e3))
def test_a_width_stays_between_its_own_and_the_usual_and_in_order(
    first: float, more: float, independent: float
) -> None:
    _, high, higher = settled([1.0, 1 + first, 1 + first + more], independent)
    slack = 1e-9 * (1 + first + more)
    assert min(first, 2.0) - slack <= high - 1 <= max(first, 2.0) + slack
    assert high <= higher + slack
