"""Holds the forecaster's series state between ticks; the arithmetic is in `forecasting`."""

from collections.abc import Callable, Sequence

from forecasting import Forecasts, Observed, State, Sum, forecast, initial_state

SUMS = (
    Sum("fleet/requests", ("*/requests",)),
    Sum("fleet/prompt_tokens", ("*/prompt_tokens",)),
    Sum("fleet/generated_tokens", ("*/generated_tokens",)),
    Sum("fleet/tokens", ("*/prompt_tokens", "*/generated_tokens")),
    Sum("*/tokens", ("*/prompt_tokens", "*/generated_tokens")),
)
"""The fleet as a model of that name, and all tokens of each model."""


class SeriesForecaster:
    """`ports.Forecaster` over `forecasting.forecast`; `state` may be read from any thread."""

    def __init__(
        self,
        members: tuple[str, ...],
        restore: Callable[[State, float], State | None] = lambda *_: None,
        keep: Callable[[State], None] = lambda _: None,
    ) -> None:
        """`members` are the forecast members that may earn weight.

        `restore` is asked at the first update for a state to go on from; it is given the one that
        stands otherwise, and the time. `keep` is told of every new state.
        """
        self.state = initial_state(members=members, sums=SUMS)
        self._restore: Callable[[State, float], State | None] | None = restore
        self._keep = keep

    def update(self, observed: Sequence[Observed], now_seconds: float) -> Forecasts:
        """Take what was observed in and return the forecasts issued now."""
        if self._restore is not None:
            self.state = self._restore(self.state, now_seconds) or self.state
            self._restore = None
        forecasts, self.state = forecast(self.state, observed, now_seconds)
        self._keep(self.state)
        return forecasts
