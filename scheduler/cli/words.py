"""How values read in a table: short spans as kubectl writes them, shares in percent."""

from math import floor, log10

from rich.text import Text

UNKNOWN = "-"
GOOD, WARN, BAD = "green", "yellow", "red"
MINUTE, HOUR, DAY = 60, 3600, 86400


def span(seconds: float | None) -> str:
    """Return `45s`, `12m30s`, `3h12m` or `2d4h`; a negative span has its sign."""
    if seconds is None:
        return UNKNOWN
    whole = round(abs(seconds))
    sign = "-" if seconds < 0 and whole else ""
    for unit, name, below, short in (
        (DAY, "d", HOUR, "h"),
        (HOUR, "h", MINUTE, "m"),
        (MINUTE, "m", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // below
            return f"{sign}{whole // unit}{name}" + (f"{rest}{short}" if rest else "")
    return f"{sign}{whole}s"


def share(value: float | None) -> str:
    """Return a share in percent."""
    return UNKNOWN if value is None else f"{value:.1%}"


def rate(value: float | None) -> str:
    """Return a rate or count without decimals, thousands apart."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def figure(value: float) -> str:
    """Return a rate of any size with three digits that count, thousands apart."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.{max(2 - floor(log10(abs(rounded))), 0)}f}"


def percent(value: float | None) -> str:
    """Return a gain or loss in whole percent, with its sign."""
    return UNKNOWN if value is None else f"{value:+.0%}"


def milli(value: int | None) -> str:
    """Return thousandths as a number with at most two decimals."""
    return UNKNOWN if value is None else f"{value / 1000:.2f}".rstrip("0").rstrip(".")


def ratio(value: float | None) -> str:
    """Return a figure like a skill or a gap."""
    return UNKNOWN if value is None else f"{value:.3g}"


def yes(value: bool, detail: str = "") -> Text:  # noqa: FBT001 - the value is the point
    """Return yes in green, or no with why in yellow."""
    if value:
        return Text("yes", GOOD)
    return Text(f"no: {detail}" if detail else "no", WARN)


def metrics(state: str) -> Text:
    """Return the state of a feed, coloured by how far it can be trusted."""
    return Text(state, {"live": GOOD, "idle": "", "absent": BAD}.get(state, WARN))


def parts(pairs: tuple[tuple[str, int], ...], share_milli: int = 0) -> str:
    """Return `node:gpus` of each part; each has so much of a shared card besides."""
    return ",".join(f"{node}:{milli(1000 * gpus + share_milli)}" for node, gpus in pairs)
