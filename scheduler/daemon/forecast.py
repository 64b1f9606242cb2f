"""Holds the forecaster's series state between ticks; the arithmetic is in `forecasting`."""

from collections.abc import Callable, Sequence

from forecasting import Forecasts, Sample, State, forecast, initial_state


class SeriesForecaster:
    """`ports.Forecaster` over `forecasting.forecast`; `state` may be read from any thread."""

    def __init__(
        self,
        members: tuple[str, ...],
        restored: State | None = None,
        keep: Callable[[State], None] = lambda _: None,
    ) -> None:
        """`members` are the forecast members that may earn weight; without `restored`, no history.

        `keep` is told of every new state.
        """
        self.state = restored if restored is not None else initial_state(members=members)
        self._keep = keep

    def update(self, samples: Sequence[Sample], now_seconds: float) -> Forecasts:
        """Take new samples in and return the forecasts issued now."""
        forecasts, self.state = forecast(self.state, samples, now_seconds)
        self._keep(self.state)
        return forecasts
