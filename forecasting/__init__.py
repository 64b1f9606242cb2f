"""Numbers to numbers: rates of the past become quantiles of the coming rates and peaks.

    samples -> store -> panel -> members -> (replay -> calibration, verdict) -> quantiles -> edges

The store says what odd samples and clocks do; sums are series of their own; young series and those
that are off most of the time are put right at the edges (`life`).
Pure: no clock, no files, no chance, no logging. The state goes in and comes out.
"""

from forecasting.forecast import State, forecast, initial_state
from forecasting.history import Observed, Stretch
from forecasting.sums import Sum
from forecasting.values import (
    DEFAULT_HORIZONS,
    DEFAULT_LEADS,
    Forecasts,
    Record,
    Sample,
    SeriesForecast,
    Status,
)

__all__ = [
    "DEFAULT_HORIZONS",
    "DEFAULT_LEADS",
    "Forecasts",
    "Observed",
    "Record",
    "Sample",
    "SeriesForecast",
    "State",
    "Status",
    "Stretch",
    "Sum",
    "forecast",
    "initial_state",
]
