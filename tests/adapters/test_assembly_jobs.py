"""Batch Jobs of a snapshot: states, pods, sizes, loans, and what is ignored."""

from typing import Any

import msgspec
import pytest

from scheduler.adapters.cluster.batchjobs import EXPECTED_SECONDS
from scheduler.apiserver.times import micro_text, text
from scheduler.planning import marks
from scheduler.planning.snapshot import Job, Loan
from tests.adapters.assembling import complained, lines_of, read, said, seen
from tests.fixtures.kubeobjects import (
    NOW,
    Part,
    job,
    job_pod,
    priority_class,
    suspended_job,
)

DEADLINE = text(NOW + 30)


def test_a_silent_job_is_killable_and_rigid() -> None:
    assert read(suspended_job("j", 3, gpus=2)) == Job(
        id="default/j",
        tenant="default",
        queue="night",
        priority=1,
        state="queued",
        pods=3,
        gpus_per_pod=2,
        cpu_milli_per_pod=2500,
        memory_mib_per_pod=8192,
        min_pods=3,
        max_pods=3,
        submitted_seconds=NOW - 3600,
        expected_remaining_seconds=EXPECTED_SECONDS,
    )


UP: tuple[str, Part] = ("n0", {})
BOUND: tuple[str, Part] = ("n0", {"phase": "Pending", "ready": False})
WAITS: tuple[str, Part] = ("", {})
GOES: tuple[str, Part] = ("n0", {"terminating": True})
DONE: tuple[str, Part] = ("n0", {"phase": "Succeeded"})


@pytest.mark.parametrize(
    ("suspended", "pods", "annotations", "state"),
    [
        (True, (), {}, "queued"),
        (True, (DONE,), {}, "queued"),
        (True, (UP, GOES), {}, "stopping"),
        (True, (GOES,), {marks.NOTICE_DEADLINE: DEADLINE}, "stopping"),
        (True, (), {marks.NOTICE_DEADLINE: DEADLINE}, "queued"),
        (False, (UP, UP), {}, "running"),
        (False, (UP,), {}, "starting"),
        (False, (UP, WAITS), {}, "starting"),
        (False, (UP, BOUND), {}, "starting"),
        (False, (UP, GOES), {}, "starting"),
        (False, (UP, UP, GOES), {}, "running"),
        (False, (UP, UP), {marks.NOTICE_DEADLINE: DEADLINE}, "notified"),
        (False, (DONE, DONE), {marks.NOTICE_DEADLINE: DEADLINE}, "starting"),
        (False, (), {marks.NOTICE_DEADLINE: DEADLINE}, "starting"),
        (False, (UP, UP), {marks.NOTICE_DEADLINE: "soon"}, "running"),
        (False, (UP, UP), {marks.NOTICE_DEADLINE: text(NOW - 2000)}, "running"),
        (
            False,
            (UP, UP),
            {marks.NOTICE_DEADLINE: DEADLINE, marks.ACKNOWLEDGED: DEADLINE},
            "acknowledged",
        ),
        (
            False,
            (UP, UP),
            {marks.NOTICE_DEADLINE: DEADLINE, marks.ACKNOWLEDGED: micro_text(NOW + 30)},
            "acknowledged",
        ),
        (
            False,
            (UP, UP),
            {marks.NOTICE_DEADLINE: DEADLINE, marks.ACKNOWLEDGED: text(NOW - 500)},
            "notified",
        ),
    ],
)
def test_states(suspended: bool, pods: Part, annotations: dict[str, str], state: str) -> None:
    make = suspended_job if suspended else job
    one = make("j", 2, annotations=annotations)
    found = read(one, *(job_pod("j", str(i), on, **more) for i, (on, more) in enumerate(pods)))
    assert found.state == state
    assert len(found.placed) == sum(1 for pod in pods if pod is not DONE)
    assert (found.notice_deadline_seconds is not None) == (state in ("notified", "acknowledged"))


def test_one_pod_acknowledges_for_all() -> None:
    one = job(
        "j", 2, annotations={marks.NOTICE_DEADLINE: DEADLINE, marks.NOTICE_FOR: "chat/decode"}
    )
    pods = (
        job_pod("j", "0", "n0"),
        job_pod("j", "1", "n0", annotations={marks.ACKNOWLEDGED: DEADLINE}),
    )
    found = read(one, *pods)
    assert (found.state, found.notice_for) == ("acknowledged", "chat/decode")
    assert found.notice_deadline_seconds == NOW + 30


def test_pods_hold_devices_in_the_jobs_name() -> None:
    found = seen(job("j", 2, gpus=2), pods=(job_pod("j", "b", "n0", gpus=2), job_pod("j", "a")))
    (one,) = found.jobs
    assert [(pod.name, pod.node, pod.devices) for pod in one.placed] == [
        ("j-a", "", ()),
        ("j-b", "n0", (0, 1)),
    ]
    assert found.nodes[0].devices[0].holders[0].owner == "default/j"
    assert one.started_seconds == NOW - 1000


def test_a_stopping_job_started_when_its_pods_were_bound() -> None:
    pods = (job_pod("j", "0", "n0", bound_seconds=NOW - 700, terminating=True),)
    assert read(suspended_job("j"), *pods).started_seconds == NOW - 700


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {"app": "x"}},
        {"status": {"conditions": [{"type": "Complete", "status": "True"}]}},
        {"status": {"conditions": [{"type": "Failed", "status": "True"}]}},
        {"spec": {"parallelism": 0}},
    ],
)
def test_jobs_that_are_not_tidals_or_finished_are_strangers(change: dict[str, Any]) -> None:
    found = seen(job("j", **change), pods=(job_pod("j", "0", "n0", terminating=True),))
    assert found.jobs == ()
    assert found.nodes[0].devices[0].holders[0].owner == "uid-default-j-0"


def test_a_job_whose_name_reads_like_a_roles_key_is_left_out_and_said() -> None:
    one = job("decode", namespace="chat")
    found = seen(one, pods=(job_pod("decode", "0", "n0", namespace="chat"),))
    assert found.jobs == ()
    assert [device.free for device in found.nodes[0].devices].count(False) == 1
    assert lines_of(one) == (
        "Job chat/decode: a role has the same name, so the Job is left out; rename it",
    )


@pytest.mark.parametrize(
    ("completions", "succeeded", "pods"), [(8, 0, 4), (8, 6, 2), (8, 8, 1), (None, 6, 4)]
)
def test_a_job_keeps_no_more_pods_than_are_missing(
    completions: int | None, succeeded: int, pods: int
) -> None:
    found = read(
        job("j", 4, spec={"completions": completions}, status={"succeeded": succeeded}),
        *(job_pod("j", str(i), "n0") for i in range(pods)),
    )
    assert (found.pods, found.min_pods, found.max_pods) == (pods, pods, pods)
    assert found.state == "running"


INDEXED = {"spec": {"completionMode": "Indexed"}}
BOTH = {marks.MIN_PODS: "2", marks.MAX_PODS: "8"}


@pytest.mark.parametrize(
    ("annotations", "change", "bounds", "lines"),
    [
        (BOTH, INDEXED, (2, 8), 0),
        ({marks.MIN_PODS: "2"}, INDEXED, (2, 4), 0),
        ({marks.MAX_PODS: "8"}, INDEXED, (4, 8), 0),
        (BOTH, {}, (4, 4), 1),
        (BOTH, {"spec": {"completionMode": "Indexed", "completions": 9}}, (4, 4), 1),
        ({marks.MIN_PODS: "5", marks.MAX_PODS: "8"}, INDEXED, (4, 4), 1),
        ({marks.MIN_PODS: "none"}, INDEXED, (4, 4), 1),
        ({marks.MIN_PODS: "0"}, INDEXED, (4, 4), 1),
    ],
)
def test_elastic_bounds(
    annotations: dict[str, str], change: Part, bounds: tuple[int, int], lines: int
) -> None:
    found = said(annotations, 4, **change)
    assert (found.min_pods, found.max_pods) == bounds
    assert len(complained(annotations, 4, **change)) == lines


@pytest.mark.parametrize(
    ("given", "remaining"),
    [
        ("5000", 4000.0),
        ("1100", 300.0),
        ("100", 100.0),
        ("-1", EXPECTED_SECONDS),
        ("nan", EXPECTED_SECONDS),
        ("1h", EXPECTED_SECONDS),
    ],
)
def test_expected_remaining(given: str, remaining: float) -> None:
    one = job("j", annotations={marks.EXPECTED_SECONDS: given})
    assert read(one, job_pod("j", "0", "n0")).expected_remaining_seconds == remaining
    readable = remaining < EXPECTED_SECONDS
    assert len(complained({marks.EXPECTED_SECONDS: given})) == (not readable)


@pytest.mark.parametrize(
    ("template", "weight"),
    [
        ({}, 5),
        ({"priorityClassName": "high"}, 100),
        ({"priorityClassName": "low"}, 1),
        ({"priorityClassName": "gone"}, 5),
        ({"priorityClassName": "high", "priority": 7}, 7),
        ({"priority": 1_000_000_000}, 10_000),
    ],
)
def test_priority_is_a_weight(template: dict[str, Any], weight: int) -> None:
    classes = (
        priority_class("high", 100),
        priority_class("low", -10),
        priority_class("usual", 5, default=True),
    )
    assert read(suspended_job("j", template=template), priority_classes=classes).priority == weight


def test_a_node_selector_decides_on_the_gpu_model() -> None:
    template = {"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100"}}
    assert said({marks.GPU_MODELS: "L4"}, template=template).gpu_models == ("H100",)


def test_pods_of_a_job_stand_by_completion_index() -> None:
    """By name, the tenth would come before the second."""
    key = "batch.kubernetes.io/job-completion-index"
    pods = tuple(job_pod("j", str(i), "n0", labels={key: str(i)}) for i in range(11))
    found = read(job("j", 11), *pods)
    assert [pod.name for pod in found.staying] == [f"j-{i}" for i in range(11)]


LOAN = Loan(
    id="l1",
    job="default/j",
    gpus=1,
    granted_seconds=NOW - 100,
    return_by_seconds=NOW + 900,
    promised_p99_seconds=60.0,
)


@pytest.mark.parametrize(
    ("given", "loans", "lines"),
    [
        (msgspec.json.encode(LOAN).decode(), (LOAN,), 0),
        ("{", (), 1),
        ("{}", (), 1),
        (msgspec.json.encode(msgspec.structs.replace(LOAN, job="default/k")).decode(), (), 1),
    ],
)
def test_loans(given: str, loans: tuple[Loan, ...], lines: int) -> None:
    one = job("j", annotations={marks.LOAN: given})
    assert seen(one, pods=(job_pod("j", "0", "n0"),)).loans == loans
    assert seen(suspended_job("j", annotations={marks.LOAN: given})).loans == ()
    assert len(complained({marks.LOAN: given})) == lines


def test_jobs_that_can_never_start_are_complained_about() -> None:
    jobs = (suspended_job("cpu", gpus=0), suspended_job("none", 0))
    lines = lines_of(*jobs)
    assert [line.partition(":")[0] for line in lines] == ["Job default/cpu", "Job default/none"]
    assert "nvidia.com/gpu" in lines[0]


@pytest.mark.parametrize("key", [marks.LAST_CHECKPOINT, marks.CHECKPOINT_STARTED])
def test_a_pods_annotation_that_cannot_be_read_is_ignored_and_complained_about(key: str) -> None:
    one = job("j", annotations={marks.CLASS: "checkpoint"})
    told = job_pod("j", "0", "n0", annotations={key: "just now"})
    stranger = job_pod("k", "0", "n0", annotations={key: "just now"})
    found = read(one, told)
    assert (found.last_checkpoint_seconds, found.checkpoint_started_seconds) == (None, None)
    (line,) = lines_of(one, pods=(told, stranger))
    assert line.startswith(f"Pod default/j-0: annotation {key} is 'just now'")


@pytest.mark.parametrize(
    "given", ["", " ", "9" * 5000, "\x00", "1e309", "-0", "٣", "2026-11-21T09:00:00"]
)
def test_whatever_stands_in_an_annotation_is_survived(given: str) -> None:
    keys = [value for name, value in vars(marks).items() if name.isupper() and value != marks.QUEUE]
    annotations = dict.fromkeys(keys, given) | {marks.CLASS: "checkpoint"}
    found = said(annotations)
    assert (found.state, found.min_pods, found.attempt) == ("queued", 1, 0)
    complained(annotations)
