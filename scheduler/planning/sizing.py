"""How many replicas each role should have: a chain of estimators of one shape.

Second step of a plan. Every estimator takes the sizing so far and returns it, raised or
lowered, with its reason; `CHAIN` reads as the policy's sentence. Counts are thousandths of a
reference replica (the role's first GPU model), because replicas on other models hold more or
less. Missing metrics hold: nothing shrinks on ignorance.
"""

from collections.abc import Callable
from math import ceil, log

import msgspec

from forecasting import SeriesForecast
from scheduler.planning import beliefs, pace
from scheduler.planning.actions import Reason, Sizing
from scheduler.planning.holdings import Holding, milli
from scheduler.planning.memory import Memory, Pace, Vote
from scheduler.planning.policy import Policy, RolePolicy
from scheduler.planning.snapshot import RoleSignal, Snapshot

LEFT_TO_OTHERS = "others"
"""Name of the step after which a count is not Tidal's to change."""

QUEUE_DRAIN_SECONDS = 30.0
"""A queue is to be worked off in this time; shorter than the patience of a waiting user."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """All that the estimators of one role look at."""

    snapshot: Snapshot
    memory: Memory
    policy: RolePolicy
    holding: Holding
    signal: RoleSignal | None
    series: SeriesForecast | None
    replica_tokens_per_second: float
    pace: Pace | None


Estimator = Callable[[Ask, Sizing], Sizing]


def size(snapshot: Snapshot, memory: Memory, policy: Policy, holding: Holding) -> Sizing:
    """Return the sizing of one role, with the reason of every step."""
    ask = _ask(snapshot, memory, policy, holding)
    sizing = Sizing(
        role=holding.role,
        tokens_per_second=0.0,
        replica_tokens_per_second=ask.replica_tokens_per_second,
        held_milli=holding.covered_milli,
        wanted_milli=0,
    )
    for estimator in CHAIN:
        sizing = estimator(ask, sizing)
    return sizing


def lead_peak(ask: Ask, sizing: Sizing) -> Sizing:
    """Raise to the median of the highest bin over the lead time."""
    median = peak_within(ask, 0.5)
    if median is None:
        return sizing
    text = f"the peak within {ask.policy.lead_seconds:g} s is {median:,.0f} tokens/s"
    return _raise_tokens(sizing, "lead_peak", median, text)


def level(ask: Ask, sizing: Sizing) -> Sizing:
    """Raise to the present level, which knows of a shift before the forecast does."""
    if ask.pace is None or ask.signal is None or ask.signal.status in ("stale", "absent"):
        return sizing
    rate = ask.pace.level_tokens_per_second
    return _raise_tokens(sizing, "level", rate, f"{rate:,.0f} tokens/s arrive of late")


def room(ask: Ask, sizing: Sizing) -> Sizing:
    """Add room for the forecast's error and for the minutes' noise."""
    median, high = peak_within(ask, 0.5), peak_within(ask, ask.policy.quantile)
    spread = log(high / median) if median and high else 0.0
    factor = pace.room(ask.pace, spread, ask.policy.minute_sigmas)
    text = f"room of {factor - 1:.0%} for errors and bursts"
    return _raise_tokens(sizing, "room", sizing.tokens_per_second * factor, text)


def reactive_floor(ask: Ask, sizing: Sizing) -> Sizing:
    """Raise to what arrives this minute plus the queue, whatever else is expected."""
    signal = ask.signal
    if signal is None or signal.status in ("stale", "absent"):
        return sizing
    rate = signal.arrived_tokens_per_second + signal.queued_tokens / QUEUE_DRAIN_SECONDS
    text = f"{rate:,.0f} tokens/s arrive or wait now"
    return _raise_tokens(sizing, "reactive_floor", rate, text)


def to_replicas(ask: Ask, sizing: Sizing) -> Sizing:
    """Divide by the believed capacity of a reference replica.

    The level of a role that nobody asks any more falls for ever and never is 0: less than a
    thousandth of a replica is nothing.
    """
    thousandths = 1000 * sizing.tokens_per_second / ask.replica_tokens_per_second
    wanted = ceil(thousandths) if thousandths >= 1 else 0
    text = f"one replica holds {ask.replica_tokens_per_second:,.0f} tokens/s"
    return _set_milli(sizing, "replicas", wanted, text)


def hold_when_blind(ask: Ask, sizing: Sizing) -> Sizing:
    """Never shrink below what runs or waits while the role's metrics or forecast are missing."""
    blind = ask.signal is None or ask.signal.status in ("stale", "absent", "partial")
    unforecast = ask.series is None or ask.series.status in ("stale", "absent")
    held = max(ask.holding.covered_milli, _present(ask.holding))
    if not (blind or unforecast) or sizing.wanted_milli >= held:
        return sizing
    what = "metrics" if blind else "forecast"
    return _set_milli(sizing, "hold", held, f"{what} missing: hold")


def stabilise(ask: Ask, sizing: Sizing) -> Sizing:
    """Shrink only to the highest count asked for within the window; hold until it is full."""
    window = ask.policy.scale_down.stabilization_window_seconds
    now = ask.snapshot.now_seconds
    since = ask.memory.since_seconds
    if sizing.wanted_milli >= ask.holding.covered_milli:
        return sizing
    if window > 0 and (since is None or now - since < window):
        held = ask.holding.covered_milli
        return _set_milli(sizing, "stabilise", held, f"first {window:g} s of this memory: hold")
    recent = votes_within(ask.memory, ask.holding.role, now - window)
    highest = max([vote.wanted_milli for vote in recent], default=0)
    if highest <= sizing.wanted_milli:
        return sizing
    return _set_milli(sizing, "stabilise", highest, f"highest count within {window:g} s")


def tolerate(ask: Ask, sizing: Sizing) -> Sizing:
    """Leave small surpluses alone, as the HPA does."""
    held = ask.holding.covered_milli
    share = ask.policy.scale_down.tolerance
    if share == 0 or not held * (1 - share) <= sizing.wanted_milli < held:
        return sizing
    return _set_milli(sizing, "tolerance", held, f"within {share:.0%} of what runs")


def clamp(ask: Ask, sizing: Sizing) -> Sizing:
    """Keep inside the policy's minimum and maximum, in reference replicas."""
    low, high = 1000 * ask.policy.min_replicas, 1000 * ask.policy.max_replicas
    wanted = min(max(sizing.wanted_milli, low), high)
    if wanted == sizing.wanted_milli:
        return sizing
    bound = "min_replicas" if wanted == low else "max_replicas"
    return _set_milli(sizing, bound, wanted, f"{bound} is {wanted // 1000}")


def leave_to_others(ask: Ask, sizing: Sizing) -> Sizing:
    """Take the count that somebody else has set for what is wanted, while it is theirs to set."""
    whose = others_hand(ask.holding, ask.snapshot.now_seconds)
    if not whose:
        return sizing
    return _set_milli(sizing, LEFT_TO_OTHERS, _present(ask.holding), whose)


def others_hand(holding: Holding, now_seconds: float) -> str:
    """Return who sets the role's count in Tidal's place, nothing where nobody does."""
    target = holding.target
    if target.scaled_by_other:
        return f"{target.scaled_by_other} scales the same target: delete one of the two"
    until = target.override_until_seconds
    if until is not None and until > now_seconds:
        return f"{target.replicas} replicas were set by hand, and are left alone for a while"
    return ""


CHAIN: tuple[Estimator, ...] = (
    lead_peak,
    level,
    room,
    reactive_floor,
    to_replicas,
    hold_when_blind,
    stabilise,
    tolerate,
    clamp,
    leave_to_others,
)


def bound_ratios(sizings: tuple[Sizing, ...], policy: Policy) -> tuple[Sizing, ...]:
    """Raise prefill or decode where a model's ratio bounds ask for it; never lower either."""
    by_role = {sizing.role: sizing for sizing in sizings}
    for model, model_policy in sorted(policy.models.items()):
        prefill, decode = by_role.get(f"{model}/prefill"), by_role.get(f"{model}/decode")
        if prefill is None or decode is None:
            continue
        bounds = model_policy.ratio
        low = ceil(decode.wanted_milli * bounds.min_prefill_per_decode)
        if prefill.wanted_milli < low and not _fixed(prefill):
            text = f"at least {bounds.min_prefill_per_decode:g} prefill per decode"
            by_role[prefill.role] = _set_milli(prefill, "ratio", low, text)
        most = bounds.max_prefill_per_decode
        lacks = most is not None and prefill.wanted_milli > decode.wanted_milli * most
        if most is not None and lacks and not _fixed(decode):
            text = f"at most {most:g} prefill per decode"
            need = ceil(prefill.wanted_milli / most)
            by_role[decode.role] = _set_milli(decode, "ratio", need, text)
    return tuple(by_role[sizing.role] for sizing in sizings)


def firm_milli(sizing: Sizing) -> int:
    """Return what is wanted less the room for errors and bursts; all where that is not the reason.

    What a minimum, a ratio or a person asks for is no room.
    """
    after = {reason.step: reason.after for reason in sizing.reasons}
    room = next((reason for reason in sizing.reasons if reason.step == "room"), None)
    if room is None or sizing.reasons[-1].step not in ("replicas", "stabilise"):
        return sizing.wanted_milli
    rate = max(room.before, after.get("reactive_floor", 0.0))
    return ceil(1000 * rate / sizing.replica_tokens_per_second)


def urgent(holding: Holding, snapshot: Snapshot) -> bool:
    """Return whether demand now exceeds what runs and comes: then there is no time for notice."""
    signal = next((s for s in snapshot.signals if s.role == holding.role), None)
    if signal is None or signal.status != "live":
        return False
    rate = signal.arrived_tokens_per_second + signal.queued_tokens / QUEUE_DRAIN_SECONDS
    return 1000 * rate > holding.covered_milli * next(iter(holding.capacity.values()))


def remember_votes(
    memory: Memory, sizings: tuple[Sizing, ...], now: float, policy: Policy
) -> Memory:
    """Return the memory with this tick's unstabilised votes, older ones dropped."""
    votes = {}
    for sizing in sizings:
        role = policy.role(sizing.role)
        window = role.scale_down.stabilization_window_seconds if role else 0.0
        vote = Vote(now, _asked(sizing))
        votes[sizing.role] = (*votes_within(memory, sizing.role, now - window), vote)
    return msgspec.structs.replace(memory, votes=votes)


def votes_within(memory: Memory, role: str, since_seconds: float) -> tuple[Vote, ...]:
    """Return a role's votes not older than `since_seconds`."""
    return tuple(v for v in memory.votes.get(role, ()) if v.at_seconds >= since_seconds)


def peak_within(ask: Ask, quantile: float) -> float | None:
    """Return the forecast of the highest bin within the lead time, None where there is none."""
    forecasts, series = ask.snapshot.forecasts, ask.series
    if forecasts is None or series is None or series.status in ("stale", "absent"):
        return None
    age = ask.snapshot.now_seconds - forecasts.issued_at_seconds
    lead = ask.policy.lead_seconds + age
    return peak_of(series, forecasts.leads_seconds, forecasts.quantiles, lead, quantile)


def peak_of(
    series: SeriesForecast,
    leads_seconds: tuple[float, ...],
    quantiles: tuple[float, ...],
    lead_seconds: float,
    quantile: float,
) -> float:
    """Look a quantile of the lead-time maximum up; the longest lead stands for longer ones."""
    row = next((i for i, lead in enumerate(leads_seconds) if lead >= lead_seconds), -1)
    return series.peak[row][quantiles.index(quantile)]


def _ask(snapshot: Snapshot, memory: Memory, policy: Policy, holding: Holding) -> Ask:
    role_policy = policy.role(holding.role)
    if role_policy is None:
        raise KeyError(holding.role)
    key = beliefs.series_key(policy, holding.role)
    forecasts = snapshot.forecasts
    return Ask(
        snapshot=snapshot,
        memory=memory,
        policy=role_policy,
        holding=holding,
        signal=next((s for s in snapshot.signals if s.role == holding.role), None),
        series=forecasts.series.get(key) if forecasts else None,
        replica_tokens_per_second=next(iter(holding.capacity.values())),
        pace=pace.found(memory, holding.role),
    )


def _present(holding: Holding) -> int:
    """Return the capacity of all replicas that there are, those that wait for a node included."""
    bound = sum(milli(holding.capacity_milli, one.gpu_model) for one in holding.bound)
    return bound + 1000 * len(holding.unbound)


def _fixed(sizing: Sizing) -> bool:
    return bool(sizing.reasons) and sizing.reasons[-1].step == LEFT_TO_OTHERS


def _asked(sizing: Sizing) -> int:
    """Return the count before the brakes, which is what the window remembers."""
    for reason in sizing.reasons:
        if reason.step == "replicas":
            return round(reason.after)
    return sizing.wanted_milli


def _raise_tokens(sizing: Sizing, step: str, rate: float, sentence: str) -> Sizing:
    if rate <= sizing.tokens_per_second:
        return sizing
    reason = Reason(step, sizing.tokens_per_second, rate, sentence, "tokens_per_second")
    return msgspec.structs.replace(
        sizing, tokens_per_second=rate, reasons=(*sizing.reasons, reason)
    )


def _set_milli(sizing: Sizing, step: str, wanted: int, sentence: str) -> Sizing:
    reason = Reason(step, sizing.wanted_milli, wanted, sentence)
    return msgspec.structs.replace(sizing, wanted_milli=wanted, reasons=(*sizing.reasons, reason))
