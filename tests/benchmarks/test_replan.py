"""The replan benchmark: published optima come out, and what is wrong with a plan is counted."""

import json
from typing import Any

import msgspec
import pytest

from binpacking.ladder import solve
from binpacking.problem import Effort
from scheduler.simulation.instances import Instance, generate
from tests.benchmarks import replan
from tests.benchmarks.replangrowth import Spent, growth
from tests.benchmarks.replanmeasure import measure, with_batch
from tests.benchmarks.replannaive import naive
from tests.benchmarks.replanproblem import Plan, Seated, plan_of, problem_of
from tests.benchmarks.replanrivals import cost_greedy, priority_first_fit

FULL = Effort(name="full", program=True)


@pytest.fixture(scope="module")
def instance() -> Instance:
    return generate(64, 0)


@pytest.fixture(scope="module")
def plan(instance: Instance) -> Plan:
    return plan_of(instance, solve(problem_of(instance), FULL))


def test_the_published_optimum_comes_out(instance: Instance, plan: Plan) -> None:
    found = measure(instance, plan)
    assert (found.unserved_gpus, round(found.loss, 2)) == (0, 3.47)
    assert (found.topology_violations, found.nonminimal_victim_sets) == (0, 0)
    assert found.materialised


def test_rivals_are_whole_and_no_better(instance: Instance) -> None:
    for rival in (cost_greedy, priority_first_fit):
        found = measure(instance, with_batch(instance, rival(instance)))
        assert found.materialised
        assert (found.unserved_gpus, found.loss) >= (0, 3.47)
    assert round(measure(instance, naive(instance, 60.0)).loss, 2) == 3.47


def moved(plan: Plan, node: int) -> Plan:
    """The first group's first piece stands on another node."""
    first, *rest = plan.placed
    (_, gpus, role), *pieces = first.pieces
    return msgspec.structs.replace(
        plan, placed=(Seated(first.service, ((node, gpus, role), *pieces)), *rest)
    )


def test_a_piece_without_room_is_no_plan(instance: Instance, plan: Plan) -> None:
    full = next(node for node, free in enumerate(instance.free_gpus) if not free)
    assert not measure(instance, moved(plan, full)).materialised


def test_a_victim_that_nobody_needs_is_counted(instance: Instance, plan: Plan) -> None:
    spare = next(gang.number for gang in instance.gangs if gang.number not in plan.killed)
    more = msgspec.structs.replace(plan, killed=(*plan.killed, spare))
    assert measure(instance, more).nonminimal_victim_sets == 1


def test_a_model_that_is_not_allowed_is_counted() -> None:
    large = generate(256, 0)
    plan = cost_greedy(large)
    models = large.leaf_models
    allowed = large.services[plan.placed[0].service].gpu_models
    other = next(
        nodes[0]
        for nodes, model in zip(large.leaf_nodes, models, strict=True)
        if model not in allowed
    )
    assert measure(large, plan).topology_violations == 0
    assert measure(large, moved(plan, other)).topology_violations > 0


def test_the_command_prints_one_document(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [
        "replan",
        "--nodes",
        "16",
        "--seeds",
        "0-1",
        "--policies",
        "tidal,cost-greedy",
        "-o",
        "json",
    ]
    monkeypatch.setattr("sys.argv", command)
    assert replan.main() == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["schema"] == "tidal.replan/1"
    assert [(one["policy"], one["seed"]) for one in document["results"]] == [
        ("tidal", 0), ("cost-greedy", 0), ("tidal", 1), ("cost-greedy", 1),
    ]  # fmt: skip
    assert document["results"][0]["gap"] == 0.0
    assert document["timing"]["records"][0]["proven_seconds"] is not None


def test_several_sizes_say_how_the_cpu_to_a_gap_grows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["replan", "--nodes", "32,16", "-o", "json"])
    assert replan.main() == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    (grown,) = document["timing"]["growth"]
    assert [one["nodes"] for one in document["results"]] == [16, 32]
    assert grown["reached"] == {"16": 1.0, "32": 1.0}
    assert grown["exponent"] is not None
    assert set(grown["gap_at_end"]) == {"16", "32"}


def test_the_exponent_is_the_slope_and_late_seeds_count_with_all_they_had() -> None:
    runs = [
        Spent(nodes, seconds, 99.0)
        for nodes, some in ((10, (1.0, 1.0, 1.0)), (100, (100.0, 100.0, 3.0)))
        for seconds in some
    ]
    found = growth("tidal", 0.02, runs)
    assert found.exponent == pytest.approx(2.0)
    assert found.gap_at_end == {10: None, 100: None}
    late = growth("tidal", 0.02, [Spent(10, 1.0, 5.0, 0.01), Spent(100, None, 10.0, 0.3)])
    assert late.gap_at_end == {10: 0.01, 100: 0.3}
    assert late.seconds == {10: 1.0, 100: 10.0}
    assert late.reached == {10: 1.0, 100: 0.0}
    assert late.exponent == pytest.approx(1.0)
    assert growth("tidal", 0.02, runs[:1]).exponent is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--policies best", "--policies: 'best' is unknown; use tidal, "),
        ("--nodes 16,many", "'16,many' is no number of nodes; give 1000 or 250,1000"),
        ("--nodes 3", "nodes is 3: a leaf has at least 8 nodes"),
        ("--occupancy 2", "--occupancy: '2' is no share; give a number from 0 to 1"),
        ("--sleepers x", "--sleepers: 'x' is no share"),
        ("--gap 2", "--gap: '2' is no share"),
        ("--seeds x", "'x' is no seed"),
        ("--seeds 5-3", "'5-3' holds no seed; give the smaller number first"),
    ],
)
def test_wrong_use_is_told(
    arguments: str,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["replan", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        replan.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
