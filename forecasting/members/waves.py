"""The tide as what stands out of its neighbours in the spectrum, AR on what is left.

Over a window of whole weeks every wave of the week is one line of the Fourier transform, and the
lines between them hold noise alone. A line is shrunk by the share of its power that its
neighbours have too (Wiener 1949, with the power estimated from the data): a smooth day keeps two
waves, a nightly batch keeps twenty, and a week is believed where its lines stand out. So a tide of
hundreds of terms costs no more chance than it earns, which counts a day ahead.
"""

from __future__ import annotations

import msgspec
import numpy as np

from forecasting.grid import Floats, Grid, Ints, Reals
from forecasting.members.harmonic import Harmonic, ahead, residuals
from forecasting.panel import Panel
from forecasting.values import WEEK_DAYS

# Waves of the week to either side of each wave of the day: what a weekend changes about a day.
_SIDE = 3
# Weeks are believed from this many on; they are shrunk as if noise were so much stronger.
_LEAST_WEEKS = 2
_CAUTION = 1.5


class Waves(msgspec.Struct, frozen=True):
    """Shrunk Fourier terms up to `daily_terms` cycles a day with AR residuals.

    A series that is younger than two weeks has no lines between its waves of the week; it gets a
    regression on a few terms.
    """

    daily_terms: int = 24
    few: Harmonic = Harmonic(daily_terms=4, weekly_terms=2, half_life_days=14.0, residual_days=7.0)
    votes: bool = True
    regressed: bool = True

    def fit(self, panel: Panel, cut: int, grid: Grid) -> tuple[Floats, ...]:
        """Coefficients [series, term] and autoregression [series, lag] from columns < cut.

        NaN for series too young for a regression.
        """
        cycles = self.cycles(panel.day)
        weeks = (panel.newest[:, :cut] >= 0).sum(axis=1) // (WEEK_DAYS * panel.day)
        beta = np.zeros((weeks.size, 1 + 2 * cycles.size))
        for window in np.unique(weeks).tolist():
            rows = np.flatnonzero(weeks == window)
            if window < _LEAST_WEEKS:
                own = self.few.cycles(panel.day)
                beta[np.ix_(rows, np.concatenate([[0], own, own + cycles.size]))] = self.few.terms(
                    panel.take(rows), cut
                )
            else:
                beta[rows] = _shrunk(panel, rows, cut, window, cycles)
        return beta, residuals(panel, beta, cycles, cut, self.few.residual_days)

    def path(self, panel: Panel, fit: tuple[Reals, ...], origins: Ints, steps: Ints) -> Floats:
        """[series, origin, step]; NaN for unfitted series."""
        return ahead(panel, fit, self.cycles(panel.day), origins, steps)

    def cycles(self, day: int) -> Ints:
        """Cycles a week of the terms: all up to the fastest; a day of few bins has few."""
        daily = min(self.daily_terms, day // 2 - 1)
        return np.arange(1, WEEK_DAYS * daily + _SIDE + 1)


def _shrunk(panel: Panel, rows: Ints, cut: int, weeks: int, cycles: Ints) -> Floats:
    """Shrunk coefficients [series, term] of the last whole weeks before `cut`."""
    low = cut - weeks * WEEK_DAYS * panel.day
    values = panel.filled[rows, low:cut]
    spectrum = np.fft.rfft(values, axis=1)[:, : (int(cycles[-1]) + WEEK_DAYS) * weeks]
    spectrum /= values.shape[1]
    power = np.abs(spectrum) ** 2
    line = spectrum[:, cycles * weeks]
    for wave in range(int(cycles[-1]) // WEEK_DAYS + 1):
        noise = _noise(power, wave * WEEK_DAYS, weeks)
        own = wave * WEEK_DAYS + np.arange(-_SIDE, _SIDE + 1)
        for group, caution in ((own[_SIDE:][:1], 1.0), (own[own % WEEK_DAYS > 0], _CAUTION)):
            some = group[group > 0]
            line[:, some - 1] *= _kept(power[:, some * weeks], caution * noise)
    angle = 2 * np.pi / (WEEK_DAYS * panel.day) * cycles * (panel.first + low)
    line *= 2 * np.exp(-1j * angle)
    return np.concatenate([spectrum[:, :1].real, line.real, -line.imag], axis=1)


def _noise(power: Floats, wave: int, weeks: int) -> Floats:
    """Mean power of the lines around a wave of the week that are no such wave [series, 1]."""
    reach = WEEK_DAYS * weeks
    around = np.arange(max(1, wave * weeks - reach), min(wave * weeks + reach, power.shape[1]))
    mean: Floats = power[:, around[around % weeks > 0]].mean(axis=1, keepdims=True)
    return mean


def _kept(power: Floats, noise: Floats) -> Floats:
    """Share of the lines [series, line] that is no noise, the same for all of them [series, 1]."""
    mean = power.mean(axis=1, keepdims=True) if power.shape[1] else noise
    share = np.divide(noise, mean, out=np.ones_like(mean), where=mean > noise)
    return 1 - share
