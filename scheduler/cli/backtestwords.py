"""What a backtest says to a person: two tables, and a verdict in plain words for each group."""

from collections.abc import Iterator, Sequence
from math import sqrt

from rich.table import Table
from rich.text import Text

from forecasting.backtest import (
    Protocol,
    Record,
    Scored,
    judged,
    mean_losses,
    quantile_name,
    with_better_bands,
)
from scheduler.cli import words
from scheduler.cli.terminal import Cell, table

SKILL_SHARE = 0.03
"""Losses closer together than this are called equal."""
WRONG_POINTS = 3.0
"""A quantile whose mean coverage is further off than this, and than chance would have it, is called
wrong."""
CHANCE_DEVIATIONS = 2.0
"""So many standard deviations are put down to chance."""
LEAST_TARGETS = 48
"""Below these per series, a day at the default step, no verdict is given."""
HOUR_SECONDS = 3600.0
HEADERS = (
    *("GROUP", "AHEAD", "SERIES", "TARGETS", "BEST RIVAL", "VS BEST", "VS CONSTANT"),
    *("VS NAIVE 24H", "BEATS CONSTANT", "COVERS", "P95 COVERS", "WITHIN 3 PT", "CAPACITY"),
)
EXPLAINED = (
    "VS: Tidal's loss against a rival's, which has bands of its own errors; -10% is a tenth less. "
    "COVERS: share of targets at or below the quantile, mean of the series. WITHIN 3 PT: of the "
    "series with 500 targets, those that are no more than 3 points off. CAPACITY: spare capacity "
    "against constant's, at equal shortage (1 % of demand)."
)


def told(
    done: Sequence[Scored], protocol: Protocol, ratios: Sequence[Record]
) -> Iterator[Table | Text]:
    """Yield the loss of every method, then Tidal against its rivals and the verdicts."""
    name = _quantile(judged(protocol))
    yield Text(f"{name} LOSS, % OF MEAN DEMAND; EACH RIVAL WITH ITS BETTER BANDS", "bold")
    yield _losses(done, protocol)
    if ratios and len(done[0].curves) > 1:
        yield Text(f"TIDAL AGAINST ITS RIVALS AT {name}", "bold")
        yield table(HEADERS, [_row(record) for record in ratios])
        yield Text(EXPLAINED, "dim")
        yield from (Text(sentence) for sentence in verdicts(ratios, protocol.step_seconds))


def _losses(done: Sequence[Scored], protocol: Protocol) -> Table:
    ahead = [words.span(seconds) for seconds in protocol.horizons_seconds]
    peaks = [f"PEAK {words.span(seconds)}" for seconds in protocol.leads_seconds]
    groups: dict[str, dict[str, list[float | None]]] = {}
    for (group, apart, method), losses in mean_losses(done, protocol).items():
        groups.setdefault(_group(group, apart), {})[method] = losses
    rows = [
        (group, method, *(_percent(loss, 2) for loss in losses))
        for group, methods in groups.items()
        for method, losses in with_better_bands(methods).items()
    ]
    return table(("GROUP", "METHOD", *(each.upper() for each in (*ahead, *peaks))), rows)


def _row(record: Record) -> tuple[Cell, ...]:
    quantile = quantile_name(record["quantile"])
    best = record["pinball_ratio_best_rival"]
    return (
        _group(record["group"], record["intermittent"]),
        _ahead(record),
        str(record["series"]),
        str(record["targets"]),
        str(record["best_rival"] or words.UNKNOWN),
        Text(_change(best), _colour(best)),
        _change(record.get("pinball_ratio_constant")),
        _change(record.get("pinball_ratio_seasonal_naive_24h")),
        _percent(record.get("share_better_than_constant"), 0),
        _percent(record[f"coverage_{quantile}"], 1),
        _percent(record.get("coverage_p95"), 1),
        _percent(record[f"share_within_3_points_{quantile}"], 0),
        _change(record.get("over_provision_ratio_constant")),
    )


def verdicts(ratios: Sequence[Record], step_seconds: float) -> Iterator[str]:
    """Yield one verdict per group and kind of series; `step_seconds` lie between two origins."""
    groups: dict[str, list[Record]] = {}
    for record in ratios:
        groups.setdefault(_group(record["group"], record["intermittent"]), []).append(record)
    for group, records in groups.items():
        yield f"{group}: {' '.join(_sentences(records, step_seconds))}"


def _sentences(records: list[Record], step_seconds: float) -> Iterator[str]:
    enough = [r for r in records if r["targets"] >= LEAST_TARGETS * r["series"] and r["best_rival"]]
    if not enough:
        most = max(record["targets"] / record["series"] for record in records)
        short = f"{most:.0f} targets a series, {LEAST_TARGETS} are needed"
        reason = short if most < LEAST_TARGETS else "no rival has known errors enough for a band"
        yield f"too short for a verdict: {reason}. Give more days, or a shorter --step."
        return
    skill = {_ahead(record): _skill(record) for record in enough}
    wrong = [record for record in enough if _wrong(record, step_seconds)]
    name = _quantile(enough[0]["quantile"])
    yield _advice(enough, skill, wrong)
    for kind, said in (
        ("better", f"Its {name} loses less than every rival's"),
        ("equal", "It is no better than the best rival"),
        ("worse", "A rival does better"),
    ):
        found = [_against(record) for record in enough if skill[_ahead(record)] == kind]
        if found:
            yield f"{said}: {', '.join(found)}."
    yield from _held(enough, wrong)


def _held(enough: list[Record], wrong: list[Record]) -> Iterator[str]:
    name = _quantile(enough[0]["quantile"])
    open_ = [record for record in enough if _off(record) > WRONG_POINTS and record not in wrong]
    if wrong:
        yield f"Its {name} does not hold: {', '.join(map(_covers, wrong))}."
    if open_:
        yield f"Too few targets to tell whether its {name} holds: {', '.join(map(_covers, open_))}."
    if not wrong and not open_:
        yield f"Its {name} holds: on average it covered what it should within 3 points."


def _advice(enough: list[Record], skill: dict[str, str], wrong: list[Record]) -> str:
    """Judge what is up to an hour ahead; say so where it is not so further ahead."""
    near = [record for record in enough if _seconds(record) <= HOUR_SECONDS] or enough
    kinds = {skill[_ahead(record)] for record in near}
    if any(record in wrong for record in near):
        return f"Do not rely on its {_quantile(near[0]['quantile'])} here yet."
    if kinds == {"worse"}:
        return "No skill: a rival would have served this history better."
    if "better" not in kinds:
        return "No skill up to an hour: rely on its quantiles, but expect no gain over a rival."
    if "worse" in kinds:
        return "Trust it where it is better."
    holds = all(skill[_ahead(record)] != "worse" and record not in wrong for record in enough)
    return "Trust it." if holds else "Trust it up to an hour."


def _skill(record: Record) -> str:
    ratio = record["pinball_ratio_best_rival"]
    if ratio <= 1 - SKILL_SHARE:
        return "better"
    return "equal" if ratio < 1 + SKILL_SHARE else "worse"


def _wrong(record: Record, step_seconds: float) -> bool:
    return _off(record) > max(WRONG_POINTS, _chance(record, step_seconds))


def _off(record: Record) -> float:
    return abs(float(record[f"coverage_error_{quantile_name(record['quantile'])}_points"] or 0.0))


def _chance(record: Record, step_seconds: float) -> float:
    """Return points that a right quantile may be off; origins within one horizon count as one."""
    independent = record["targets"] * min(1.0, step_seconds / _seconds(record))
    tau = record["quantile"]
    return float(100 * CHANCE_DEVIATIONS * sqrt(tau * (1 - tau) / independent))


def _against(record: Record) -> str:
    ratio, rival = record["pinball_ratio_best_rival"], record["best_rival"]
    return f"{_ahead(record)} ({_change(ratio)} against {rival})"


def _covers(record: Record) -> str:
    share = record[f"coverage_{quantile_name(record['quantile'])}"]
    return f"{_ahead(record)} ({_percent(share, 1)})"


def _quantile(tau: float) -> str:
    return f"P{100 * tau:g}"


def _seconds(record: Record) -> float:
    return float(
        record["horizon_seconds"] if "horizon_seconds" in record else record["lead_seconds"]
    )


def _ahead(record: Record) -> str:
    span = words.span(_seconds(record))
    return span if "horizon_seconds" in record else f"peak {span}"


def _group(group: str, apart: bool) -> str:  # noqa: FBT001 -- the value is the point
    return f"{group}, mostly zero" if apart else group


def _change(ratio: float | None) -> str:
    return words.UNKNOWN if ratio is None else f"{ratio - 1:+.0%}"


def _percent(value: float | None, digits: int) -> str:
    return words.UNKNOWN if value is None else f"{value:.{digits}%}"


def _colour(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return words.GOOD if ratio <= 1 - SKILL_SHARE else words.WARN if ratio > 1 + SKILL_SHARE else ""
