"""Runs of Jobs: started, warned, stopped and resized, each named by its attempt."""

import msgspec
import pytest

from scheduler.planning.snapshot import Loan
from tests.adapters.actuating import (
    LOAN,
    NOW,
    World,
    controlled,
    job,
    meta,
    notify,
    path_of,
    pod,
    resize,
    start,
    stop,
)
from tests.adapters.fakeapi import BUDGET, UNREACHABLE, Object, refusal

JOB = path_of("jobs", "j")
NOTICE = {"tidal.dev/notice-deadline": "2027-01-15T08:01:00Z", "tidal.dev/notice-for": "m/r"}
RUN = {"tidal.dev/attempt": "1", "tidal.dev/loan": "{}"}


def runs(*names: str, **more: object) -> World:
    """A Job in its first run with these pods."""
    body = job(annotations=dict(RUN), **more)  # type: ignore[arg-type]
    labels = {"app": "j"}
    every = [pod(name, ("Job", "j"), meta={"labels": labels}) for name in names]
    return World().add("jobs", body).add("pods", *every)


def evicted(world: World, verb: str = "POST") -> list[str]:
    return [path.split("/")[-2] for path in world.api.wrote(verb) if path.endswith("/eviction")]


# ---- start -------------------------------------------------------------------------------------


def test_a_start_is_one_patch() -> None:
    old = {**NOTICE, "tidal.dev/notice-acknowledged": "x", "mine": "y"}
    world = World().add("jobs", job(suspend=True, annotations=old))
    assert world.apply(start(), epoch=3) == (True, "")
    assert world.api.wrote() == [JOB]
    assert world.now_at("jobs", "j")["spec"] == {
        "parallelism": 2,
        "completions": 2,
        "suspend": False,
    }
    notes = world.notes("jobs", "j")
    assert msgspec.json.decode(notes.pop("tidal.dev/loan"), type=Loan) == LOAN
    assert notes == {"tidal.dev/attempt": "1", "tidal.dev/epoch": "3", "mine": "y"}
    assert world.told == [("Job ns/j", "Loaned", "because")]


def test_a_second_start_is_refused() -> None:
    world = World().add("jobs", job(suspend=True))
    world.apply(start())
    assert world.apply(start()) == (False, "expected attempt 0, it is at 1")


ELASTIC = {"completionMode": "Indexed"}
BOUNDS = {"tidal.dev/min-pods": "1", "tidal.dev/max-pods": "4"}


def test_an_elastic_job_starts_with_parallelism_and_completions_alike() -> None:
    world = World().add("jobs", job(suspend=True, spec=ELASTIC, annotations=BOUNDS))
    assert world.apply(start(4)) == (True, "")
    spec = world.now_at("jobs", "j")["spec"]
    assert (spec["parallelism"], spec["completions"]) == (4, 4)


def test_pods_of_finished_work_are_not_asked_for() -> None:
    body = {**job(suspend=True), "status": {"succeeded": 1}}
    world = World().add("jobs", body)
    assert world.apply(start(1)) == (True, "")
    assert world.now_at("jobs", "j")["spec"]["parallelism"] == 2


def finished() -> Object:
    conditions = [{"type": "Complete", "status": "True"}]
    return {**job(suspend=True), "status": {"conditions": conditions}}


KUEUE = {"kueue.x-k8s.io/queue-name": "k"}
OF_A_SET = controlled("JobSet", "js")
FINISHED = "it is finished, or has no label tidal.dev/queue"
LARGER = {"parallelism": 3, "completions": 3}
UNSTARTABLE = [
    (
        job(suspend=True, labels=KUEUE),
        "Kueue suspends and resumes it: remove the label kueue.x-k8s.io/queue-name",
    ),
    (job(suspend=True, labels={"tidal.dev/queue": ""}), FINISHED),
    (finished(), FINISHED),
    (
        job(suspend=True, ownerReferences=OF_A_SET),
        "it belongs to JobSet js, which would undo it",
    ),
    (job(suspend=True, annotations={"tidal.dev/epoch": "2"}), "epoch 1 is fenced off by 2"),
    (job(suspend=True, annotations={"tidal.dev/attempt": "5"}), "expected attempt 0, it is at 5"),
    (job(suspend=True, spec=LARGER), "2 pods asked, it takes 3"),
    (job(), "it is not suspended"),
]


@pytest.mark.parametrize(("body", "detail"), UNSTARTABLE)
def test_what_is_not_tidals_to_start(body: Object, detail: str) -> None:
    world = World().add("jobs", body)
    assert world.apply(start()) == (False, detail)
    assert world.api.wrote() == []


def test_a_run_whose_pods_are_still_there_is_not_started_again() -> None:
    leaving = {"deletionTimestamp": "2027-01-15T08:00:00Z"}
    world = World().add("jobs", job(suspend=True)).add("pods", pod("p", ("Job", "j"), meta=leaving))
    assert world.apply(start()) == (False, "1 pods of the run before are still there")


def test_a_missing_job_is_said() -> None:
    assert World().apply(start()) == (False, "there is no job ns/j")


# ---- notice ------------------------------------------------------------------------------------


def test_a_notice_stands_on_the_job_and_its_pods() -> None:
    world = runs("p", "q")
    assert world.apply(notify()) == (True, "")
    assert world.api.wrote() == [JOB, path_of("pods", "p"), path_of("pods", "q")]
    assert world.notes("pods", "q") == NOTICE
    assert world.notes("jobs", "j").items() >= NOTICE.items()
    assert world.apply(notify()) == (False, "it has had its notice")


def test_a_pod_that_a_notice_missed_is_told_in_the_next_call() -> None:
    world = runs("p", "q")
    world.api.answers[f"PATCH {path_of('pods', 'p')}"] = [refusal(503)]
    assert world.apply(notify()) == (True, "not told yet: ns/p")
    world.actuator.reserve((), 1)
    assert world.notes("pods", "p") == NOTICE


# ---- stop --------------------------------------------------------------------------------------


def test_the_job_is_suspended_before_its_pods_are_evicted() -> None:
    world = runs("p", "q")
    assert world.apply(stop()) == (True, "")
    verbs = [(verb, path.rsplit("/", 2)[-1]) for verb, path, _ in world.api.calls]
    assert verbs == [
        ("DRY", "eviction"),
        ("DRY", "eviction"),
        ("PATCH", "j"),
        ("POST", "eviction"),
        ("POST", "eviction"),
    ]
    body = world.api.calls[-1][2]
    assert body["deleteOptions"] == {"preconditions": {"uid": "uid-q"}}
    assert world.now_at("jobs", "j")["spec"]["suspend"] is True
    notes = world.notes("jobs", "j")
    assert notes.pop("tidal.dev/stops").startswith("1:0@")
    assert notes == {"tidal.dev/attempt": "1", "tidal.dev/epoch": "1"}
    assert world.told == [("Job ns/j", "Preempted", "because")]


def test_a_stop_of_an_earlier_run_is_refused() -> None:
    world = runs("p")
    assert world.apply(stop(0)) == (False, "expected attempt 0, it is at 1")
    assert world.api.calls == []


def test_a_protected_job_is_not_stopped() -> None:
    world = World().add("jobs", job(annotations={**RUN, "tidal.dev/class": "protected"}))
    assert world.apply(stop()) == (False, "its tidal.dev/class is protected")


def test_a_budget_holds_a_job_back_for_a_while() -> None:
    world = runs("p", "q")
    world.api.answers[f"DRY {path_of('pods', 'q')}/eviction"] = [BUDGET]
    assert world.apply(stop()) == (False, "The disruption budget b needs 2")
    assert world.now_at("jobs", "j")["spec"]["suspend"] is False
    assert evicted(world) == []
    assert world.told == [("Job ns/j", "BlockedByBudget", "The disruption budget b needs 2")]
    assert world.actuator.blocked(NOW + 119) == {"ns/j": "The disruption budget b needs 2"}
    assert world.actuator.blocked(NOW + 120) == {}


def budget(allowed: int) -> Object:
    spec = {"selector": {"matchLabels": {"app": "j"}}}
    return {"metadata": meta("b"), "spec": spec, "status": {"disruptionsAllowed": allowed}}


def test_a_budget_needs_room_for_the_whole_gang() -> None:
    world = runs("p", "q").add("poddisruptionbudgets", budget(1))
    detail = "PodDisruptionBudget b allows 1 evictions of 2"
    assert world.apply(stop()) == (False, detail)
    assert world.api.calls == []
    assert world.actuator.blocked(NOW) == {"ns/j": detail}


def test_two_jobs_do_not_take_the_same_room() -> None:
    world = runs("p", "q").add("poddisruptionbudgets", budget(2))
    other = {**job(annotations=RUN), "metadata": {**job(annotations=RUN)["metadata"], "name": "k"}}
    world.add("jobs", other)
    world.add("pods", pod("r", ("Job", "k"), meta={"labels": {"app": "j"}}))
    outcomes = world.actuator.apply((stop(), stop(name="ns/k")), 1)
    assert sorted(one.applied for one in outcomes) == [False, True]


def test_two_budgets_over_one_pod_hold_it_back_too() -> None:
    world = runs("p")
    both = refusal(500, "InternalError", "This pod has more than one PodDisruptionBudget")
    world.api.answers[f"DRY {path_of('pods', 'p')}/eviction"] = [both]
    assert not world.apply(stop())[0]
    assert list(world.actuator.blocked(NOW)) == ["ns/j"]


def test_throttling_is_no_budget() -> None:
    world = runs("p")
    world.api.answers[f"DRY {path_of('pods', 'p')}/eviction"] = [refusal(429), refusal(429)]
    applied, detail = world.apply(stop())
    assert (applied, world.actuator.blocked(NOW)) == (False, {})
    assert detail.startswith("eviction of ns/p refused: 429")


@pytest.mark.parametrize("status", [404, 409])
def test_pods_that_are_gone_need_no_eviction(status: int) -> None:
    world = runs("p")
    for verb in ("DRY", "POST"):
        world.api.answers[f"{verb} {path_of('pods', 'p')}/eviction"] = [refusal(status)]
    assert world.apply(stop()) == (True, "")


@pytest.mark.parametrize("answer", [BUDGET, UNREACHABLE])
def test_an_eviction_refused_after_the_suspend_is_tried_again(answer: Exception) -> None:
    world = runs("p", "q")
    world.api.answers[f"POST {path_of('pods', 'p')}/eviction"] = [answer]
    assert world.apply(stop()) == (True, "1 evictions are tried again")
    assert evicted(world) == ["p", "q"]
    world.actuator.reserve((), 1)
    assert evicted(world) == ["p", "q", "p"]
    world.actuator.reserve((), 1)
    assert evicted(world) == ["p", "q", "p"]


def test_but_not_once_the_pod_is_going() -> None:
    world = runs("p")
    world.api.answers[f"POST {path_of('pods', 'p')}/eviction"] = [BUDGET]
    world.apply(stop())
    world.now_at("pods", "p")["metadata"]["deletionTimestamp"] = "2027-01-15T08:00:00Z"
    world.actuator.reserve((), 1)
    assert evicted(world) == ["p"]


def test_a_job_that_changed_meanwhile_is_not_evicted() -> None:
    world = runs("p")
    world.api.between = [
        lambda: world.now_at("jobs", "j")["metadata"]["annotations"].update(
            {"tidal.dev/attempt": "2"}
        )
    ]
    assert world.apply(stop()) == (False, "expected attempt 1, it is at 2")
    assert evicted(world) == []


# ---- resize ------------------------------------------------------------------------------------


def elastic() -> World:
    body = job(spec={**ELASTIC, "parallelism": 3, "completions": 3}, annotations={**RUN, **BOUNDS})
    world = World().add("jobs", body)
    for index in range(3):
        labels = {"batch.kubernetes.io/job-completion-index": str(index)}
        world.add("pods", pod(f"j-{index}", ("Job", "j"), meta={"labels": labels}))
    return world


@pytest.mark.parametrize(("pods", "release"), [(2, ["j-2"]), (1, ["j-1", "j-2"]), (4, [])])
def test_an_elastic_job_changes_both_counts(pods: int, release: list[str]) -> None:
    world = elastic()
    assert world.apply(resize(pods, *release)) == (True, "")
    now = world.now_at("jobs", "j")
    assert (now["spec"]["parallelism"], now["spec"]["completions"]) == (pods, pods)
    noted = "tidal.dev/stops" in now["metadata"]["annotations"]
    assert noted is bool(release), "to grow is no disturbance that a budget counts"


@pytest.mark.parametrize(
    ("pods", "release", "detail"),
    [
        (2, ["j-0"], "its highest indices go: j-2"),
        (2, [], "its highest indices go: j-2"),
        (5, [], "5 pods asked, it takes 1 to 4"),
        (3, [], "nothing to do: it has 3 pods"),
    ],
)
def test_a_resize_that_would_take_others_is_refused(
    pods: int, release: list[str], detail: str
) -> None:
    world = elastic()
    assert world.apply(resize(pods, *release)) == (False, detail)
    assert world.api.wrote() == []
