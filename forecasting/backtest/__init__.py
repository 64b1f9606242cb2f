"""Would it have worked on this history: rolling origins, rivals, scores.

    Series -> protocol (origins, targets) -> curves of Tidal and its rivals -> scores -> records

Nothing else in `forecasting` imports this package. Tidal is driven through its one entry,
`forecast(state, samples, now)`, as the daemon drives it; a rival is a point forecast with the
conformal bands that Tidal's members get. At an origin nobody sees a bin that ends after it.
"""

from forecasting.backtest.protocol import Protocol, ProtocolError, Series
from forecasting.backtest.ratios import (
    exceeded,
    judged,
    mean_losses,
    quantile_name,
    ratios,
    with_better_bands,
)
from forecasting.backtest.records import Record, Scored, records, scored
from forecasting.backtest.rivals import RIVAL_METHODS, rival_curves
from forecasting.backtest.tidal import TIDAL, Fleet, fleets, tidal_curves

__all__ = [
    "RIVAL_METHODS",
    "TIDAL",
    "Fleet",
    "Protocol",
    "ProtocolError",
    "Record",
    "Scored",
    "Series",
    "exceeded",
    "fleets",
    "judged",
    "mean_losses",
    "quantile_name",
    "ratios",
    "records",
    "rival_curves",
    "scored",
    "tidal_curves",
    "with_better_bands",
]
