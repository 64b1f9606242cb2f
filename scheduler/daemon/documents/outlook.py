"""The forecast of one model: every series that is named after it, with its past and its record.

The forecast is the newest tick's; past and diagnosis come from the forecaster's state, which may
be newer: what it learnt after the forecast was issued is left out of the past.
"""

from forecasting import Forecasts, SeriesForecast, State
from forecasting.diagnostics import diagnose, past_rates
from forecasting.judge import JUDGED_QUANTILE, JUDGED_SECONDS
from forecasting.values import DAY
from scheduler.daemon.documents.remarks import Judged, remarks
from scheduler.daemon.documents.shapes import NoSuchError, Outlook, SeriesOutlook
from scheduler.planning.beliefs import series_key
from scheduler.planning.policy import Policy
from scheduler.ports import Tick

PAST_DAYS = 3
"""So that a season can be seen."""
UNITS = {"requests": "requests/s"}


def outlook(tick: Tick, name: str, state: State) -> Outlook:
    """Return `tidal.forecast/2` of a model, of a role's series, or of one series.

    Raises `NoSuchError` for a name without series; it says which names have some.
    """
    forecasts = tick.snapshot.forecasts
    if forecasts is None or not forecasts.series:
        raise NoSuchError("model: nothing is forecast yet; wait for the first closed bin of demand")
    judged = Judged(
        _nearest(forecasts.horizons_seconds, JUDGED_SECONDS),
        _nearest(forecasts.quantiles, JUDGED_QUANTILE),
    )
    return Outlook(
        tick=tick.number,
        now_seconds=tick.snapshot.now_seconds,
        model=_model(name),
        issued_at_seconds=forecasts.issued_at_seconds,
        bin_seconds=forecasts.bin_seconds,
        horizons_seconds=forecasts.horizons_seconds,
        leads_seconds=forecasts.leads_seconds,
        quantiles=forecasts.quantiles,
        judged_horizon_seconds=judged.horizon_seconds,
        judged_quantile=judged.quantile,
        series=tuple(
            _series(one, forecasts, state, judged) for one in _found(tick, forecasts, name)
        ),
    )


def _series(
    one: SeriesForecast, forecasts: Forecasts, state: State, judged: Judged
) -> SeriesOutlook:
    found = diagnose(state, one.key, one.weights)
    bins = round(PAST_DAYS * DAY / forecasts.bin_seconds)
    return SeriesOutlook(
        unit=unit(one.key),
        past=past_rates(state, one.key, forecasts.issued_at_seconds, bins),
        forecast=one,
        diagnosis=found,
        remarks=remarks(one, found, judged),
    )


def unit(key: str) -> str:
    """Return what the series' rates count."""
    field = key.rpartition("/")[2]
    return UNITS.get(field, f"{field.replace('_', ' ')}/s")


def _nearest(values: tuple[float, ...], wanted: float) -> float:
    return min(values, key=lambda value: abs(value - wanted))


def _found(tick: Tick, forecasts: Forecasts, name: str) -> list[SeriesForecast]:
    """Return the series that `name` means, in order of key."""
    series = forecasts.series
    policy = Policy.model_validate_json(tick.policy)
    exact = name if name in series else series_key(policy, name) if "/" in name else ""
    if exact in series:
        return [series[exact]]
    mine = [one for key, one in sorted(series.items()) if _model(key) == name]
    if not mine:
        raise NoSuchError(_unknown(policy, name, sorted(series)))
    return mine


def _model(key: str) -> str:
    return key.partition("/")[0]


def _unknown(policy: Policy, name: str, keys: list[str]) -> str:
    model = _model(name)
    own = [key for key in keys if _model(key) == model]
    if own:
        return f"model: {name!r} is no series or role of {model}; its series: {', '.join(own)}"
    names = ", ".join(sorted({_model(key) for key in keys}))
    if model in policy.models:
        return f"model: no demand of {model!r} was ever observed; models with a forecast: {names}"
    return f"model: there is no {model!r}; known models: {names}"
