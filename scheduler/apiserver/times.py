"""RFC 3339 in UTC, as the API writes times, to and from Unix seconds."""

from datetime import UTC, datetime


def seconds(text: str) -> float:
    """Return Unix seconds of an RFC 3339 time; digits beyond microseconds are cut off.

    Raises ValueError for text that is no such time or has no offset from UTC.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} is not an RFC 3339 time: its offset, such as Z, is missing")
    return moment.timestamp()


def text(seconds: float) -> str:
    """Return the time as metav1.Time has it: whole seconds, rounded down."""
    return datetime.fromtimestamp(seconds // 1, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_text(seconds: float) -> str:
    """Return the time as metav1.MicroTime has it, which takes six decimals and no other number."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
