"""Batch Jobs of a snapshot: what their owners declare about a stop, and what protects them."""

from typing import Any

import pytest

from scheduler.adapters.cluster.jobmarks import declared, noted
from scheduler.apiserver.times import text
from scheduler.planning import marks
from tests.adapters.assembling import complained, read, said, seen
from tests.fixtures.kubeobjects import (
    NOW,
    budget,
    job,
    job_pod,
    suspended_job,
)


def test_a_checkpointing_job_declares_what_a_stop_costs() -> None:
    annotations = {
        marks.CLASS: "checkpoint",
        marks.CHECKPOINT_INTERVAL: "600",
        marks.CHECKPOINT_WRITE: "45.5",
        marks.RESTART_SECONDS: "90",
        marks.LAST_CHECKPOINT: text(NOW - 300),
        marks.TENANT: "research",
        marks.ATTEMPT: "3",
        marks.GPU_MODELS: "H100, H200",
    }
    one = job("j", annotations=annotations)
    told = {marks.LAST_CHECKPOINT: text(NOW - 120)}
    found = read(one, job_pod("j", "0", "n0", annotations=told))
    assert found.last_checkpoint_seconds == NOW - 120
    assert (found.checkpoint_interval_seconds, found.checkpoint_write_seconds) == (600.0, 45.5)
    assert found.restart_seconds == 90.0
    assert (found.tenant, found.attempt, found.preemptible) == ("research", 3, True)
    assert found.gpu_models == ("H100", "H200")


def test_checkpoints_of_a_killable_job_do_not_count_and_its_owner_is_told() -> None:
    annotations = {marks.CHECKPOINT_WRITE: "45", marks.LAST_CHECKPOINT: text(NOW - 300)}
    found = said(annotations)
    assert (found.checkpoint_write_seconds, found.last_checkpoint_seconds) == (None, None)
    assert complained(annotations) == (
        (
            "Job default/j: annotation tidal.dev/checkpoint-write-seconds has no effect: set "
            "tidal.dev/class to checkpoint"
        ),
        (
            "Job default/j: annotation tidal.dev/last-checkpoint has no effect: set "
            "tidal.dev/class to checkpoint"
        ),
    )


def test_a_checkpoint_in_the_future_was_written_now() -> None:
    annotations = {marks.CLASS: "checkpoint", marks.LAST_CHECKPOINT: text(NOW + 999)}
    assert said(annotations).last_checkpoint_seconds == NOW


def test_protected_and_blocked_jobs_are_not_stopped() -> None:
    assert not said({marks.CLASS: "protected"}).preemptible
    assert said({marks.CLASS: "protected"}).opt_out == "annotation tidal.dev/class is protected"
    found = seen(suspended_job("j"), blocked={"default/j": "a budget refused it"})
    assert (found.jobs[0].preemptible, found.jobs[0].held_by) == (True, "a budget refused it")


@pytest.mark.parametrize(
    ("kind", "key", "value", "kept"),
    [
        ("annotations", "cluster-autoscaler.kubernetes.io/safe-to-evict", "false", True),
        ("annotations", "cluster-autoscaler.kubernetes.io/safe-to-evict", "true", False),
        ("annotations", "karpenter.sh/do-not-disrupt", "true", True),
        ("annotations", "karpenter.sh/do-not-evict", "True", True),
        ("annotations", "descheduler.alpha.kubernetes.io/prefer-no-eviction", "true", True),
        ("annotations", "volcano.sh/preemptable", "false", True),
        ("labels", "volcano.sh/preemptable", "false", True),
        ("annotations", "godel.bytedance.com/can-be-preempted", "false", True),
        ("annotations", "scheduling.koordinator.sh/eviction-cost", "2147483647", True),
        ("annotations", "scheduling.koordinator.sh/eviction-cost", "100", False),
        ("labels", "kai.scheduler/preemptibility", "non-preemptible", True),
        ("labels", "kai.scheduler/preemptibility", "preemptible", False),
        ("labels", "quota.scheduling.koordinator.sh/preemptible", "false", True),
    ],
)
def test_what_other_tools_take_for_an_opt_out_is_one(
    kind: str, key: str, value: str, kept: bool
) -> None:
    """On any of its pods, where such marks usually stand."""
    pods = (job_pod("j", "0", "n0"), job_pod("j", "1", "n0", **{kind: {key: value}}))
    found = read(job("j", 2), *pods)
    assert found.preemptible is not kept
    assert found.opt_out == (f"{kind[:-1]} {key} is {value}" if kept else "")


def test_an_opt_out_of_the_job_itself_counts() -> None:
    found = said({"karpenter.sh/do-not-disrupt": "true"})
    assert found.opt_out == "annotation karpenter.sh/do-not-disrupt is true"


@pytest.mark.parametrize(
    ("started", "last", "since"),
    [(5, None, 5), (5, 300, 5), (300, 5, None), (5, 5, None), (-60, 300, 0), (None, 300, None)],
)
def test_a_checkpoint_begun_and_not_complete_is_being_written(
    started: float | None, last: float | None, since: float | None
) -> None:
    """Seconds ago; told by a pod, never later than now."""
    told = {
        key: text(NOW - ago)
        for key, ago in [(marks.CHECKPOINT_STARTED, started), (marks.LAST_CHECKPOINT, last)]
        if ago is not None
    }
    found = read(
        job("j", annotations={marks.CLASS: "checkpoint"}), job_pod("j", "0", "n0", annotations=told)
    )
    assert found.checkpoint_started_seconds == (None if since is None else NOW - since)


def test_stops_are_read_back_as_noted() -> None:
    kept: dict[str, str] = {}
    for attempt, pods, ago in [("1", 0, 4000), ("1", 2, 2000), ("2", 0, 0)]:
        one = declared(job("j", annotations={marks.ATTEMPT: attempt, **kept}))
        kept = {marks.STOPS: noted(one, pods, NOW - ago)}
    assert said(kept).stops == ((1, 2, NOW - 2000), (2, 0, NOW))
    (line,) = complained({marks.STOPS: "2@then"})
    assert line.endswith("it is Tidal's, remove it")


def test_an_unknown_class_is_killable_and_complained_about() -> None:
    assert said({marks.CLASS: "Protected"}).preemptible
    (line,) = complained({marks.CLASS: "Protected"})
    assert line.endswith("counts as killable: write killable, checkpoint or protected")


@pytest.mark.parametrize(
    ("selector", "allowed", "preemptible"),
    [
        ({"matchLabels": {"team": "red"}}, 2, True),
        ({"matchLabels": {"team": "red"}}, 1, False),
        ({"matchLabels": {"team": "blue"}}, 0, True),
        ({}, 1, False),
        (None, 0, True),
        ({"matchExpressions": [{"key": "team", "operator": "In", "values": ["red"]}]}, 0, False),
        ({"matchExpressions": [{"key": "team", "operator": "In", "values": ["blue"]}]}, 0, True),
        ({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["red"]}]}, 0, True),
        ({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["red"]}]}, 0, False),
        ({"matchExpressions": [{"key": "team", "operator": "Exists"}]}, 0, False),
        ({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}, 0, True),
        (
            {
                "matchLabels": {"team": "red"},
                "matchExpressions": [{"key": "x", "operator": "Exists"}],
            },
            0,
            True,
        ),
    ],
)
def test_a_budget_protects_a_gang_that_it_would_split(
    selector: dict[str, Any] | None, allowed: int, preemptible: bool
) -> None:
    pods = tuple(job_pod("j", str(i), "n0", labels={"team": "red"}) for i in range(2))
    rules = (budget("b", allowed, selector), budget("c", 0, {}, namespace="elsewhere"))
    found = read(job("j", 2), *pods, budgets=rules)
    assert found.preemptible
    assert found.held_by == (
        "" if preemptible else f"PodDisruptionBudget b allows {allowed} evictions of 2"
    )


def test_two_budgets_on_one_pod_refuse_every_eviction() -> None:
    rules = (budget("b", 9, {}), budget("c", 9, {}))
    found = read(job("j"), job_pod("j", "0", "n0"), budgets=rules)
    assert found.held_by.startswith("PodDisruptionBudgets b and c both cover")
