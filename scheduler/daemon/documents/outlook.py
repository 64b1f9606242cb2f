"""The forecast of one model: every series that is named after it."""

from scheduler.daemon.documents.shapes import NoSuchError, Outlook
from scheduler.planning.policy import Policy
from scheduler.ports import Tick


def outlook(tick: Tick, model: str) -> Outlook:
    """Return `tidal.forecast/1`; raise `NoSuchError` for a model without series."""
    forecasts = tick.snapshot.forecasts
    if forecasts is None or not forecasts.series:
        raise NoSuchError("model: nothing is forecast yet; wait for the first closed bin of demand")
    mine = [one for key, one in sorted(forecasts.series.items()) if _model(key) == model]
    if not mine:
        raise NoSuchError(_unknown(tick, model, sorted({_model(key) for key in forecasts.series})))
    return Outlook(
        tick=tick.number,
        now_seconds=tick.snapshot.now_seconds,
        model=model,
        issued_at_seconds=forecasts.issued_at_seconds,
        bin_seconds=forecasts.bin_seconds,
        horizons_seconds=forecasts.horizons_seconds,
        leads_seconds=forecasts.leads_seconds,
        quantiles=forecasts.quantiles,
        series=tuple(mine),
    )


def _model(key: str) -> str:
    return key.partition("/")[0]


def _unknown(tick: Tick, model: str, known: list[str]) -> str:
    names = ", ".join(known)
    if model in Policy.model_validate_json(tick.policy).models:
        return f"model: no demand of {model!r} was ever observed; models with a forecast: {names}"
    return f"model: there is no {model!r}; known models: {names}"
