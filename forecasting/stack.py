"""The stack: each target regressed on what the members say about it, a direct ridge per target.

    target - last value = sum over members of slope x (member - last value)

(stacked regression, Breiman 1996, with a direct model per horizon). What a regression of so many
members cannot tell is left as it would be without one: each member, and the last value, has a share
that falls with its squared error (Bates & Granger 1969). Without any evidence the stack says the
last value. Each target has slopes of its own, also the peaks. Fits are batched over series.
"""

from __future__ import annotations

import numpy as np

from forecasting.grid import Bools, Floats, Grid, Ints, Reals

# Penalty of each slope's distance to the member's share: a part of its own regressor's sum of
# squares, plus that of an average regressor over so many days. Errors of far targets overlap and
# tell less: penalties grow with the root of the distance.
_OWN_PENALTY = 1.6
_COMMON_PENALTY_DAYS = 0.2
_HALF_LIFE_DAYS = 5.0
_TINY = 1e-4
# Shares fall with this power of the mean squared error.
_SHARPNESS = 6.0


def said_by_stack(
    said: Floats, seen: Floats, origins: Ints, cuts: Ints, grid: Grid
) -> tuple[Floats, Floats]:
    """What the stack would have said [series, target, origin], and its slopes after the last cut.

    `said` [series, member, target, origin] with the last value as member 0, `seen` [series,
    target, origin]; `cuts` are numbers of bins, ascending. At an origin the stack knows targets
    that had come by the newest cut at or before it. NaN where the last value is unknown.
    Slopes are [series, target, member - 1].
    """
    rows, count, targets, _ = said.shape
    out = np.full_like(seen, np.nan)
    slopes = np.zeros((rows, targets, count - 1))
    block = np.searchsorted(cuts, origins + 1, side="right") - 1
    for target, steps in enumerate(grid.target_steps):
        apart = _apart(said[:, :, target])
        miss = seen[:, target] - said[:, 0, target]
        known = np.isfinite(miss)
        apart_known = np.where(known[:, None], apart, 0.0)
        fits = _Sums(rows, count - 1, grid)
        for number, cut in enumerate(cuts.tolist()):
            fits.add(apart_known, np.nan_to_num(miss), known, origins, cut, steps)
            slopes[:, target] = fits.slopes(steps)
            here = block == number
            one = slice(target, target + 1)
            out[:, one, here] = stacked(said[:, :, one][..., here], slopes[:, one])
    return out, slopes


def stacked(said: Floats, slopes: Reals) -> Floats:
    """Apply slopes [series, target, member - 1] to `said` [series, member, target, origin].

    Returns [series, target, origin]; NaN without a last value.
    """
    moved = np.einsum("smto,stm->sto", _apart(said), slopes)
    total: Floats = np.maximum(said[:, 0] + moved, 0.0)
    return total


def _apart(said: Floats) -> Floats:
    """Members but the last value, as differences to it; silent ones agree with it."""
    return np.nan_to_num(said[:, 1:] - said[:, :1])


class _Sums:
    """Normal equations of one target, growing with the cuts; the past fades."""

    def __init__(self, rows: int, slopes: int, grid: Grid) -> None:
        self.gram = np.zeros((rows, slopes, slopes))
        self.right = np.zeros((rows, slopes))
        self.weight = np.zeros(rows)
        self.square = np.zeros(rows)
        self.grid = grid
        self.cut = 0
        self.taken = 0

    def add(
        self, apart: Floats, miss: Floats, known: Bools, origins: Ints, cut: int, steps: int
    ) -> None:
        """Take in the origins whose target had come before `cut` and that are not in yet."""
        half_life = _HALF_LIFE_DAYS * self.grid.day
        fade = 0.5 ** ((cut - self.cut) / half_life)
        self.gram, self.right = self.gram * fade, self.right * fade
        self.weight, self.square = self.weight * fade, self.square * fade
        self.cut = cut
        stop = int(np.searchsorted(origins, cut - steps))
        new = slice(self.taken, max(stop, self.taken))
        self.taken = new.stop
        weight = 0.5 ** ((cut - 1 - origins[new]) / half_life)
        x = apart[:, :, new]
        weighted = x * weight
        self.gram += weighted @ x.transpose(0, 2, 1)
        self.right += (weighted @ miss[:, new, None])[:, :, 0]
        self.weight += known[:, new] @ weight
        self.square += miss[:, new] ** 2 @ weight

    def slopes(self, steps: int) -> Floats:
        """Ridge around the shares, as far as they are known [series, slope]."""
        own = np.einsum("sii->si", self.gram)
        mean = own.sum(axis=1, keepdims=True) / max(own.shape[1], 1)
        day = self.grid.day / self.grid.origin_step
        few = _COMMON_PENALTY_DAYS * day
        common = few / np.maximum(self.weight, 1.0)[:, None]
        overlap = np.sqrt(max(1.0, steps / self.grid.origin_step))
        penalty = overlap * (_OWN_PENALTY * own + common * mean) + _TINY * mean + 1e-9
        full = self.gram + penalty[:, :, None] * np.eye(own.shape[1])
        trust = (self.weight / (self.weight + few))[:, None]
        right = self.right + penalty * trust * self._shares(own)
        return np.linalg.solve(full, right[:, :, None])[:, :, 0].astype(np.float64)

    def _shares(self, own: Floats) -> Floats:
        """Share of each member but the last value [series, slope]; with its, they sum to 1."""
        lost = self.square[:, None] - 2 * self.right + own
        every = np.maximum(np.concatenate([self.square[:, None], lost], axis=1), 0.0)
        best = every.min(axis=1, keepdims=True)
        share = np.divide(best, every, out=np.ones_like(every), where=every > best) ** _SHARPNESS
        part: Floats = share[:, 1:] / share.sum(axis=1, keepdims=True)
        return part
