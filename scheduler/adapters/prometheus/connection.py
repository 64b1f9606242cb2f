"""Queries of one Prometheus over HTTP; every failure is one `PrometheusError` with a sentence.

Built on prometheus-api-client, whose instant, range and label-value queries are all that is
needed. Its session is given here: a CA file, a bearer token that is read again for every request
(Kubernetes rotates the files), one short retry, and a time-out per request.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from math import isfinite, nan
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import requests
from numpy.typing import NDArray
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests.auth import AuthBase
from urllib3.util.retry import Retry

TIMEOUT_SECONDS = 5
RANGE_TIMEOUT_SECONDS = 30
# A connection that was kept too long is made anew, and a proxy is asked twice; where nobody listens
# the next tick is the retry.
_RETRY = Retry(
    total=1, connect=0, backoff_factor=0.2, status_forcelist=(502, 503, 504), raise_on_status=False
)
_LONGEST_DETAIL = 200


class Value(msgspec.Struct, frozen=True):
    """One element of an instant vector."""

    labels: Mapping[str, str]
    value: float


class Line(msgspec.Struct, frozen=True):
    """One series of a range: finite values, and their Unix seconds, rounded."""

    labels: Mapping[str, str]
    at_seconds: NDArray[np.int64]
    values: NDArray[np.float64]


class _Vector(msgspec.Struct):
    """As on the wire."""

    metric: dict[str, str]
    value: tuple[float, str]


class _Matrix(msgspec.Struct):
    metric: dict[str, str]
    values: list[tuple[float, str]]


_T = TypeVar("_T")


class PrometheusError(Exception):
    """A query without an answer; the text is one sentence."""


class PrometheusDownError(PrometheusError):
    """Nobody answers, or a proxy says that nobody is there; further queries would not do either."""


class TokenFile(AuthBase):
    """Sends the file's content as bearer token."""

    def __init__(self, path: Path) -> None:
        """Name the file; it is read at each request."""
        self._path = path

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header."""
        request.headers["Authorization"] = f"Bearer {self._path.read_text().strip()}"
        return request


class Connection:
    """One Prometheus, or what speaks its query API."""

    def __init__(
        self,
        url: str,
        *,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        """`url` is the address without `/api`; nothing is asked yet."""
        self.url = url.rstrip("/")
        self._timeout = timeout_seconds
        session = requests.Session()
        session.verify = str(ca_file) if ca_file else True
        session.hooks["response"].append(_read_faster)
        self._client = PrometheusConnect(
            self.url,
            retry=_RETRY,
            auth=TokenFile(token_file) if token_file else None,
            session=session,
            timeout=timeout_seconds,
        )

    def instant(self, query: str, at_seconds: float) -> tuple[Value, ...]:
        """Return the vector of a query at an instant; what is no finite number is left out."""
        asked = {"time": f"{at_seconds:.3f}"}
        answer = self._ask(lambda: self._client.custom_query(query, asked), list[_Vector])
        values = [Value(each.metric, _number(each.value[1])) for each in answer]
        return tuple(value for value in values if isfinite(value.value))

    def span(self, query: str, first: int, last: int, step: int) -> tuple[Line, ...]:
        """Return the series of a query at `first` and every `step` seconds until `last`."""
        answer = self._ask(
            lambda: self._client.custom_query_range(
                query,
                datetime.fromtimestamp(first, UTC),
                datetime.fromtimestamp(last, UTC),
                str(step),
                timeout=max(self._timeout, RANGE_TIMEOUT_SECONDS),
            ),
            list[_Matrix],
        )
        return tuple(_line(each) for each in answer)

    def names(self, selector: str, first: float, last: float) -> frozenset[str]:
        """Return the metric names that series of this selector had in a span of time.

        The index answers, by blocks of hours: a name may have ended some hours before the span.
        """
        params = {"match[]": selector, "start": f"{first:.0f}", "end": f"{last:.0f}"}
        answer = self._ask(lambda: self._client.get_label_values("__name__", params), list[str])
        return frozenset(answer)

    def _ask(self, call: Callable[[], object], shape: type[_T]) -> _T:
        try:
            return msgspec.convert(call(), shape)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise PrometheusDownError(f"{self.url} does not answer: {_cause(error)}") from None
        except PrometheusApiClientException as error:
            kind = PrometheusDownError if "Code 50" in str(error) else PrometheusError
            raise kind(f"{self.url} refuses a query: {str(error)[:_LONGEST_DETAIL]}") from None
        except (KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
            text = f"{self.url} does not answer as Prometheus does: {type(error).__name__} {error}"
            raise PrometheusError(text[: 2 * _LONGEST_DETAIL]) from None
        except OSError as error:
            raise PrometheusDownError(f"{self.url} cannot be asked: {error}") from None


def _read_faster(answer: requests.Response, *_: object, **__: object) -> None:
    """Have the client read JSON by msgspec: two weeks of bins are a megabyte."""
    answer.json = partial(msgspec.json.decode, answer.content)  # type: ignore[method-assign]


def _cause(error: requests.RequestException) -> str:
    """Return the shortest true reason: the error at the bottom of those that wrap it."""
    inner = error.args[0] if error.args else error
    reason = getattr(inner, "reason", inner)
    return f"{type(reason).__name__}: {str(reason)[:_LONGEST_DETAIL]}"


def _number(text: str) -> float:
    """Return a sample's number; what is none counts as NaN does: nothing is known."""
    try:
        return float(text)
    except ValueError:
        return nan


def _line(read: _Matrix) -> Line:
    at = np.array([moment for moment, _ in read.values], dtype=np.float64)
    values = np.array(_numbers([text for _, text in read.values]), dtype=np.float64)
    finite = np.isfinite(values)
    return Line(read.metric, np.rint(at[finite]).astype(np.int64), values[finite])


def _numbers(texts: list[str]) -> list[float]:
    """As `_number` each; together first, because a range holds thousands."""
    try:
        return list(map(float, texts))
    except ValueError:
        return [_number(text) for text in texts]
