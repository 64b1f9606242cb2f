"""Digital signal processing as autoscalers do it: the strongest waves of the last week go on.

The discrete Fourier transform of the window, its mean and 16 waves of the largest amplitude
kept; the waves repeat with the window, so the forecast of step h is the kept signal at h - 1.
"""

from __future__ import annotations

import numpy as np

from forecasting.grid import Floats, Grid, Ints

_WINDOW_DAYS = 7
_WAVES = 16
_BINS_AT_ONCE = 256


def fourier(rates: Floats, steps: Ints, grid: Grid) -> Floats:
    """From windows of as many whole days as there are, up to 7; NaN in the first day."""
    out = np.full((rates.size, steps.size), np.nan)
    for days in range(1, _WINDOW_DAYS + 1):
        width = days * grid.day
        stop = (days + 1) * grid.day - 1 if days < _WINDOW_DAYS else rates.size
        for start in range(width - 1, min(stop, rates.size), _BINS_AT_ONCE):
            columns = np.arange(start, min(start + _BINS_AT_ONCE, stop, rates.size))
            windows = np.lib.stride_tricks.sliding_window_view(rates, width)[columns - width + 1]
            out[columns] = _continued(windows, steps)
    points: Floats = np.maximum(out, 0.0)
    return points


def _continued(windows: Floats, steps: Ints) -> Floats:
    """Points [window, step] of the strongest waves of each window [window, bin]."""
    width = windows.shape[1]
    spectrum = np.fft.rfft(windows, axis=1)
    mean = spectrum[:, :1].real / width
    spectrum = spectrum[:, 1:]
    if width % 2 == 0:  # the fastest wave has no mirror image
        spectrum[:, -1] /= 2
    kept = min(_WAVES, spectrum.shape[1])
    strongest = np.argpartition(-np.abs(spectrum), kept - 1, axis=1)[:, :kept]
    amplitude = np.take_along_axis(spectrum, strongest, axis=1)
    angle = 2j * np.pi / width * (strongest[:, :, None] + 1) * (steps - 1)
    waves = 2 / width * (amplitude[:, :, None] * np.exp(angle)).real.sum(axis=1)
    points: Floats = mean + waves
    return points
