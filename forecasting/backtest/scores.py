"""What a quantile curve is worth: loss, coverage, and the capacity it costs to fall short rarely.

All arguments are rates over origins; NaN in either is left out.
"""

from __future__ import annotations

import numpy as np

from forecasting.grid import Bools, Floats


def both(seen: Floats, curve: Floats) -> Bools:
    """The origins that are scored."""
    return np.isfinite(seen) & np.isfinite(curve)


def relative_pinball(seen: Floats, curve: Floats, tau: float) -> float | None:
    """Mean quantile loss over mean target (Koenker & Bassett 1978); None where nothing came."""
    scored = both(seen, curve)
    miss = (seen - curve)[scored]
    total = float(seen[scored].sum())
    loss = float(np.maximum(tau * miss, (tau - 1) * miss).sum())
    return loss / total if total > 0 else None


def coverage(seen: Floats, curve: Floats) -> float | None:
    """Share of targets at or below the quantile."""
    scored = both(seen, curve)
    return float((seen <= curve)[scored].mean()) if scored.any() else None


def over_provision(seen: Floats, curve: Floats, short_share: float) -> float | None:
    """sum(c x curve - seen) / sum(seen) with the c that leaves `short_share` of it uncovered.

    None where no c does: nothing came, or the curve is 0 under more than that share.
    """
    scored = both(seen, curve)
    seen, curve = seen[scored], curve[scored]
    total = float(seen.sum())
    if total <= 0:
        return None
    factor = _factor(seen, curve, short_share * total)
    return None if factor is None else float(factor * curve.sum() / total - 1)


def _factor(seen: Floats, curve: Floats, short: float) -> float | None:
    """The c with sum(max(seen - c x curve, 0)) = short.

    Between two neighbours of the sorted seen / curve, the sum is linear in c.
    """
    never = curve <= 0
    lost = float(seen[never].sum())
    seen, curve = seen[~never], curve[~never]
    if lost > short or not seen.size:
        return None
    order = np.argsort(-seen / curve, kind="stable")
    above, under = np.cumsum(seen[order]), np.cumsum(curve[order])
    reached = seen[order] / curve[order]
    left = lost + above - reached * under  # uncovered where c is just the next one's ratio
    last = max(int(np.searchsorted(left, short, side="right")) - 1, 0)
    return float((lost + above[last] - short) / under[last])
