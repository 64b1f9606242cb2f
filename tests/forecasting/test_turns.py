"""Series learn anew by turns, wherever a tick cuts the fleet."""

import numpy as np

from forecasting import Stretch, forecast, initial_state
from forecasting.grid import Ints

HOUR = 3600.0
PAST, SERIES, TOGETHER = 100, 80, 32


def test_series_that_learn_together_take_their_turn_after_the_others() -> None:
    begun = initial_state(
        bin_seconds=HOUR, horizons_seconds=(HOUR,), leads_seconds=(HOUR,), members=("last", "day")
    )
    rates = np.random.default_rng(4).gamma(9.0, size=(SERIES, PAST))
    told = [Stretch(f"{n:02}", 0.0, HOUR, row) for n, row in enumerate(rates)]
    state = forecast(begun, told, PAST * HOUR)[1]
    turn = np.arange(SERIES) // TOGETHER
    learnt = []
    for hour in range(PAST + 1, PAST + 9):
        before, state = state, forecast(state, [], hour * HOUR)[1]
        assert before.knowledge is not None
        assert state.knowledge is not None
        changed: Ints = np.flatnonzero(before.knowledge.due != state.knowledge.due)
        learnt += changed.tolist()
        assert np.unique(turn[changed]).size <= 1
    assert sorted(learnt) == list(range(SERIES))
