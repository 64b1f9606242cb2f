"""Dynamic harmonic regression: a daily and a weekly tide in Fourier terms, AR on what is left.

Young, Pedregal & Tych (1999) named the method; here it is a weighted least-squares fit of
sines and cosines, then an autoregression of its residuals by least squares. Both are solved by
their normal equations for all series at once. All frequencies are whole cycles a week, so the
sums of the normal equations are read off the Fourier transform of the weights and of the
weighted roots, folded to one week. The h-step answer of the autoregression is linear in its last
residuals, so a tick is one small product.
"""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.grid import Bools, Floats, Grid, Ints, Reals
from forecasting.panel import Panel
from forecasting.values import WEEK_DAYS

# Relative ridge of the slowest term and its growth with the square of the cycles a day: a sharp
# edge needs fast terms, noise must not have them for nothing.
_RIDGE = 1e-3
_RIDGE_GROWTH = 0.5
_FORBIDDEN = 1e6
# Keeps the residuals' recursion from growing: roots of the autoregression are shrunk inside this.
_GREATEST_ROOT = 0.998
_LONG_POWER = 4096
# A residual that has not been seen for a while is assumed to have shrunk towards zero.
_FADE_PER_BIN = 0.95


class Harmonic(msgspec.Struct, frozen=True):
    """Fourier terms per day (and per week after `weekly_after_days`) with AR residuals."""

    daily_terms: int = 24
    weekly_terms: int = 6
    weekly_after_days: float = 7.0
    least_days: float = 1.5
    half_life_days: float = 7.0
    residual_days: float = 2.0
    votes: bool = True
    regressed: bool = True

    def fit(self, panel: Panel, cut: int, grid: Grid) -> tuple[Floats, ...]:
        """Coefficients [series, term] and autoregression [series, lag] from columns < cut.

        NaN for series with fewer known bins than `least_days`.
        """
        beta = self.terms(panel, cut)
        return beta, residuals(panel, beta, self.cycles(panel.day), cut, self.residual_days)

    def terms(self, panel: Panel, cut: int) -> Floats:
        """Coefficients [series, term] from columns < cut, NaN as in `fit`."""
        cycles, week = self.cycles(panel.day), WEEK_DAYS * panel.day
        known, z = panel.known[:, :cut], panel.z[:, :cut]
        age = cut - 1 - np.arange(cut)
        weight = known * 0.5 ** (age / (self.half_life_days * panel.day))
        past = known.sum(axis=1)
        ridge = self._ridge(cycles, past < self.weekly_after_days * panel.day)
        beta = fit_tides(cycles, week, weight, z, panel.first % week, ridge)
        beta[past < self.least_days * panel.day] = np.nan
        return beta

    def path(self, panel: Panel, fit: tuple[Reals, ...], origins: Ints, steps: Ints) -> Floats:
        """[series, origin, step]; NaN for unfitted series."""
        return ahead(panel, fit, self.cycles(panel.day), origins, steps)

    def cycles(self, day: int) -> Ints:
        """Cycles a week of the terms; a day of few bins has room for few."""
        daily = min(self.daily_terms, day // 2 - 1)
        slow = np.arange(1, min(self.weekly_terms, WEEK_DAYS - 1) + 1)
        return np.concatenate([slow, WEEK_DAYS * np.arange(1, daily + 1)])

    def _ridge(self, cycles: Ints, young: Bools) -> Floats:
        """Relative ridge [series, term]: prohibitive for weeks not yet seen twice."""
        ridge = _RIDGE * (1 + _RIDGE_GROWTH * (cycles / WEEK_DAYS) ** 2)
        weekly = (cycles % WEEK_DAYS > 0) & young[:, None]
        both = np.where(weekly, _FORBIDDEN, ridge)
        return np.concatenate([np.zeros((young.size, 1)), both, both], axis=1)


def ahead(panel: Panel, fit: tuple[Reals, ...], cycles: Ints, origins: Ints, steps: Ints) -> Floats:
    """Tide and faded residual of a fit [series, origin, step]; NaN for unfitted series.

    `fit` is coefficients [series, term] of `cycles` a week, and autoregression [series, lag].
    """
    beta, phi = fit
    week = WEEK_DAYS * panel.day
    lagged = np.maximum(origins[:, None] - np.arange(phi.shape[1]), 0)
    column = panel.newest[:, lagged]
    low = int(column.min())
    span = np.arange(low, int(origins.max()) + int(steps.max()) + 1)
    tide = tides(beta, cycles, week, panel.first + span)
    series = np.arange(panel.z.shape[0])[:, None, None]
    residual = panel.z[series, column] - tide[series, column - low]
    residual = np.where(column >= 0, residual * _FADE_PER_BIN ** (lagged - column), 0.0)
    response = residual_map(phi, int(steps.max()))[:, steps - 1]
    coming = tide[:, origins[:, None] + steps - low]
    return np.maximum(coming + residual @ response.transpose(0, 2, 1), 0.0)


def residuals(panel: Panel, beta: Floats, cycles: Ints, cut: int, days: float) -> Floats:
    """Autoregression [series, lag] of what the tide leaves of the last `days` before `cut`."""
    low, week = max(0, cut - int(days * panel.day)), WEEK_DAYS * panel.day
    tide = tides(np.nan_to_num(beta), cycles, week, panel.first + np.arange(low, cut))
    return fit_autoregression(panel.z[:, low:cut] - tide, panel.known[:, low:cut], _lags(panel))


def _lags(panel: Panel) -> int:
    """An hour of residuals, as far as an hour has bins."""
    return max(2, panel.hour)


def tides(beta: Reals, cycles: Ints, week: int, slots: Ints) -> Floats:
    """Sum of the terms [series, slot]: constant, cosines, sines, each of `cycles` a week."""
    count = cycles.size
    spectrum = np.zeros((beta.shape[0], week // 2 + 1), np.complex128)
    spectrum[:, 0] = beta[:, 0] * week
    spectrum[:, cycles] = (beta[:, 1 : 1 + count] - 1j * beta[:, 1 + count :]) * (week / 2)
    return np.asarray(np.fft.irfft(spectrum, week, axis=1)[:, slots % week])


def fit_tides(
    cycles: Ints, week: int, weight: Floats, z: Floats, slot: int, ridge: Floats
) -> Floats:
    """Weighted least squares of `z` [series, bin] on the terms of `tides`; bin 0 is at `slot`.

    `ridge` [series, term] is relative to the total weight. Products of sines and cosines are
    sines and cosines of the sum and the difference of their cycles. Returns [series, term];
    zeros where all weights are zero.
    """
    mass = np.fft.fft(_fold(weight, slot, week), axis=1)
    pull = np.fft.fft(_fold(weight * z, slot, week), axis=1)
    own = np.concatenate([[0], cycles])
    minus, plus = own[:, None] - own, own[:, None] + own
    # fft = sum of w e^{-i angle}: cosine sums are its real part, sine sums minus the imaginary.
    down, up = mass[:, minus % week], mass[:, plus % week]
    coscos, sinsin = (down.real + up.real) / 2, (down.real - up.real) / 2
    cossin = (down.imag - up.imag) / 2
    top = np.concatenate([coscos, cossin[:, :, 1:]], axis=2)
    low = np.concatenate([cossin[:, :, 1:].transpose(0, 2, 1), sinsin[:, 1:, 1:]], axis=2)
    gram = np.concatenate([top, low], axis=1)
    total = np.maximum(mass[:, :1].real, 1e-12)
    diagonal = np.arange(gram.shape[1])
    gram[:, diagonal, diagonal] += (ridge + 1e-9) * total
    right = np.concatenate([pull[:, own].real, -pull[:, cycles].imag], axis=1)
    return np.linalg.solve(gram, right[:, :, None])[:, :, 0].astype(np.float64)


def fit_autoregression(residual: Floats, known: Bools, lags: int) -> Floats:
    """Least squares of each residual on the `lags` before it, no constant: [series, lag].

    Only rows whose lags are all known count. Coefficients are shrunk to keep the recursion
    inside the unit circle; all zeros where there is nothing to learn from.
    """
    if residual.shape[1] <= lags:
        return np.zeros((residual.shape[0], lags))
    whole = known.all(axis=1)
    products = np.empty((whole.size, lags + 1, lags + 1))
    products[whole] = _products(residual[whole], lags)
    products[~whole] = _products_of_known(residual[~whole], known[~whole], lags)
    gram, right = products[:, 1:, 1:], products[:, 1:, :1]
    size = np.trace(gram, axis1=1, axis2=2)[:, None, None] / lags
    phi = np.linalg.solve(gram + np.eye(lags) * (1e-9 * size + 1e-12), right)[:, :, 0]
    shrink = np.minimum(1.0, _GREATEST_ROOT / _greatest_root(phi))
    stable: Floats = phi * shrink[:, None] ** np.arange(1, lags + 1)
    return stable


def _products(residual: Floats, lags: int) -> Floats:
    """Sums over t of residual[t - i] x residual[t - j], all lags inside: [series, i, j].

    Next to each sum stands the one of i + 1 and j + 1: the same but for both ends.
    """
    width = residual.shape[1]
    newest = residual[:, lags:]
    out = np.empty((residual.shape[0], lags + 1, lags + 1))
    for lag in range(lags + 1):
        out[:, 0, lag] = np.einsum("st,st->s", newest, residual[:, lags - lag : width - lag])
    first, last = residual[:, lags - 1 :: -1], residual[:, : width - lags - 1 : -1]
    ends = first[:, :, None] * first[:, None] - last[:, :, None] * last[:, None]
    for lag in range(lags):
        out[:, lag + 1, 0] = out[:, 0, lag + 1]
        out[:, lag + 1, 1:] = out[:, lag, :-1] + ends[:, lag]
    return out


def _products_of_known(residual: Floats, known: Bools, lags: int) -> Floats:
    """The same sums over the t of which all lags are known."""
    rows = np.lib.stride_tricks.sliding_window_view(residual, lags + 1, axis=1)[:, :, ::-1]
    whole = np.lib.stride_tricks.sliding_window_view(known, lags + 1, axis=1)
    rows = np.where(whole.all(axis=2, keepdims=True), rows, 0.0)
    products: Floats = rows.transpose(0, 2, 1) @ rows
    return products


def residual_map(phi: Reals, steps: int) -> Floats:
    """How each of the last residuals (newest first) enters 1..steps ahead: [series, step, lag].

    Rows double by multiplication with a power of the companion matrix.
    """
    rows = phi.astype(np.float64)[:, None, :]
    power = _companion(rows[:, 0])
    while rows.shape[1] < steps:
        rows = np.concatenate([rows, rows @ power], axis=1)
        power = power @ power
    return rows[:, :steps]


def _greatest_root(phi: Floats) -> Floats:
    """Largest modulus of the recursion's roots [series]: a long power's norm (Gelfand 1941)."""
    power, log_size = _companion(phi), np.zeros(phi.shape[0])
    for _ in range(_LONG_POWER.bit_length() - 1):
        power = power @ power
        size = np.maximum(np.abs(power).max(axis=(1, 2)), 1e-300)
        power /= size[:, None, None]
        log_size = 2 * log_size + np.log(size)
    root: Floats = np.exp(log_size / _LONG_POWER)
    return root


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
