"""Holds the forecaster's series state between ticks; the arithmetic is in `forecasting`."""

from collections.abc import Sequence

from forecasting import Forecasts, Sample, forecast, initial_state


class SeriesForecaster:
    """`ports.Forecaster` over `forecasting.forecast`."""

    def __init__(self, members: tuple[str, ...]) -> None:
        """Start without history; `members` are the forecast members that may earn weight."""
        self._state = initial_state(members=members)

    def update(self, samples: Sequence[Sample], now_seconds: float) -> Forecasts:
        """Take new samples in and return the forecasts issued now."""
        forecasts, self._state = forecast(self._state, samples, now_seconds)
        return forecasts
