"""Standby units: the program's answer against trying everything, and each rule by itself."""

from functools import cache
from random import Random

import msgspec
import pytest
from hypothesis import settings

from binpacking.ladder import solve
from binpacking.problem import Effort, Packing, Placed, Problem, Supply
from binpacking.standby import Standby
from binpacking.verify import verify
from tests.binpacking.floors import floored
from tests.binpacking.groups import grouped
from tests.binpacking.problems import FULL, QUICK, gang, online, supply
from tests.binpacking.sleeping import crowded, least, stands, with_sleepers

POWERS = (1, 2, 4)
BLOCKS = 4 if settings.default.max_examples < 1000 else 80  # type: ignore[union-attr]
WORLDS_PER_BLOCK = 40


@cache
def world(number: int, *, groups: bool) -> tuple[Problem, tuple[int, int]]:
    """A small world with sleepers, and its best answer."""
    chance = Random(number)  # noqa: S311  # a numbered world, no secret
    problem = crowded(chance)
    if groups:
        first = msgspec.structs.replace(problem.online[0], limit=1)
        problem = msgspec.structs.replace(problem, online=(first,))
        problem = grouped(chance, problem, POWERS)
    problem = floored(chance, problem) if number % 4 == 0 else problem
    problem = with_sleepers(chance, problem, 6)
    return problem, least(problem)


def answered(number: int, effort: Effort, *, groups: bool) -> tuple[Packing, tuple[int, int]]:
    problem, ideal = world(number, groups=groups)
    packing = solve(problem, effort)
    assert packing.rejected == (), number
    assert verify(problem, packing) == (), number
    assert stands(problem, packing), number
    found = packing.tiers.unserved_milli_gpus, packing.tiers.loss
    assert found >= ideal, number
    if packing.gap == 0.0:
        assert found == ideal, number
    if packing.bound_loss is not None and packing.bound_unserved_milli_gpus == ideal[0]:
        assert packing.bound_loss <= ideal[1], number
    return packing, ideal


@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize("groups", [False, True], ids=["pods", "groups"])
def test_units_wake_as_well_as_can_be(block: int, groups: bool) -> None:
    for number in range(block * WORLDS_PER_BLOCK, (block + 1) * WORLDS_PER_BLOCK):
        packing, ideal = answered(number, FULL, groups=groups)
        assert packing.gap == 0.0, number
        assert (packing.tiers.unserved_milli_gpus, packing.tiers.loss) == ideal, number


def test_nodes_of_too_many_gangs_for_a_menu_wake_units_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("binpacking.menus.MOST_SETS", 0)
    for number in range(2 * WORLDS_PER_BLOCK):
        packing, ideal = answered(number, FULL, groups=False)
        assert (packing.tiers.unserved_milli_gpus, packing.tiers.loss) == ideal, number


@pytest.mark.parametrize("block", range(BLOCKS))
def test_the_quick_answer_is_honest(block: int) -> None:
    for number in range(block * WORLDS_PER_BLOCK, (block + 1) * WORLDS_PER_BLOCK):
        answered(number, QUICK, groups=False)


ONE = online("chat", 2, 1000)
NODE = supply("n1", 2)
UNIT = Standby(key="u1", request="chat", node="n1", devices=(4, 5), saved_seconds=50)
UNDER = msgspec.structs.replace(UNIT, under=("job",))
JOB, OTHER = gang("job", 60, ("n1", 2)), gang("other", 60, ("n1", 2))


def problem_with(*units: Standby, supplies: tuple[Supply, ...] = (NODE,)) -> Problem:
    return Problem(supplies=supplies, online=(ONE,), gangs=(JOB, OTHER), standby=units)


@pytest.mark.parametrize("effort", [QUICK, FULL], ids=["quick", "full"])
def test_of_two_nodes_the_one_with_a_sleeper_is_taken(effort: Effort) -> None:
    """Best fit would take the node with fewer free GPUs."""
    packing = solve(problem_with(UNIT, supplies=(supply("n0", 2), supply("n1", 8))), effort)
    assert packing.online == (Placed("chat", (("n1", 2),), ("u1",)),)
    assert (packing.tiers.loss, packing.tiers.lateness, packing.gap) == (0, 0, 0.0)


@pytest.mark.parametrize(
    ("seconds", "killed", "loss"),
    [(29, (), 58), (30, (), 60), (31, ("job",), 60)],
    ids=["cheaper to start cold", "equal: nobody is stopped", "worth the stop"],
)
def test_a_unit_under_a_victim_is_a_credit(
    seconds: int, killed: tuple[str, ...], loss: int
) -> None:
    """Two GPUs are free, and the unit's two are the job's, whose stop costs 60."""
    unit = msgspec.structs.replace(UNDER, saved_seconds=seconds)
    packing = solve(problem_with(unit), FULL)
    assert (packing.killed, packing.tiers.loss) == (killed, loss)
    assert packing.gap == 0.0


def test_the_victim_above_the_sleeper_is_chosen() -> None:
    full = supply("n1", 0)
    packing = solve(
        problem_with(msgspec.structs.replace(UNIT, under=("other",)), supplies=(full,)), FULL
    )
    assert packing.killed == ("other",)


def test_of_two_units_on_one_gpu_the_better_wakes() -> None:
    worse = msgspec.structs.replace(UNIT, key="u0", devices=(3, 4), saved_seconds=49)
    problem = msgspec.structs.replace(
        problem_with(UNIT, worse, supplies=(supply("n1", 8),)), online=(online("chat", 2, 2000),)
    )
    packing = solve(problem, FULL)
    assert sorted(placed.wakes for placed in packing.online) == [(), ("u1",)]
    assert packing.tiers.lateness == 2 * 49


def test_units_of_no_account_are_passed_over() -> None:
    strangers = (
        msgspec.structs.replace(UNIT, key="a", request="other role"),
        msgspec.structs.replace(UNIT, key="b", node="n9"),
        msgspec.structs.replace(UNIT, key="c", under=("a job that must not stop",)),
    )
    packing = solve(problem_with(*strangers), FULL)
    assert (packing.online[0].wakes, packing.tiers.loss) == ((), 0)


@pytest.mark.parametrize(
    ("unit", "sentence"),
    [
        (msgspec.structs.replace(UNIT, devices=(4,)), "u1 has 1 devices, a pod of chat"),
        (msgspec.structs.replace(UNIT, devices=(4, 4)), "devices of u1 are \\(4, 4\\)"),
        (msgspec.structs.replace(UNIT, saved_seconds=0), "saved_seconds of u1 is 0"),
        (msgspec.structs.replace(UNIT, role="decode"), "u1 is of role 'decode'"),
    ],
)
def test_a_unit_that_contradicts_itself_is_refused(unit: Standby, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        solve(problem_with(unit), FULL)


def packed(*placed: Placed, killed: tuple[str, ...] = ()) -> Packing:
    return Packing(online=placed, killed=killed)


WARM = Placed("chat", (("n1", 2),), ("u1",))


@pytest.mark.parametrize(
    ("units", "packing", "sentence"),
    [
        ((), packed(WARM), "u1: no such standby unit"),
        ((UNIT,), packed(WARM, WARM), "u1: woken 2 times"),
        ((UNDER,), packed(WARM), "u1: woken under job, which runs on"),
        ((UNIT,), packed(Placed("chat", (("n2", 2),), ("u1",))), "chat: wakes 1 more of ''"),
        ((UNIT,), packed(Placed("else", (("n1", 2),), ("u1",))), "u1: no unit of else"),
        (
            (UNIT, msgspec.structs.replace(UNIT, key="u2", devices=(5, 6))),
            packed(WARM, Placed("chat", (("n1", 2),), ("u2",))),
            "n1: GPU 5 is of u1 and u2",
        ),
        ((UNDER,), packed(WARM, killed=("job", "other")), "other: stopped without need"),
        ((UNIT,), packed(Placed("chat", (("n1", 2),))), "lateness=100"),
    ],
)
def test_the_checker_refuses(units: tuple[Standby, ...], packing: Packing, sentence: str) -> None:
    problem = problem_with(*units, supplies=(NODE, supply("n2", 2)))
    problem = msgspec.structs.replace(problem, online=(ONE, online("else", 2, 1000)))
    assert any(sentence in wrong for wrong in verify(problem, packing))
