"""The PromQL of a look at one role, and of its demand bins.

Every term is one aggregate with a label `meaning`, and `or` joins the terms, so that one request
reads one instant. `N` stands for the first candidate name that has series there (candidates are
joined by `or` too: an engine may be replaced inside the span), `s` for the role's matchers, `p`
for the labels that tell its pods apart, `w` for the window.

    meaning            look                                          bins (w = the bin)
    *_live, *_finished, requests   sum(rate(N{s}[w]))                sum(increase(N{s}[w]))
    long_*             sum(rate(N{s}[10m])), for mean lengths        -
    running, waiting*  sum(N{s})                                     sum(N{s})
    *_before           sum(N{s} offset w)                            the point before
    newest             max(timestamp(N{s}))                          the same
    scrapes            -                                             max(count_over_time(N{s}[w]))
    fresh              pods whose sample is younger than stale       -
    ttft_i, tpot_i     sum by (le) (increase(N{s}[w])), one per candidate i
    each               tokens/s by pod, of the pods that are at their limit (see `reading`)

`N` of newest, scrapes and fresh is the running gauge, which engines export when idle too; without
one, the token counters.
"""

from collections.abc import Callable, Iterator

from scheduler.adapters.prometheus.engines import Found
from scheduler.adapters.prometheus.names import CANDIDATES, GENERATED, PROMPT

LENGTH_WINDOW = "10m"
FULL_KV = 0.9
"""Share of the KV cache from which on decoding has no room for more sequences."""
COUNTED = ("prompt_live", "prompt_finished", "generated_live", "generated_finished", "requests")
PRESENT = ("running", "waiting", "waiting_prefill", "waiting_decode", "waiting_transfer")
QUEUES = PRESENT[1:]
_BEATING = ("running", "waiting", "prompt_live", "generated_live", "prompt_finished")

Wrap = Callable[[str], str]


def look(found: Found, stream: str, window: int, stale: float) -> str:
    """Return the query of one look at a role that `stream` drives, `prompt` or `generated`."""
    terms = [
        *_sums(found, COUNTED, "", lambda series: f"rate({series}[{window}s])"),
        *_sums(found, COUNTED, "long_", lambda series: f"rate({series}[{LENGTH_WINDOW}])"),
        *_sums(found, PRESENT, "", str),
        *_sums(found, PRESENT, "before_", lambda series: f"{series} offset {window}s"),
        *_beats(found, {"newest": lambda series: f"max(timestamp({series}))"}),
        *_beats(found, {"fresh": lambda series: _fresh(found, series, stale)}),
        *_buckets(found, window),
        *_limits(found, stream, window),
    ]
    return " or ".join(terms)


def bins(found: Found, width: int) -> str:
    """Return the query of demand bins of a width, each read at its end."""
    beats: dict[str, Wrap] = {
        "newest": lambda series: f"max(timestamp({series}))",
        "scrapes": lambda series: f"max(count_over_time({series}[{width}s]))",
    }
    terms = [
        *_sums(found, COUNTED, "", lambda series: f"increase({series}[{width}s])"),
        *_sums(found, PRESENT, "", str),
        *_beats(found, beats),
        *_reset(found, width),
    ]
    return " or ".join(terms)


def _series(found: Found, meaning: str) -> list[str]:
    """Return selectors of the candidates that are there, in order of preference."""
    return [
        f"{each.name}{{{','.join(filter(None, (each.matchers, found.matchers)))}}}"
        for each in CANDIDATES[meaning]
        if each.name in found.names
    ]


def _term(meaning: str, expression: str) -> str:
    return f'label_replace({expression},"meaning","{meaning}","","")'


def _sums(found: Found, meanings: tuple[str, ...], prefix: str, wrap: Wrap) -> Iterator[str]:
    for meaning in meanings:
        sums = [f"sum({wrap(series)})" for series in _series(found, meaning)]
        if sums:
            yield _term(prefix + meaning, " or ".join(sums))


def _beats(found: Found, wraps: dict[str, Wrap]) -> Iterator[str]:
    meaning = next((each for each in _BEATING if _series(found, each)), None)
    if meaning is not None:
        for name, wrap in wraps.items():
            yield _term(name, " or ".join(wrap(series) for series in _series(found, meaning)))


def _reset(found: Found, width: int) -> Iterator[str]:
    """Yield the share of a counter's growth that engines report whose counter was reset.

    One counter tells for all: an engine that begins again begins all of them again.
    """
    series = next(filter(None, (_series(found, meaning) for meaning in COUNTED)), [])
    shares = [
        f"sum(increase({one}[{width}s]) and resets({one}[{width}s]) > 0)"
        f" / sum(increase({one}[{width}s]))"
        for one in series
    ]
    if shares:
        yield _term("reset", "(" + " or ".join(shares) + ")")


def _fresh(found: Found, series: str, stale: float) -> str:
    pods = ",".join(found.each)
    return f"count(count by ({pods}) (time()-timestamp({series}) <= {stale:g}))"


def _buckets(found: Found, window: int) -> Iterator[str]:
    """Yield each candidate on its own: bounds of two histograms must not mix."""
    for meaning in ("ttft", "tpot"):
        for number, series in enumerate(_series(found, meaning)):
            yield _term(f"{meaning}_{number}", f"sum by (le) (increase({series}[{window}s]))")


def _limits(found: Found, stream: str, window: int) -> Iterator[str]:
    """Yield tokens/s by pod, of pods that had no slack in the whole window."""
    pods = ",".join(found.each)
    tokens = _series(found, f"{stream}_live") or _series(found, f"{stream}_finished")
    limits = {
        PROMPT: [
            f"sum by ({pods}) (min_over_time({one}[{window}s])) > 0"
            for one in _series(found, "waiting")
        ],
        GENERATED: [
            f"max by ({pods}) (min_over_time({one}[{window}s])) >= {FULL_KV}"
            for one in _series(found, "kv_usage")
        ],
    }[stream]
    if tokens and limits:
        rates = " or ".join(f"sum by ({pods}) (rate({one}[{window}s]))" for one in tokens)
        yield _term("each", f"({rates}) and on ({pods}) ({' or '.join(limits)})")
