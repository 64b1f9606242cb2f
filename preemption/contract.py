"""The disruption contract: what a job that gives way is told, and when, as a state machine.

Rows are read from the top; the first that applies counts.

    state          seen                          next           told
    -------------  ----------------------------  -------------  ----------------
    all            Gone                          Released       -
    Running        Wanted, notice > 0            Notified       Notify(deadline)
    Running        Wanted, no notice             Stopping       StopNow
    Running        Terminating                   Stopping       -
    Notified       Terminating                   Stopping       -
    Notified       Acknowledgement               Acknowledged   StopNow
    Notified       any other, deadline reached   Stopping       StopNow
    Acknowledged   Terminating                   Stopping       -
    all            everything else               unchanged      -

A job is told to stop at most once, and never before the deadline it was given unless it
acknowledges; being wanted again, however urgently, does not shorten a notice. An acknowledgement
that nobody asked for is ignored: it belongs to an earlier attempt. Seeing the same thing twice
changes nothing the second time. Nothing is remembered but the state, and each state can be read
off the cluster, so whoever takes over goes on where the last one stopped.
"""

from typing import Literal

import msgspec


class Running(msgspec.Struct, frozen=True, tag=True):
    """Nobody has asked it to give way."""


class Notified(msgspec.Struct, frozen=True, tag=True):
    """It may save its work until the deadline."""

    deadline_seconds: float


class Acknowledged(msgspec.Struct, frozen=True, tag=True):
    """It has saved its work and was told to stop."""


class Stopping(msgspec.Struct, frozen=True, tag=True):
    """It was told to stop without an acknowledgement, or it is on its way out."""


class Released(msgspec.Struct, frozen=True, tag=True):
    """It is gone; its GPUs are somebody else's."""


class Wanted(msgspec.Struct, frozen=True, tag=True):
    """Its GPUs are wanted; 0 seconds of notice where none is due or none is of use."""

    notice_seconds: float


class Alive(msgspec.Struct, frozen=True, tag=True):
    """It is there, and nothing is new."""


class Acknowledgement(msgspec.Struct, frozen=True, tag=True):
    """It says that its work is saved."""


class Terminating(msgspec.Struct, frozen=True, tag=True):
    """Its pods are being deleted."""


class Gone(msgspec.Struct, frozen=True, tag=True):
    """None of its pods holds a GPU any more."""


class Notify(msgspec.Struct, frozen=True, tag=True):
    """Tell it to save its work until the deadline."""

    deadline_seconds: float


class StopNow(msgspec.Struct, frozen=True, tag=True):
    """Stop it."""


State = Running | Notified | Acknowledged | Stopping | Released
Observation = Wanted | Alive | Acknowledgement | Terminating | Gone
Instruction = Notify | StopNow


Cause = Literal[
    "wanted_with_notice", "wanted_at_once", "acknowledged", "deadline", "terminating", "gone"
]


class Transition(msgspec.Struct, frozen=True):
    """A change of state, when and why, and what the job is to be told."""

    before: State
    after: State
    at_seconds: float
    cause: Cause
    told: Instruction | None = None


def step(state: State, observation: Observation, now_seconds: float) -> Transition | None:
    """The transition that the observation causes; None where the state stays."""

    def to(after: State, cause: Cause, told: Instruction | None = None) -> Transition:
        return Transition(state, after, now_seconds, cause, told)

    match state, observation:
        case Released(), _:
            return None
        case _, Gone():
            return to(Released(), "gone")
        case Running(), Wanted(notice_seconds) if notice_seconds > 0:
            deadline_seconds = now_seconds + notice_seconds
            return to(Notified(deadline_seconds), "wanted_with_notice", Notify(deadline_seconds))
        case Running(), Wanted():
            return to(Stopping(), "wanted_at_once", StopNow())
        case Running() | Notified() | Acknowledged(), Terminating():
            return to(Stopping(), "terminating")
        case Notified(), Acknowledgement():
            return to(Acknowledged(), "acknowledged", StopNow())
        case Notified(deadline_seconds), _ if now_seconds >= deadline_seconds:
            return to(Stopping(), "deadline", StopNow())
        case _:
            return None
