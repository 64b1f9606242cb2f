"""Batch and the tide: what the owners of jobs see when Tidal runs a cluster."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.apiserver.client import ApiError
from scheduler.apiserver.times import seconds
from scheduler.planning.policy import Policy
from tests.controlplane.diary import Diary, diary_of
from tests.controlplane.kinds.world import Log, Object, eventually, pod, version
from tests.controlplane.plane import ControlPlane
from tests.controlplane.rig import URGENT, Rig, rig_of

pytestmark = pytest.mark.controlplane

CHAT = {"chat/decode": {"target": {"kind": "Deployment", "name": "chat"}}}
NOTICE, ACKNOWLEDGED = "tidal.dev/notice-deadline", "tidal.dev/notice-acknowledged"
JOBS, BUDGETS = "batch/v1/jobs", "policy/v1/poddisruptionbudgets"


@pytest.fixture
def rig(plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Rig]:
    with rig_of(plane, namespace, tmp_path) as one:
        yield one


@pytest.fixture
def diary(rig: Rig) -> Iterator[Diary]:
    with diary_of(rig) as one:
        yield one


def runs(rig: Rig, *jobs: str) -> None:
    for job in jobs:
        rig.has_ready(job, 1)


def annotation(rig: Rig, job: str, key: str) -> str:
    return str(rig.world.read(JOBS, job)["metadata"].get("annotations", {}).get(key, ""))


def leaving(item: Object) -> bool:
    return "deletionTimestamp" in item["metadata"]


def test_the_tide_lends_takes_back_and_lends_again(rig: Rig, diary: Diary) -> None:
    rig.nodes(2)
    rig.scheduler()
    rig.deployment("chat", 1)
    rig.job("night", gpus=8)
    script = rig.start(rig.policy(CHAT), chat__decode=900)
    rig.has_ready("chat", 1)
    rig.has_ready("night", 1)
    script.say("chat/decode", 11_500)
    rig.has_ready("chat", 12)
    assert rig.suspended("night")
    rig.bounds("chat/decode", 0, 1)
    rig.has_ready("night", 1)
    assert annotation(rig, "night", "tidal.dev/attempt") == "2"
    rig.has_ready("chat", 1)


def test_a_peak_evicts_through_the_api_and_a_budget_sends_it_to_another(
    rig: Rig, diary: Diary
) -> None:
    """The younger job has less to lose; its budget answers 429, so the older one gives way."""
    rig.nodes(2)
    rig.scheduler()
    rig.deployment("chat", 0)
    rig.job("old")
    script = rig.start(rig.policy(CHAT), chat__decode=0)
    runs(rig, "old")
    rig.job("young")
    (victim,) = rig.has_ready("young", 1)
    selector = {"matchLabels": {"app": "young"}}
    body = {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": selector}}
    rig.world.make(BUDGETS, body)
    eventually(lambda: rig.world.read(BUDGETS, "b")["status"].get("currentHealthy"), "counted")
    assert _refusal(rig, victim["metadata"]["name"]) == 429
    script.say("chat/decode", 3500)
    rig.has_ready("chat", 4)
    assert rig.suspended("old")
    assert not rig.suspended("young")
    assert {one["metadata"]["uid"] for one in rig.ready("young")} == {victim["metadata"]["uid"]}
    assert "EvictionByEvictionAPI" in diary.disrupted("old")
    rig.has_event("old", "Preempted")
    assert diary.disrupted("young") == set()


def _refusal(rig: Rig, name: str) -> int:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    with pytest.raises(ApiError) as caught:
        rig.api.post(rig.world.path("pods", name) + "/eviction", body, dryRun="All")
    return caught.value.status


def test_a_job_is_suspended_first_and_does_not_take_its_gpus_back(rig: Rig, diary: Diary) -> None:
    rig.nodes(1)
    rig.scheduler()
    rig.deployment("chat", 0)
    rig.job("night", pods=2, gpus=4, sim={"exit-seconds": "2"})
    script = rig.start(rig.policy(CHAT), chat__decode=0)
    rig.has_ready("night", 2)
    jobs = Log(rig.world, JOBS)
    script.say("chat/decode", 7500)
    rig.has_ready("chat", 8)
    suspended = next(version(one) for _, one in jobs.stop() if one["spec"]["suspend"])
    assert suspended < min(version(one) for _, one in diary.events if leaving(one))
    first = diary.when(lambda _, one: leaving(one))
    made = [
        one["metadata"]["labels"]["app"] for kind, one in diary.events[first:] if kind == "ADDED"
    ]
    assert "night" not in made
    assert rig.world.read(JOBS, "night")["status"].get("failed", 0) == 0


def test_exactly_the_planned_victims_and_kube_scheduler_preempts_nobody(
    rig: Rig, diary: Diary
) -> None:
    """Sixteen jobs on four full nodes, one replica of four GPUs that is allowed to preempt.

    Their pods take longer to end than kube-scheduler to hear of it: one that it would preempt and
    finds gone leaves the replica waiting for five minutes (kubernetes#141694).
    """
    rig.nodes(4)
    rig.scheduler()
    rig.deployment("chat", 0, gpus=4, spec={"priorityClassName": URGENT})
    names = [f"small-{number:02}" for number in range(16)]
    for name in names:
        rig.job(name, gpus=2, sim={"exit-seconds": "3"})
    script = rig.start(rig.policy(CHAT), chat__decode=0)
    runs(rig, *names)
    script.say("chat/decode", 900)
    (taker,) = rig.has_ready("chat", 1)
    rig.stays(lambda: sum(map(rig.suspended, names)) == 2, "two jobs give way, and no third")
    stopped = {name for name in names if rig.suspended(name)}
    left = {str(one["metadata"]["labels"]["app"]) for _, one in diary.events if leaving(one)}
    assert left == stopped
    homes = {one["spec"]["nodeName"] for name in stopped for _, one in diary.of(name)[-1:]}
    assert homes == {taker["spec"]["nodeName"]}


def test_a_notice_waits_for_the_acknowledgement(rig: Rig, diary: Diary) -> None:
    rig.nodes(1)
    rig.scheduler()
    rig.deployment("chat", 0)
    rig.job("night", annotations={"class": "checkpoint", "checkpoint-write-seconds": "5"})
    rig.start(_noticing(rig, 3600), chat__decode=0)
    (worker,) = rig.has_ready("night", 1)
    rig.bounds("chat/decode", 2, 8)
    deadline = eventually(lambda: annotation(rig, "night", NOTICE), "a notice")
    name = worker["metadata"]["name"]
    told = lambda: rig.world.read("pods", name)["metadata"]["annotations"].get(NOTICE)  # noqa: E731
    assert eventually(told, "the pod's notice") == deadline
    assert annotation(rig, "night", "tidal.dev/notice-for") == "chat/decode"
    rig.stays(lambda: not rig.suspended("night"), "it is left alone until it acknowledges")
    answer = {"metadata": {"annotations": {ACKNOWLEDGED: deadline}}}
    rig.api.patch(rig.world.path("pods", name), answer, "merge")
    rig.has_ready("chat", 2)
    assert rig.suspended("night")
    rig.has_event("night", "Notice")


def test_a_notice_without_answer_ends_at_its_deadline(rig: Rig, diary: Diary) -> None:
    rig.nodes(1)
    rig.scheduler()
    rig.deployment("chat", 0)
    rig.job("night", annotations={"class": "checkpoint", "checkpoint-write-seconds": "3"})
    rig.start(_noticing(rig, 6), chat__decode=0)
    rig.has_ready("night", 1)
    rig.bounds("chat/decode", 2, 8)
    deadline = seconds(eventually(lambda: annotation(rig, "night", NOTICE), "a notice"))
    rig.has_ready("chat", 2)
    ends = [one["metadata"] for _, one in diary.of("night") if leaving(one)]
    sent = seconds(ends[0]["deletionTimestamp"]) - ends[0]["deletionGracePeriodSeconds"]
    assert sent >= deadline - 1


def _noticing(rig: Rig, notice: float) -> Policy:
    terms = {"notice_seconds": notice, "minimum_runtime_seconds": 0}
    return rig.policy(CHAT, preemption=terms)


def test_a_run_has_its_minimum_runtime(rig: Rig, diary: Diary) -> None:
    rig.nodes(1)
    rig.scheduler()
    rig.deployment("chat", 0)
    rig.job("night")
    terms = {"notice_seconds": 2, "minimum_runtime_seconds": 12}
    script = rig.start(rig.policy(CHAT, preemption=terms), chat__decode=0)
    rig.has_ready("night", 1)
    begun = seconds(rig.world.read(JOBS, "night")["status"]["startTime"])
    script.say("chat/decode", 900)
    rig.has_ready("chat", 1)
    ends = [one["metadata"] for _, one in diary.of("night") if leaving(one)]
    sent = seconds(ends[0]["deletionTimestamp"]) - ends[0]["deletionGracePeriodSeconds"]
    assert sent >= begun + 11


def test_foreign_jobs_and_pods_without_marks_are_left_alone(rig: Rig, diary: Diary) -> None:
    rig.nodes(1)
    rig.scheduler()
    rig.deployment("chat", 0)
    rig.job("theirs", gpus=4)
    without = {"metadata": {"labels": {"tidal.dev/queue": None}}, "spec": {"suspend": False}}
    rig.api.patch(rig.world.path(JOBS, "theirs"), without, "merge")
    more = {"schedulerName": rig.scheduler_name}
    rig.world.make("pods", pod("lone", 2, spec=more, meta={"labels": {"app": "lone"}}))
    runs(rig, "theirs", "lone")
    script = rig.start(rig.policy(CHAT), chat__decode=0)
    script.say("chat/decode", 3500)
    rig.has_ready("chat", 2)
    rig.stays(lambda: len(rig.ready("theirs")) == len(rig.ready("lone")) == 1, "left alone")
    assert not any(leaving(one) for _, one in diary.events)
    assert not rig.suspended("theirs")
