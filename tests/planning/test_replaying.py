"""A stored tick is believed only where its inputs lead to its outputs."""

import msgspec
import pytest

from binpacking.problem import Packing
from scheduler.planning.policy import Policy
from scheduler.planning.replaying import ABSENT, Replay, replay
from scheduler.ports import Tick
from tests.fixtures.ticks import busy_tick, busy_world, tampered, tick_of
from tests.fixtures.worlds import policy


def replayed(tick: Tick) -> Replay:
    rules = Policy.model_validate_json(tick.policy)
    inputs = (tick.snapshot, tick.memory_before, rules, tick.effort)
    return replay(tick.number, inputs, tick.plan, tick.memory_after)


@pytest.mark.parametrize("effort", ["full", "quick"])
def test_an_untouched_tick_has_no_difference(effort: str) -> None:
    done = replayed(tick_of(busy_world(), policy(), effort))
    assert done.faithful
    assert (done.tick, done.effort, done.packings) == (7, effort, 1)


def test_it_survives_the_ledgers_encoding() -> None:
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(busy_tick()), type=Tick)
    assert replayed(stored).faithful


def test_a_changed_value_is_named_by_its_path() -> None:
    tick = busy_tick()
    (difference,) = replayed(tampered(tick, lendable_gpus=5)).differences
    assert difference.path == "plan.lendable_gpus"
    assert (difference.stored, difference.recomputed) == ("5", "0")


def test_a_missing_action_is_absent() -> None:
    tick = busy_tick()
    last = len(tick.plan.actions) - 1
    (difference,) = replayed(tampered(tick, actions=tick.plan.actions[:last])).differences
    assert difference.path == f"plan.actions[{last}]"
    assert difference.stored == ABSENT
    assert "chat/decode" in difference.recomputed


def test_an_action_too_many_is_absent_in_the_new_plan() -> None:
    tick = busy_tick()
    actions = (*tick.plan.actions, tick.plan.actions[0])
    (difference,) = replayed(tampered(tick, actions=actions)).differences
    assert difference.recomputed == ABSENT


def test_memory_is_compared_too() -> None:
    tick = busy_tick()
    memory = msgspec.structs.replace(tick.memory_after, stops=())
    done = replayed(msgspec.structs.replace(tick, memory_after=memory))
    assert {one.path for one in done.differences} == {"memory.stops[0]", "memory.stops[1]"}


def test_a_packing_that_does_not_hold_is_refused() -> None:
    tick = busy_tick()
    (answer,) = tick.plan.answers
    packing = msgspec.msgpack.decode(answer.packing, type=Packing)
    spoilt = msgspec.structs.replace(packing, killed=())
    forged = msgspec.structs.replace(answer, packing=msgspec.msgpack.encode(spoilt))
    done = replayed(tampered(tick, answers=(forged,)))
    assert not done.faithful
    assert any("GPUs too many" in line for line in done.refused)
    assert "plan.answers[0].packing.killed[0]" in {one.path for one in done.differences}


def test_an_answer_that_is_no_packing_is_refused() -> None:
    tick = busy_tick()
    forged = msgspec.structs.replace(tick.plan.answers[0], packing=b"\xc1")
    done = replayed(tampered(tick, answers=(forged,)))
    assert done.refused[0].startswith("plan.answers[0]: cannot be decoded")


def test_a_stand_in_plan_is_computed_as_its_maker_did() -> None:
    made = tick_of(busy_world(), policy(), "heuristic")
    assert made.plan.source == "heuristic"
    stood_in = msgspec.structs.replace(made, effort="full")
    assert replayed(stood_in).faithful
