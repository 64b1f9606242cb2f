"""Reading recorded demand: a CSV of bins into a `Trace`, or one error that says where and what.

Columns: `timestamp_s` (start of the bin), `requests`, `prompt_tokens`, `generated_tokens` (counts
per bin, tokens booked at the arrival of their request), `valid` (1, or 0 where the recording has
a gap), and optionally `iat_cv` (coefficient of variation of the gaps between arrivals; 1 where it
is absent). Other columns are ignored. The bin width is the smallest distance between rows; rows
missing inside are filled as invalid bins.
"""

import csv
import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

COUNTS = ("requests", "prompt_tokens", "generated_tokens")
NEEDED = ("timestamp_s", *COUNTS, "valid")
OPTIONAL = "iat_cv"
MOST_BINS = 2_000_000
"""Ten years of bins of three minutes: a larger span is a slip in a timestamp."""


class DemandError(ValueError):
    """Demand that was refused: the place, what is wrong there, and the fix."""


class Trace(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Demand of one model in bins of equal width; every array has one value per bin."""

    start_seconds: float
    bin_seconds: float
    requests: Floats
    prompt_tokens: Floats
    generated_tokens: Floats
    valid: Flags
    iat_cv: Floats

    @property
    def end_seconds(self) -> float:
        """End of the last bin."""
        return self.start_seconds + self.bin_seconds * len(self.valid)


class _Row(msgspec.Struct, frozen=True):
    line: int
    timestamp: float
    counts: tuple[float, float, float]
    valid: bool
    iat_cv: float


def load_demand(path: Path) -> Trace:
    """Return the trace in a CSV file.

    Raises:
        DemandError: "FILE: line N: column X: what is wrong; the fix".
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(_rows(path, lines))
    except OSError as error:
        raise DemandError(f"{path}: cannot be read: {error.strerror}; name a CSV file") from None
    except UnicodeDecodeError:
        raise DemandError(f"{path}: cannot be read: is not UTF-8 text; name a CSV file") from None
    except csv.Error as error:
        raise DemandError(f"{path}: cannot be read: is not CSV ({error})") from None
    if len(rows) < 2:  # noqa: PLR2004
        raise DemandError(f"{path}: {len(rows)} rows; give at least 2, so that bins have a width")
    return _trace(path, rows)


def _rows(path: Path, lines: Iterable[str]) -> Iterator[_Row]:
    reader = csv.DictReader(lines)
    header = reader.fieldnames or ()
    missing = [name for name in NEEDED if name not in header]
    if missing:
        raise DemandError(
            f"{path}: line 1: column {missing[0]}: missing; name {', '.join(NEEDED)} in the header"
        )
    twice = [name for name in (*NEEDED, OPTIONAL) if header.count(name) > 1]
    if twice:
        raise DemandError(f"{path}: line 1: column {twice[0]}: stands twice; leave one out")
    for cells in reader:
        place = f"{path}: line {reader.line_num}"
        if None in cells:  # where DictReader puts what has no column
            raise DemandError(f"{place}: more cells than the header; give each column a name")
        yield _row(place, reader.line_num, cells)


def _row(place: str, line: int, cells: dict[str, str | None]) -> _Row:
    requests, prompt, generated = (_number(place, name, cells) for name in COUNTS)
    if requests == 0 and prompt + generated > 0:
        column = "prompt_tokens" if prompt else "generated_tokens"
        raise DemandError(
            f"{place}: column {column}: tokens in a bin without requests; book tokens in the bin "
            "in which their request arrived"
        )
    valid = _number(place, "valid", cells)
    if valid not in {0.0, 1.0}:
        raise DemandError(f"{place}: column valid: {valid:g}; write 1, or 0 for a gap")
    return _Row(
        line=line,
        timestamp=_number(place, "timestamp_s", cells),
        counts=(requests, prompt, generated),
        valid=valid == 1.0,
        iat_cv=_number(place, OPTIONAL, cells) if OPTIONAL in cells else 1.0,
    )


def _number(place: str, column: str, cells: dict[str, str | None]) -> float:
    text = cells[column]
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        given = "missing" if text is None else repr(text)
        raise DemandError(
            f"{place}: column {column}: {given}; write a finite number that is not negative"
        )
    return value


def _trace(path: Path, rows: list[_Row]) -> Trace:
    width = _width(path, rows)
    start = rows[0].timestamp
    bins = round((rows[-1].timestamp - start) / width) + 1
    if bins > MOST_BINS:
        raise DemandError(
            f"{path}: line {rows[-1].line}: column timestamp_s: {bins} bins of {width:g} s; "
            f"a trace may hold {MOST_BINS}, so look for a slip in a timestamp"
        )
    at = np.array([round((row.timestamp - start) / width) for row in rows], dtype=np.int64)
    counts = np.zeros((3, bins))
    counts[:, at] = np.array([row.counts for row in rows]).T
    valid = np.zeros(bins, dtype=np.bool_)
    valid[at] = [row.valid for row in rows]
    iat_cv = np.ones(bins)
    iat_cv[at] = [row.iat_cv for row in rows]
    if not (counts[0] * valid).any():
        raise DemandError(
            f"{path}: column requests: no valid bin has any; demand must not be all 0"
        )
    return Trace(
        start_seconds=start,
        bin_seconds=width,
        requests=counts[0],
        prompt_tokens=counts[1],
        generated_tokens=counts[2],
        valid=valid,
        iat_cv=iat_cv,
    )


def _width(path: Path, rows: list[_Row]) -> float:
    """Return the smallest distance between rows; every other must be a whole multiple of it."""
    steps = [later.timestamp - row.timestamp for row, later in pairwise(rows)]
    for row, step in zip(rows[1:], steps, strict=True):
        if step <= 0:
            raise DemandError(
                f"{path}: line {row.line}: column timestamp_s: {row.timestamp:g} does not come "
                "after the line before; sort the rows by time and leave no time twice"
            )
    width = min(steps)
    for row, step in zip(rows[1:], steps, strict=True):
        if not math.isclose(step / width, round(step / width), rel_tol=1e-9, abs_tol=1e-6):
            raise DemandError(
                f"{path}: line {row.line}: column timestamp_s: {step:g} s after the line before, "
                f"which is no whole multiple of the bin width {width:g} s; use one bin width"
            )
    return width
