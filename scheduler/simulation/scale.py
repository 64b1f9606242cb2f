"""How much demand the cluster gets: the factor on each trace.

Tokens become GPUs by the true capacity of one replica at the mean lengths of a 10-minute window,
per GPU of the replica, averaged over the cluster's GPU models on which the model's engine runs,
weighted by their counts. Fluid: no whole replicas, no headroom.
"""

import math
from collections.abc import Mapping

import numpy as np

from scheduler.simulation.capacity import ROLES, Role, tokens_per_second
from scheduler.simulation.demandfile import DemandError, Floats, Trace
from scheduler.simulation.worldfile import World

PEAK_WINDOW_SECONDS = 600.0
_SURE = 1.0 + 1e-12


def factors(
    world: World,
    traces: Mapping[str, Trace],
    *,
    between: tuple[float, float],
    gpus: Mapping[str, int],
    peak_share: float,
    shares: Mapping[str, float],
) -> dict[str, float]:
    """Return model -> factor such that the fleet's peak takes `peak_share` of all GPUs.

    `shares` fix models' parts of the GPUs at that peak; the others keep their proportions and
    share the rest. Where no window can be the peak under those parts, the nearest one is taken:
    parts hold in it, and the peak, elsewhere, still takes `peak_share`.

    Raises:
        DemandError: a share or the peak share is out of range, or a model fits no GPU.
    """
    _check(traces, gpus, peak_share, shares)
    needs = {
        model: gpu_needs(world, model, trace, between, gpus) for model, trace in traces.items()
    }
    budget = peak_share * sum(gpus.values())
    best, excess = {}, math.inf
    for window in range(len(next(iter(needs.values())))):
        found = _at_window(needs, shares, window)
        if found is None:
            continue
        fleet = np.sum([found[model] * needs[model] for model in needs], axis=0)
        over = float(fleet.max())  # the parts sum to 1 in the window
        if over < excess:
            best, excess = found, over
        if over <= _SURE:
            break
    if not best:
        raise DemandError(
            "--demand: no window in which every model with a share has demand; "
            "give traces with tokens at the same times"
        )
    return {model: factor * budget / excess for model, factor in best.items()}


def gpu_needs(
    world: World,
    model: str,
    trace: Trace,
    between: tuple[float, float],
    gpus: Mapping[str, int],
) -> Floats:
    """Return the GPUs that serving each 10-minute window exactly at capacity takes."""
    start, end = between
    windows = max(1, math.floor((end - start) / PEAK_WINDOW_SECONDS + 1e-9))
    width = min(PEAK_WINDOW_SECONDS, end - start)
    edges = start + np.arange(windows + 1, dtype=np.float64) * width
    requests, prompt, generated = (
        _between(trace, counts, edges)
        for counts in (trace.requests, trace.prompt_tokens, trace.generated_tokens)
    )
    some = np.maximum(requests, 1e-12)
    lengths = (prompt / some, generated / some)
    tokens: dict[Role, Floats] = {"prefill": prompt, "decode": generated}
    return np.asarray(
        sum(tokens[role] / width / per_gpu(world, model, role, lengths, gpus) for role in ROLES)
    )


def per_gpu(
    world: World,
    model: str,
    role: Role,
    lengths: tuple[Floats | float, Floats | float],
    gpus: Mapping[str, int],
) -> Floats:
    """Return tokens/s per GPU, the mean over GPU models that the engine runs on."""
    engine = world.engine(model)
    usable = [name for name in sorted(gpus) if gpus[name] and name in engine.speeds]
    if not usable:
        raise DemandError(
            f"--cluster: {model} is served by {world.served(model).engine}, which runs on none of "
            f"the cluster's GPU models; add one of {', '.join(engine.speeds)}"
        )
    total = sum(gpus[name] for name in usable)
    return np.asarray(
        sum(
            gpus[name] / total / engine.gpus * tokens_per_second(world, model, role, name, lengths)
            for name in usable
        )
    )


def _between(trace: Trace, counts: Floats, edges: Floats) -> Floats:
    """Return the totals between edges, each bin's count spread evenly over it."""
    ends = trace.start_seconds + np.arange(len(counts) + 1) * trace.bin_seconds
    return np.diff(np.interp(edges, ends, np.concatenate(([0.0], np.cumsum(counts)))))


def _at_window(
    needs: Mapping[str, Floats], shares: Mapping[str, float], window: int
) -> dict[str, float] | None:
    """Return the factors with which the fleet needs 1 GPU in a window, split as asked."""
    rest = 1 - sum(shares.values())
    free = sum(float(needs[model][window]) for model in needs if model not in shares)
    others = len(shares) < len(needs)
    if any(needs[model][window] <= 0 for model in shares) or (others and free <= 0):
        return None
    return {
        model: shares[model] / float(need[window]) if model in shares else rest / free
        for model, need in needs.items()
    }


def _check(
    traces: Mapping[str, Trace],
    gpus: Mapping[str, int],
    peak_share: float,
    shares: Mapping[str, float],
) -> None:
    if sum(gpus.values()) < 1:
        raise DemandError("--cluster: no GPUs; give at least one node")
    if not (math.isfinite(peak_share) and peak_share > 0):
        raise DemandError(f"--peak-share: {peak_share:g}; give a share of all GPUs above 0")
    for model, share in shares.items():
        if model not in traces:
            raise DemandError(f"--demand-share {model}: no such model; give it a --demand")
        if not 0 < share <= 1:
            raise DemandError(f"--demand-share {model}: {share:g}; give a share above 0, at most 1")
    total, all_given = sum(shares.values()), len(shares) == len(traces)
    if (all_given and not math.isclose(total, 1)) or (not all_given and total >= 1):
        raise DemandError(
            f"--demand-share: the shares sum to {total:g}; they must sum to 1, or to less where "
            "a model has none"
        )
