"""What the owner of a Job declares in annotations, read with the safe meaning where it is wrong.

`docs/batch.md` explains each to users. A value that cannot be read counts as absent, and is
complained about in a sentence that names object, field and fix; so does a value that has no
effect, because its owner believes that it has one.
"""

from collections.abc import Mapping
from math import isfinite
from typing import Literal

import msgspec

from scheduler.apiserver import objects
from scheduler.apiserver.times import seconds, text
from scheduler.planning import marks
from scheduler.planning.snapshot import Loan

Class = Literal["killable", "checkpoint", "protected"]
CLASSES: tuple[Class, ...] = ("killable", "checkpoint", "protected")
MOST_DIGITS = 9
"""Of a count; longer ones are no counts of anything here."""
CHECKPOINT_MARKS = (
    marks.CHECKPOINT_INTERVAL,
    marks.CHECKPOINT_WRITE,
    marks.LAST_CHECKPOINT,
    marks.CHECKPOINT_STARTED,
)
NOTED_SECONDS = 3600.0
"""How long a stop is kept on its Job: as long as budgets count it."""
MOST_NOTED = 9


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """The annotations of one Job, as values."""

    tenant: str
    class_: Class
    min_pods: int
    max_pods: int
    gpu_models: tuple[str, ...]
    expected_seconds: float | None
    checkpoint_interval_seconds: float | None
    checkpoint_write_seconds: float | None
    restart_seconds: float
    last_checkpoint_seconds: float | None
    checkpoint_started_seconds: float | None
    attempt: int
    stops: tuple[tuple[int, int, float], ...]
    """(attempt, pods left to it, Unix seconds) of stops, as Tidal has noted them."""
    loan: Loan | None
    notice_deadline_seconds: float | None
    complaints: tuple[str, ...]


class Reading:
    """Reads annotations of one object and collects what is wrong with them."""

    def __init__(self, path: str, annotations: Mapping[str, str]) -> None:
        self._path = path
        self._annotations = annotations
        self.complaints: list[str] = []

    def complain(self, key: str, sentence: str) -> None:
        """Note what is wrong with one annotation."""
        self.complaints.append(f"{self._path}: annotation {key} {sentence}")

    def text(self, key: str) -> str:
        """Return the annotation without spaces around it, or nothing."""
        return self._annotations.get(key, "").strip()

    def duration(self, key: str) -> float | None:
        """Return seconds, 0 or more."""
        given = self.text(key)
        try:
            value = float(given) if given else None
        except ValueError:
            value = -1.0
        if value is None or (isfinite(value) and value >= 0):
            return value
        self.complain(key, f"is {given[:40]!r}: write seconds as a number, such as 600")
        return None

    def count(self, key: str, least: int) -> int | None:
        """Return a whole number of at least `least`."""
        given = self.text(key)
        digits = given.isascii() and given.isdecimal() and len(given) <= MOST_DIGITS
        if digits and int(given) >= least:
            return int(given)
        if given:
            self.complain(key, f"is {given[:40]!r}: write a whole number of {least} or more")
        return None

    def moment(self, key: str) -> float | None:
        """Return Unix seconds of an RFC 3339 time."""
        given = self.text(key)
        try:
            return seconds(given) if given else None
        except (ValueError, OverflowError):
            self.complain(
                key, f"is {given[:40]!r}: write an RFC 3339 time, such as 2026-11-21T09:30:00Z"
            )
            return None


def declared(job: objects.Job) -> Declared:
    """Return what the Job's annotations say."""
    meta = job.metadata
    reading = Reading(f"Job {meta.namespace}/{meta.name}", meta.annotations)
    class_ = _class(reading)
    saves = class_ == "checkpoint"
    low, high = _bounds(reading, job.spec)
    return Declared(
        tenant=reading.text(marks.TENANT) or meta.namespace,
        class_=class_,
        min_pods=low,
        max_pods=high,
        gpu_models=_names(reading.text(marks.GPU_MODELS)),
        expected_seconds=reading.duration(marks.EXPECTED_SECONDS),
        checkpoint_interval_seconds=reading.duration(marks.CHECKPOINT_INTERVAL) if saves else None,
        checkpoint_write_seconds=reading.duration(marks.CHECKPOINT_WRITE) if saves else None,
        restart_seconds=reading.duration(marks.RESTART_SECONDS) or 0.0,
        last_checkpoint_seconds=reading.moment(marks.LAST_CHECKPOINT) if saves else None,
        checkpoint_started_seconds=reading.moment(marks.CHECKPOINT_STARTED) if saves else None,
        stops=_stops(reading),
        attempt=reading.count(marks.ATTEMPT, 0) or 0,
        loan=_loan(reading, f"{meta.namespace}/{meta.name}"),
        notice_deadline_seconds=reading.moment(marks.NOTICE_DEADLINE),
        complaints=tuple(reading.complaints),
    )


def last_checkpoint(path: str, annotations: Mapping[str, str]) -> tuple[float | None, list[str]]:
    """Return what a pod tells of its job's newest checkpoint, and what is wrong with its words."""
    reading = Reading(path, annotations)
    reading.moment(marks.CHECKPOINT_STARTED)
    return reading.moment(marks.LAST_CHECKPOINT), reading.complaints


def checkpoint_started(annotations: Mapping[str, str]) -> float | None:
    """Return when a pod says that its job began to write a checkpoint."""
    return Reading("", annotations).moment(marks.CHECKPOINT_STARTED)


def noted(said: Declared, pods: int, now_seconds: float) -> str:
    """Return the annotation that adds a stop of the present run to those of the last hour."""
    kept = [one for one in said.stops if now_seconds - one[2] < NOTED_SECONDS][-MOST_NOTED:]
    every = (*kept, (said.attempt, pods, now_seconds))
    return " ".join(f"{run}:{left}@{text(at)}" for run, left, at in every)


def acknowledges(annotations: Mapping[str, str], deadline_seconds: float) -> bool:
    """Return whether the notice with this deadline is acknowledged; to the second, as written."""
    reading = Reading("", annotations)
    told = reading.moment(marks.ACKNOWLEDGED)
    return told is not None and told // 1 == deadline_seconds // 1


def _class(reading: Reading) -> Class:
    given = reading.text(marks.CLASS)
    class_: Class = next((one for one in CLASSES if one == given), "killable")
    if given and class_ != given:
        reading.complain(
            marks.CLASS, f"is {given[:40]!r}, so it counts as killable: write {_either(CLASSES)}"
        )
    if class_ == "killable":
        for key in CHECKPOINT_MARKS:
            if reading.text(key):
                reading.complain(key, f"has no effect: set {marks.CLASS} to checkpoint")
    return class_


def _either(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _bounds(reading: Reading, spec: objects.JobSpec) -> tuple[int, int]:
    """Return elastic bounds; both are the parallelism of a Job that cannot change its size.

    Only an Indexed Job whose completions equal its parallelism can: both are changed together,
    and the highest indices go. Any other Job would lose pods at random, or index 0.
    """
    pods = spec.parallelism
    low, high = reading.count(marks.MIN_PODS, 1), reading.count(marks.MAX_PODS, 1)
    given = [key for key in (marks.MIN_PODS, marks.MAX_PODS) if reading.text(key)]
    if not given:
        return pods, pods
    if spec.completion_mode != "Indexed" or spec.completions != pods:
        reading.complain(
            given[0],
            "has no effect: only a Job with completionMode Indexed and completions equal to "
            "parallelism can change its size",
        )
        return pods, pods
    least, most = low or pods, high or pods
    if least <= pods <= most:
        return least, most
    reading.complain(
        given[0],
        f"does not fit parallelism {pods}, so the Job keeps its size: least {least}, most {most}",
    )
    return pods, pods


def _names(given: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in given.split(",") if one.strip())


def _stops(reading: Reading) -> tuple[tuple[int, int, float], ...]:
    """Return the stops that can be read; the annotation is Tidal's own."""
    found = []
    for entry in reading.text(marks.STOPS).split():
        counts, _, at = entry.partition("@")
        run, _, pods = counts.partition(":")
        try:
            found.append((int(run), int(pods), seconds(at)))
        except (ValueError, OverflowError):
            reading.complain(marks.STOPS, "cannot be read whole: it is Tidal's, remove it")
            break
    return tuple(found)


def _loan(reading: Reading, job: str) -> Loan | None:
    given = reading.text(marks.LOAN)
    if not given:
        return None
    try:
        loan = msgspec.json.decode(given.encode(), type=Loan)
    except msgspec.DecodeError:
        loan = None
    if loan is not None and loan.job == job:
        return loan
    reading.complain(marks.LOAN, "cannot be read and counts as absent: it is Tidal's, remove it")
    return None
