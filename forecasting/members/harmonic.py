"""Dynamic harmonic regression: a daily and a weekly tide in Fourier terms, AR on what is left.

Young, Pedregal & Tych (1999) named the method; here it is a weighted least-squares fit of
sines and cosines, then an autoregression of its residuals by least squares. Both are solved by
their normal equations for all series at once. The h-step answer of the autoregression is linear
in its last residuals, so a fit keeps that map and a tick is one small product.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np

from forecasting.grid import Bools, Floats, Ints
from forecasting.panel import Panel

_RIDGE = 1e-3
# Keeps the residuals' recursion from growing: roots of the autoregression are shrunk inside this.
_GREATEST_ROOT = 0.998
# A residual that has not been seen for a while is assumed to have shrunk towards zero.
_FADE_PER_BIN = 0.95


class Harmonic(msgspec.Struct, frozen=True):
    """Fourier terms per day (and per week after `weekly_after_days`) with AR residuals."""

    daily_terms: int = 6
    weekly_terms: int = 3
    weekly_after_days: float = 10.0
    least_days: float = 1.5
    half_life_days: float = 5.0
    lags: int = 12
    residual_days: float = 2.0

    def fit(self, panel: Panel, cut: int, steps: Ints) -> tuple[Floats, ...]:
        """Coefficients [series, term] and residual map [series, step, lag] from columns < cut.

        NaN for series with fewer known bins than `least_days`.
        """
        terms = _week_of_terms(panel.day, self.daily_terms, self.weekly_terms)
        known, z = panel.known[:, :cut], panel.z[:, :cut]
        age = cut - 1 - np.arange(cut)
        weight = known * 0.5 ** (age / (self.half_life_days * panel.day))
        slot = panel.first % terms.shape[0]
        beta = fit_terms(terms, weight, z, slot, self._ridge(panel, known))
        recent = max(0, cut - int(self.residual_days * panel.day))
        fitted = (beta @ terms.T)[:, (slot + np.arange(recent, cut)) % terms.shape[0]]
        phi = fit_autoregression(z[:, recent:] - fitted, known[:, recent:], self.lags)
        response = residual_map(phi, int(steps.max()))[:, steps - 1]
        short = known.sum(axis=1) < self.least_days * panel.day
        beta[short] = np.nan
        return beta, response

    def path(self, panel: Panel, fit: tuple[Floats, ...], origins: Ints, steps: Ints) -> Floats:
        """[series, origin, step]; NaN for unfitted series."""
        beta, response = fit
        terms = _week_of_terms(panel.day, self.daily_terms, self.weekly_terms)
        week = terms.shape[0]
        tide = beta @ terms.T
        lagged = np.maximum(origins[:, None] - np.arange(self.lags), 0)
        column = panel.newest[:, lagged]
        series = np.arange(panel.z.shape[0])[:, None, None]
        residual = panel.z[series, column] - tide[series, (panel.first + column) % week]
        residual = np.where(column >= 0, residual * _FADE_PER_BIN ** (lagged - column), 0.0)
        ahead = tide[:, (panel.first + origins[:, None] + steps) % week]
        return np.maximum(ahead + residual @ response.transpose(0, 2, 1), 0.0)

    def _ridge(self, panel: Panel, known: Bools) -> Floats:
        """Relative ridge [series, term]: small, but prohibitive for weeks not yet seen twice."""
        ridge = np.full((known.shape[0], 1 + 2 * (self.daily_terms + self.weekly_terms)), _RIDGE)
        young = known.sum(axis=1) < self.weekly_after_days * panel.day
        ridge[young, 1 + 2 * self.daily_terms :] = 1e6
        ridge[:, 0] = 0.0
        return ridge


def fit_terms(terms: Floats, weight: Floats, z: Floats, slot: int, ridge: Floats) -> Floats:
    """Weighted least squares of `z` [series, bin] on periodic regressors `terms` [slot, term].

    Bin 0 falls on `slot`; `ridge` [series, term] is relative to the total weight. Bins of the
    same slot share their regressors, so weights and weighted values are summed by slot first.
    Returns [series, term]; zeros where all weights are zero.
    """
    week, count = terms.shape
    folded = _fold(weight, slot, week)
    gram = (folded[:, :, None] * terms).transpose(0, 2, 1) @ terms
    total = np.maximum(folded.sum(axis=1), 1e-12)
    gram += np.eye(count) * (ridge * total[:, None] + 1e-9 * total[:, None])[:, None, :]
    right = _fold(weight * z, slot, week) @ terms
    return np.linalg.solve(gram, right[:, :, None])[:, :, 0].astype(np.float64)


def fit_autoregression(residual: Floats, known: Bools, lags: int) -> Floats:
    """Least squares of each residual on the `lags` before it, no constant: [series, lag].

    Only rows whose lags are all known count. Coefficients are shrunk to keep the recursion
    inside the unit circle; all zeros where there is nothing to learn from.
    """
    if residual.shape[1] <= lags:
        return np.zeros((residual.shape[0], lags))
    rows = np.lib.stride_tricks.sliding_window_view(residual, lags + 1, axis=1)[:, :, ::-1]
    whole = np.lib.stride_tricks.sliding_window_view(known, lags + 1, axis=1)
    rows = np.where(whole.all(axis=2, keepdims=True), rows, 0.0)
    products = rows.transpose(0, 2, 1) @ rows
    gram, right = products[:, 1:, 1:], products[:, 1:, :1]
    size = np.trace(gram, axis1=1, axis2=2)[:, None, None] / lags
    phi = np.linalg.solve(gram + np.eye(lags) * (1e-9 * size + 1e-12), right)[:, :, 0]
    roots = np.abs(np.linalg.eigvals(_companion(phi))).max(axis=1)
    shrink = np.minimum(1.0, _GREATEST_ROOT / np.maximum(roots, 1e-9))
    stable: Floats = phi * shrink[:, None] ** np.arange(1, lags + 1)
    return stable


def residual_map(phi: Floats, steps: int) -> Floats:
    """How each of the last residuals (newest first) enters 1..steps ahead: [series, step, lag].

    Rows double by multiplication with a power of the companion matrix.
    """
    power = _companion(phi)
    rows = phi[:, None, :]
    while rows.shape[1] < steps:
        rows = np.concatenate([rows, rows @ power], axis=1)
        power = power @ power
    return rows[:, :steps]


def _companion(phi: Floats) -> Floats:
    """Matrix that moves the lag vector one bin on: [series, lag, lag]."""
    lags = phi.shape[1]
    out = np.zeros((phi.shape[0], lags, lags))
    out[:, 0, :] = phi
    out[:, np.arange(1, lags), np.arange(lags - 1)] = 1.0
    return out


def _fold(values: Floats, slot: int, week: int) -> Floats:
    """Sums of [series, bin] by slot of the week, bin 0 falling on `slot`: [series, slot]."""
    rows, width = values.shape
    padded = np.zeros((rows, -(-(slot + width) // week) * week))
    padded[:, slot : slot + width] = values
    folded: Floats = padded.reshape(rows, -1, week).sum(axis=1)
    return folded


@lru_cache(maxsize=8)
def _week_of_terms(day: int, daily: int, weekly: int) -> Floats:
    """Constant, daily and weekly sines and cosines for each bin of a week: [slot, term]."""
    slot = np.arange(7 * day)[:, None]
    angles = np.concatenate(
        [
            slot / day * np.arange(1, daily + 1),
            slot / (7 * day) * np.arange(1, weekly + 1),
        ],
        axis=1,
    )
    waves = np.stack([np.cos(2 * np.pi * angles), np.sin(2 * np.pi * angles)], axis=2)
    out = np.concatenate([np.ones((7 * day, 1)), waves.reshape(7 * day, -1)], axis=1)
    out.flags.writeable = False
    return out
