"""The newest origin: members' points and learnt bands become rates per second.

A series whose newest known bin is some bins old is forecast from there: its bands are those of
targets that much further ahead, so they widen while the feed is silent.
"""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.calibration import Calibration, mix, of_voices, voice_bands
from forecasting.feedback import Feedback, drift, near_targets, spans
from forecasting.grid import Floats, Grid, Ints, Reals
from forecasting.judge import judged_quantile, judged_target
from forecasting.knowledge import Knowledge
from forecasting.members import Member
from forecasting.panel import Panel
from forecasting.scales import scales
from forecasting.stack import stacked
from forecasting.strays import Strays

# No quantile exceeds this multiple of the largest rate in store, once a day of bins is known.
_GREATEST_RISE = 2.25


class Issued(msgspec.Struct, frozen=True):
    """Rates `at` [series, horizon, quantile] and `peak` [series, lead, quantile].

    `stack` [series, target] are the roots that the stack says; `share` [series, voice] is each
    voice's part in the judged target and quantile.
    """

    at: Floats
    peak: Floats
    stack: Floats
    share: Floats

    @property
    def roots(self) -> Floats:
        """Square roots of all targets [series, target, quantile]."""
        roots: Floats = np.sqrt(np.concatenate([self.at, self.peak], axis=1))
        return roots


def issue(
    panel: Panel,
    grid: Grid,
    members: tuple[Member, ...],
    knowledge: Knowledge,
    feedback: Feedback,
    strays: Strays,
) -> Issued:
    """Forecast every series from the last column of the panel."""
    now = np.array([panel.z.shape[1] - 1])
    said = _said(panel, grid, members, knowledge)
    reached, steps = _reached(panel, grid)
    near = near_targets(grid)
    stray = np.full(steps.shape, np.nan)
    stray[:, near] = strays.recent
    scale = scales(panel, grid, now, np.take_along_axis(stray, reached, 1)[..., None], steps)
    learnt = _picked(knowledge.calibration, reached)
    bands = voice_bands(said[..., None], scale, learnt, steps, grid)[:, :, :, 0]
    roots = mix(bands, learnt.weight)
    roots[:, near] += drift(feedback, grid) * spans(scale.spread, grid)[..., None]
    at, peak = ordered(_bounded(roots, panel), grid)
    return Issued(at, peak, said[:, -1], _share(said, learnt.weight, grid))


def _said(panel: Panel, grid: Grid, members: tuple[Member, ...], knowledge: Knowledge) -> Floats:
    """What each voice says from the last column [series, voice, target]; the stack is last."""
    now = np.array([panel.z.shape[1] - 1])
    each = [
        grid.target_values(member.path(panel, fit, now, grid.steps)[:, 0])
        for member, fit in zip(members, knowledge.fits, strict=True)
    ]
    looked_at = [said for said, member in zip(each, members, strict=True) if member.regressed]
    stack = stacked(np.stack(looked_at, axis=1)[..., None], knowledge.slopes)[..., 0]
    voices = [said for said, member in zip(each, members, strict=True) if member.votes]
    return np.stack([*voices, stack], axis=1)


def _picked(learnt: Calibration, reached: Ints) -> Calibration:
    """What was learnt of the targets numbered `reached` [series, target]."""
    pick = reached[:, None, :, None]
    return Calibration(
        np.take_along_axis(learnt.offset, pick, 2),
        np.take_along_axis(learnt.trust, pick[..., 0], 2),
        np.take_along_axis(learnt.weight, pick, 2),
        np.take_along_axis(learnt.growth, reached, 1),
        np.take_along_axis(learnt.heed, reached, 1),
    )


def _reached(panel: Panel, grid: Grid) -> tuple[Ints, Ints]:
    """The calibrated target as far from a series' newest known bin as the asked one should be.

    Its number, and its distance in bins; both [series, target]; the furthest if none is.
    """
    age = panel.z.shape[1] - 1 - panel.newest[:, -1:]
    horizons = np.array(grid.horizon_steps)
    leads = np.array(grid.lead_steps)
    at = np.searchsorted(horizons, horizons + age)
    peak = np.searchsorted(leads, leads + age)
    index = np.concatenate(
        [np.minimum(at, horizons.size - 1), np.minimum(peak, leads.size - 1) + horizons.size], 1
    )
    return index, np.array(grid.target_steps)[index]


def _bounded(roots: Floats, panel: Panel) -> Floats:
    """Rates from roots: ascending over quantiles, not negative, not absurdly high.

    Weights differ between quantiles, so curves may cross; the higher quantile then gives way.
    """
    highest = panel.z.max(axis=1, initial=0.0) * np.sqrt(_GREATEST_RISE)
    young = panel.known.sum(axis=1) < panel.day
    top = np.where(young, np.inf, highest)[:, None, None]
    ascending = np.maximum.accumulate(np.nan_to_num(roots), axis=-1)
    rates: Floats = np.clip(ascending, 0.0, top) ** 2
    return rates


def ordered(rates: Floats, grid: Grid) -> tuple[Floats, Floats]:
    """Split into horizons and leads; a peak holds all bins inside its lead."""
    count = len(grid.horizon_steps)
    at, peak = rates[:, :count], np.maximum.accumulate(rates[:, count:], axis=1)
    inside = np.searchsorted(grid.horizon_steps, grid.lead_steps, side="right")
    highest = np.maximum.accumulate(at, axis=1)
    some = inside > 0
    peak[:, some] = np.maximum(peak[:, some], highest[:, inside[some] - 1])
    return at, peak


def _share(said: Floats, weight: Reals, grid: Grid) -> Floats:
    target, quantile = judged_target(grid), judged_quantile(grid)
    weight = of_voices(weight, said.shape[1])
    share = np.where(np.isfinite(said[..., target]), weight[:, :, target, quantile], 0.0)
    total = share.sum(axis=1, keepdims=True)
    part: Floats = np.divide(share, total, out=np.zeros_like(share), where=total > 0)
    return part
