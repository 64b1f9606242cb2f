import pytest
from hypothesis import given
from hypothesis import strategies as st

from preemption.contract import (
    Acknowledged,
    Acknowledgement,
    Alive,
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
    Wanted,
    step,
)

NOW = 100.0
DUE = Notified(NOW)
LATER = Notified(NOW + 30)


@pytest.mark.parametrize(
    ("state", "observation", "after", "told"),
    [
        (Running(), Wanted(30), LATER, Notify(NOW + 30)),
        (Running(), Wanted(0), Stopping(), StopNow()),
        (Running(), Alive(), Running(), None),
        (Running(), Acknowledgement(), Running(), None),
        (Running(), Terminating(), Stopping(), None),
        (Running(), Gone(), Released(), None),
        (LATER, Wanted(30), LATER, None),
        (LATER, Wanted(0), LATER, None),
        (LATER, Alive(), LATER, None),
        (LATER, Acknowledgement(), Acknowledged(), StopNow()),
        (LATER, Terminating(), Stopping(), None),
        (LATER, Gone(), Released(), None),
        (DUE, Alive(), Stopping(), StopNow()),
        (DUE, Wanted(30), Stopping(), StopNow()),
        (DUE, Acknowledgement(), Acknowledged(), StopNow()),
        (DUE, Terminating(), Stopping(), None),
        (Acknowledged(), Wanted(30), Acknowledged(), None),
        (Acknowledged(), Alive(), Acknowledged(), None),
        (Acknowledged(), Acknowledgement(), Acknowledged(), None),
        (Acknowledged(), Terminating(), Stopping(), None),
        (Acknowledged(), Gone(), Released(), None),
        (Stopping(), Wanted(0), Stopping(), None),
        (Stopping(), Alive(), Stopping(), None),
        (Stopping(), Acknowledgement(), Stopping(), None),
        (Stopping(), Terminating(), Stopping(), None),
        (Stopping(), Gone(), Released(), None),
        (Released(), Wanted(0), Released(), None),
        (Released(), Gone(), Released(), None),
    ],
)
def test_transitions(
    state: State, observation: Observation, after: State, told: Instruction | None
) -> None:
    assert step(state, observation, NOW) == (after, told)


observations = st.one_of(
    st.builds(Wanted, st.sampled_from([0.0, 5.0, 20.0])),
    st.sampled_from([Alive(), Acknowledgement(), Terminating(), Gone()]),
)
histories = st.lists(st.tuples(observations, st.floats(0, 10)), max_size=20)


@given(histories)
def test_promises_over_any_history(history: list[tuple[Observation, float]]) -> None:
    state: State = Running()
    now = 0.0
    deadlines: list[float] = []
    stops = 0
    for observation, pause in history:
        now += pause
        state, told = step(state, observation, now)
        assert step(state, observation, now) == (state, None)
        match told:
            case Notify(deadline):
                assert not stops
                deadlines.append(deadline)
            case StopNow():
                stops += 1
                unannounced = isinstance(observation, Wanted) and not observation.notice_seconds
                agreed = isinstance(observation, Acknowledgement) or now >= max(
                    deadlines, default=0
                )
                assert agreed if deadlines else unannounced
            case None:
                pass
    assert stops <= 1
    assert len(deadlines) <= 1


@given(histories)
def test_a_notified_job_is_out_soon_after_its_deadline(
    history: list[tuple[Observation, float]],
) -> None:
    state, _ = step(Running(), Wanted(5.0), 0.0)
    now = 0.0
    for observation, pause in history:
        now += pause
        state, _ = step(state, observation, now)
    state, _ = step(state, Alive(), now + 5.0)
    assert not isinstance(state, Running | Notified)
