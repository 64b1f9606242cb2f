"""Planning in a process of its own: the same plan, and what becomes of it when the worker fails."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.process import BaseProcess

import pytest

from scheduler.daemon.worker import PlanningProcess
from scheduler.planning.actions import Plan
from scheduler.planning.memory import Memory
from scheduler.planning.planner import plan
from tests.fixtures.ticks import busy_world
from tests.fixtures.worlds import policy

BEFORE = Memory(since_seconds=0.0)
RULES = policy()


@pytest.fixture
def planner() -> Iterator[PlanningProcess]:
    started = PlanningProcess()
    yield started
    started.stop()


def worker() -> BaseProcess:
    (found,) = (one for one in multiprocessing.active_children() if one.name == "tidal-planner")
    return found


def signalled(number: signal.Signals) -> BaseProcess:
    found = worker()
    assert found.pid is not None
    os.kill(found.pid, number)
    return found


def asked(planner: PlanningProcess, effort: str = "full") -> tuple[Plan, Memory]:
    return planner(busy_world(), BEFORE, RULES, effort)


def in_process(effort: str = "full") -> tuple[Plan, Memory]:
    return plan(busy_world(), BEFORE, RULES, effort)


@pytest.mark.parametrize("effort", ["quick", "full"])
def test_a_plan_through_the_process_is_the_plan(planner: PlanningProcess, effort: str) -> None:
    assert asked(planner, effort) == in_process(effort)
    assert planner.failures == 0


def test_a_change_of_policy_reaches_the_worker(planner: PlanningProcess) -> None:
    other = policy(quantile=0.99, minute_sigmas=3.0)
    assert in_process() != plan(busy_world(), BEFORE, other, "full")
    assert asked(planner) == in_process()
    assert planner(busy_world(), BEFORE, other, "full") == plan(busy_world(), BEFORE, other, "full")


def test_where_a_worker_is_killed_another_gives_a_quick_plan(planner: PlanningProcess) -> None:
    killed = signalled(signal.SIGKILL)
    killed.join()
    assert asked(planner) == in_process("quick")
    assert planner.failures == 1
    assert worker().pid != killed.pid
    assert asked(planner) == in_process()
    assert planner.failures == 1


def test_where_none_answers_in_time_the_plan_is_heuristic_and_the_worker_replaced() -> None:
    planner = PlanningProcess(wall_limit_seconds=0.01)
    try:
        stuck = signalled(signal.SIGSTOP)
        assert asked(planner) == in_process("heuristic")
        assert planner.failures == 2
        assert not stuck.is_alive()
        assert worker().is_alive()
    finally:
        planner.stop()


def test_an_interrupt_is_left_to_the_daemon(planner: PlanningProcess) -> None:
    asked(planner)
    signalled(signal.SIGINT)
    assert asked(planner) == in_process()
    assert planner.failures == 0


def test_it_ends_when_told(planner: PlanningProcess) -> None:
    ended = worker()
    planner.stop()
    assert not ended.is_alive()
