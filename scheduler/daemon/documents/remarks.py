"""How far a series' forecast can be relied on, in sentences for the one who runs the models.

What is wrong with the feed comes first, then what is too young or too irregular to know, then
the record: skill against two yardsticks, and whether the quantile held what it promises.
"""

from collections.abc import Iterator, Sequence

import msgspec

from forecasting import Record, SeriesForecast
from forecasting.diagnostics import Diagnosis
from forecasting.values import DAY, HOUR, MINUTE

YOUNG_SECONDS = 2 * DAY
"""Before, no day has been seen twice."""
OFF_SHARE = 0.5
"""Share of bins without demand from which on a series comes and goes."""
LEAST_SKILL = 0.02
"""A smaller gain is none that anybody would notice."""
MOST_OFF = 0.05
"""Distance of the realised coverage from the promised one that is worth a word."""
STRONG = 0.3
"""Correlation of errors from which on something of them could be foretold."""


class Judged(msgspec.Struct, frozen=True):
    """The quantile that records are about, and the horizon of the plain coverage and weights."""

    horizon_seconds: float
    quantile: float

    @property
    def name(self) -> str:
        """Such as `P90`."""
        return f"P{self.quantile * 100:g}"


def remarks(one: SeriesForecast, found: Diagnosis, judged: Judged) -> tuple[str, ...]:
    """Return what must be known of one series."""
    if one.status == "absent":
        return (_absent(one),)
    return (
        *_feed(one, found),
        *_past(found),
        *_skill(one, judged),
        *_coverage(one, judged),
        *_errors(found),
    )


def _absent(one: SeriesForecast) -> str:
    if any(rate > 0 for row in one.peak for rate in row):
        return (
            "No demand was ever observed: the rates are a guess from the other models. Tidal "
            "shrinks nothing on it."
        )
    return (
        "No demand was ever observed: the rates say nothing. Tidal shrinks nothing on them; check "
        "that the engines are scraped."
    )


def _feed(one: SeriesForecast, found: Diagnosis) -> Iterator[str]:
    if one.status == "stale":
        age = (found.newest_age_seconds or 0.0) / MINUTE
        yield (
            f"Stale: the newest known rate is {age:.0f} min old. The forecast goes on from there "
            f"and its bands widen; until the metrics are back Tidal shrinks nothing."
        )
    elif one.status == "partial":
        yield (
            "Partial: rates of the last half hour are missing. What is known counts; until the "
            "metrics are whole Tidal shrinks nothing on them."
        )
    elif one.status == "idle":
        yield "Idle: nothing has come for an hour; that is known, not assumed."


def _past(found: Diagnosis) -> Iterator[str]:
    if found.known_seconds < YOUNG_SECONDS:
        yield (
            f"Young: {found.known_seconds / HOUR:.1f} h are known. No day was seen twice, so its "
            f"tide cannot be known yet; until then the quantiles keep a wide distance."
        )
    if found.zero_share is not None and found.zero_share > OFF_SHARE:
        yield (
            f"Intermittent: nothing came in {found.zero_share:.0%} of the known time. A low "
            f"quantile is 0 between two spells; the peaks say what a spell needs."
        )


def _skill(one: SeriesForecast, judged: Judged) -> Iterator[str]:
    """Say at which distance which plain guess is as good, and what that means."""
    judged_at = [each for each in one.record if each.skill_yesterday is not None]
    if not judged_at:
        yield (
            f"Not judged yet: too few {judged.name} forecasts have met their targets to say "
            f"whether they beat yesterday's value or the last one."
        )
    as_last = [each for each in one.record if _none(each.skill_last)]
    as_yesterday = [each for each in one.record if _none(each.skill_yesterday)]
    if as_last:
        yield (
            f"No better than the last value {_ahead(as_last)}: what comes cannot be told from "
            f"what is. Believe the bands, not the shape: capacity follows the present level and "
            f"the room above it. Where a shortage is dear, hold a higher quantile in the policy."
        )
    if as_yesterday:
        yield (
            f"No better than yesterday's value {_ahead(as_yesterday)}: at that distance the "
            f"forecast is worth what a look at yesterday is, so loans that run so long are a "
            f"guess."
        )


def _none(skill: float | None) -> bool:
    return skill is not None and skill < LEAST_SKILL


def _ahead(records: Sequence[Record]) -> str:
    return ", ".join(_span(each.horizon_seconds) for each in records) + " ahead"


def _span(seconds: float) -> str:
    return f"{seconds / HOUR:g} h" if seconds >= HOUR else f"{seconds / MINUTE:g} min"


def _coverage(one: SeriesForecast, judged: Judged) -> Iterator[str]:
    if one.coverage is None or abs(one.coverage - judged.quantile) <= MOST_OFF:
        return
    side = "too low" if one.coverage < judged.quantile else "higher than needed"
    yield (
        f"Off lately: {judged.name} {_span(judged.horizon_seconds)} ahead held in "
        f"{one.coverage:.1%} of cases, not in {judged.quantile:.0%}: it was {side}. It corrects "
        f"itself as targets come in."
    )


def _errors(found: Diagnosis) -> Iterator[str]:
    errors = found.errors
    if errors is None or errors.random or abs(errors.correlation) < STRONG:
        return
    yield (
        f"Not all is learnt: errors {_span(errors.lag_seconds)} apart go "
        f"{'together' if errors.correlation > 0 else 'against each other'} (correlation "
        f"{errors.correlation:.2f}), so a part of them could be foretold."
    )
