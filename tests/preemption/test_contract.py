"""The contract row by row, and its promises over any history."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from preemption.contract import (
    Acknowledged,
    Acknowledgement,
    Alive,
    Cause,
    Gone,
    Instruction,
    Notified,
    Notify,
    Observation,
    Released,
    Running,
    State,
    StopNow,
    Stopping,
    Terminating,
    Transition,
    Wanted,
    step,
)

NOW = 100.0
DUE = Notified(NOW)
LATER = Notified(NOW + 30)


@pytest.mark.parametrize(
    ("state", "observation", "after", "told", "cause"),
    [
        (Running(), Wanted(30), LATER, Notify(NOW + 30), "wanted_with_notice"),
        (Running(), Wanted(0), Stopping(), StopNow(), "wanted_at_once"),
        (Running(), Alive(), Running(), None, None),
        (Running(), Acknowledgement(), Running(), None, None),
        (Running(), Terminating(), Stopping(), None, "terminating"),
        (Running(), Gone(), Released(), None, "gone"),
        (LATER, Wanted(30), LATER, None, None),
        (LATER, Wanted(0), LATER, None, None),
        (LATER, Alive(), LATER, None, None),
        (LATER, Acknowledgement(), Acknowledged(), StopNow(), "acknowledged"),
        (LATER, Terminating(), Stopping(), None, "terminating"),
        (LATER, Gone(), Released(), None, "gone"),
        (DUE, Alive(), Stopping(), StopNow(), "deadline"),
        (DUE, Wanted(30), Stopping(), StopNow(), "deadline"),
        (DUE, Acknowledgement(), Acknowledged(), StopNow(), "acknowledged"),
        (DUE, Terminating(), Stopping(), None, "terminating"),
        (Acknowledged(), Wanted(30), Acknowledged(), None, None),
        (Acknowledged(), Alive(), Acknowledged(), None, None),
        (Acknowledged(), Acknowledgement(), Acknowledged(), None, None),
        (Acknowledged(), Terminating(), Stopping(), None, "terminating"),
        (Acknowledged(), Gone(), Released(), None, "gone"),
        (Stopping(), Wanted(0), Stopping(), None, None),
        (Stopping(), Alive(), Stopping(), None, None),
        (Stopping(), Acknowledgement(), Stopping(), None, None),
        (Stopping(), Terminating(), Stopping(), None, None),
        (Stopping(), Gone(), Released(), None, "gone"),
        (Released(), Wanted(0), Released(), None, None),
        (Released(), Gone(), Released(), None, None),
    ],
)
def test_transitions(
    state: State,
    observation: Observation,
    after: State,
    told: Instruction | None,
    cause: Cause | None,
) -> None:
    expected = None if cause is None else Transition(state, after, NOW, cause, told)
    assert step(state, observation, NOW) == expected
    assert cause is not None or state == after


PAUSES = st.floats(0, 15)


class Promises(RuleBasedStateMachine):
    """One job after another, through planners that come and go and remember nothing.

    What is known of the job is in `state` alone, as the cluster would show it; whatever a planner
    is told to say may be lost before it is said, and then the state did not change either.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.begin()

    def begin(self) -> None:
        self.state: State = Running()
        self.log: list[Transition] = []
        self.acknowledged = False

    def see(self, observation: Observation, *, lost: bool = False) -> None:
        change = step(self.state, observation, self.now)
        if change is None:
            return
        assert (change.before, change.at_seconds) == (self.state, self.now)
        if lost and change.told is not None:
            return
        self.state = change.after
        self.log.append(change)
        assert step(self.state, observation, self.now) is None  # seeing it twice changes nothing

    @rule(pause=PAUSES, notice=st.sampled_from([0.0, 5.0, 20.0]), lost=st.booleans())
    def want(self, pause: float, notice: float, lost: bool) -> None:
        self.now += pause
        self.see(Wanted(notice), lost=lost)

    @rule(pause=PAUSES, lost=st.booleans())
    def look(self, pause: float, lost: bool) -> None:
        self.now += pause
        self.see(Alive(), lost=lost)

    @precondition(lambda self: isinstance(self.state, Notified))
    @rule(pause=PAUSES, lost=st.booleans())
    def acknowledge(self, pause: float, lost: bool) -> None:
        self.now += pause
        self.acknowledged = True
        self.see(Acknowledgement(), lost=lost)

    @rule(pause=PAUSES)
    def late_acknowledgement(self, pause: float) -> None:
        """Of an earlier run; under notice it could not be told from this one's."""
        self.now += pause
        if not isinstance(self.state, Notified):
            before = self.state
            self.see(Acknowledgement())
            assert self.state == before

    @precondition(lambda self: isinstance(self.state, Acknowledged | Stopping))
    @rule(pause=PAUSES)
    def terminate(self, pause: float) -> None:
        self.now += pause
        self.see(Terminating())

    @rule(pause=PAUSES)
    def gone(self, pause: float) -> None:
        self.now += pause
        self.see(Gone())

    @precondition(lambda self: isinstance(self.state, Released))
    @rule()
    def start_again(self) -> None:
        self.begin()

    @invariant()
    def told_in_order(self) -> None:
        told = [change for change in self.log if change.told is not None]
        stops = [change for change in told if isinstance(change.told, StopNow)]
        notices = [change.told for change in told if isinstance(change.told, Notify)]
        assert len(stops) <= 1
        assert len(notices) <= 1
        assert sum(change.cause == "gone" for change in self.log) <= 1
        for stop in stops:
            assert stop is told[-1]
            if not notices:
                assert stop.cause == "wanted_at_once"
            for notice in notices:
                late = stop.at_seconds >= notice.deadline_seconds
                assert late or (self.acknowledged and stop.cause == "acknowledged")
        times = [change.at_seconds for change in self.log]
        assert times == sorted(times)


Promises.TestCase.settings = settings(stateful_step_count=25)
test_promises_over_any_history = Promises.TestCase


observations = st.one_of(
    st.builds(Wanted, st.sampled_from([0.0, 5.0, 20.0])),
    st.sampled_from([Alive(), Acknowledgement(), Terminating(), Gone()]),
)


@given(st.lists(st.tuples(observations, st.floats(0, 10)), max_size=20))
def test_a_notified_job_is_out_soon_after_its_deadline(
    history: list[tuple[Observation, float]],
) -> None:
    state: State = Notified(5.0)
    now = 0.0
    for observation, pause in history:
        now += pause
        change = step(state, observation, now)
        state = change.after if change else state
    change = step(state, Alive(), now + 5.0)
    state = change.after if change else state
    assert not isinstance(state, Running | Notified)
