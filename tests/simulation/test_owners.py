"""The owners of played Jobs: lives led by snapshots, annotations and courses as answers."""

import msgspec

from scheduler.planning import marks
from scheduler.planning.snapshot import Job, Pod
from scheduler.simulation import demomanifests as manifests
from scheduler.simulation.events import JobLine
from scheduler.simulation.jobs import JobSpec
from scheduler.simulation.owners import Course, Owners, Told
from scheduler.simulation.worldfile import load_world

BATCH = load_world().batch
START = BATCH.first_start_seconds
NAME = "ns/j"
SPEC = JobSpec(
    id="j",
    tenant="research",
    priority=1,
    pods=1,
    gpus_per_pod=4,
    min_pods=1,
    max_pods=1,
    submitted_seconds=0.0,
    duration_seconds=1000.0,
    declared_seconds=900.0,
    checkpoint_interval_seconds=300.0,
    checkpoint_write_seconds=20.0,
    writes_on_notice=True,
    restart_seconds=50.0,
)
KILLABLE = msgspec.structs.replace(
    SPEC, checkpoint_interval_seconds=None, checkpoint_write_seconds=0.0, writes_on_notice=False
)
HELD = (Pod(name="p", uid="u", gpus=4, node="n", devices=(0, 1, 2, 3)),)


def job(state: str, placed: tuple[Pod, ...] = (), deadline: float | None = None) -> Job:
    return Job(
        id=NAME,
        tenant="research",
        priority=1,
        state=state,  # type: ignore[arg-type]
        pods=1,
        gpus_per_pod=4,
        min_pods=1,
        max_pods=1,
        submitted_seconds=0.0,
        expected_remaining_seconds=900.0,
        notice_deadline_seconds=deadline,
        placed=placed,
    )


def look(owners: Owners, now: float, found: Job | None) -> tuple[list[Told], list[JobLine]]:
    said = list(owners.look({} if found is None else {NAME: found}, now))
    told = [one for one in said if isinstance(one, Told)]
    return told, [one for one in said if isinstance(one, JobLine)]


def test_the_first_course_is_the_whole_job_with_its_checkpoints() -> None:
    owners = Owners(BATCH)
    assert owners.submit(NAME, SPEC) == Course(START, 1000.0 + 3 * 20.0)
    assert Owners(BATCH).submit(NAME, KILLABLE) == Course(START, 1000.0)


def test_a_job_waits_until_it_is_seen_to_run() -> None:
    owners = Owners(BATCH)
    owners.submit(NAME, SPEC)
    assert owners.waiting == 1
    _, lines = look(owners, 0.0, job("queued"))
    assert [one.state for one in lines] == ["queued"]
    assert owners.waiting == 1
    _, lines = look(owners, 10.0, job("running", HELD))
    assert lines[0].gpus == ("n/0", "n/1", "n/2", "n/3")
    assert owners.waiting == 0
    assert look(owners, 20.0, job("running", HELD)) == ([], [])


def test_a_notice_is_acknowledged_when_the_checkpoint_is_written() -> None:
    owners = Owners(BATCH)
    owners.submit(NAME, SPEC)
    look(owners, 0.0, job("running", HELD))
    told, _ = look(owners, 110.0, job("notified", HELD, deadline=170.0))
    assert told == []
    told, _ = look(owners, 131.0, job("notified", HELD, deadline=170.0))
    assert told == [Told(NAME, last_checkpoint_seconds=130.0, acknowledged_seconds=170.0)]
    assert look(owners, 140.0, job("acknowledged", HELD, deadline=170.0)) == ([], [])


def test_a_stopped_job_goes_on_from_its_checkpoint() -> None:
    owners = Owners(BATCH)
    owners.submit(NAME, SPEC)
    look(owners, 0.0, job("running", HELD))
    look(owners, 110.0, job("notified", HELD, deadline=170.0))
    look(owners, 131.0, job("notified", HELD, deadline=170.0))
    look(owners, 150.0, job("stopping", HELD))
    told, lines = look(owners, 200.0, job("queued"))
    assert told == [Told(NAME, course=Course(50.0, 900.0 + 2 * 20.0))]
    assert (lines[0].kept_gpu_seconds, lines[0].lost_gpu_seconds) == (400.0, 0.0)
    assert look(owners, 210.0, job("queued")) == ([], [])


def test_a_killed_job_begins_anew_and_its_work_is_lost() -> None:
    owners = Owners(BATCH)
    owners.submit(NAME, KILLABLE)
    look(owners, 0.0, job("running", HELD))
    look(owners, START + 100.0, job("stopping", HELD))
    told, lines = look(owners, START + 160.0, job("queued"))
    assert told == [Told(NAME, course=Course(50.0, 1000.0))]
    assert (lines[0].kept_gpu_seconds, lines[0].lost_gpu_seconds) == (0.0, 400.0)


def test_a_job_that_is_seen_no_more_has_finished() -> None:
    owners = Owners(BATCH)
    owners.submit(NAME, KILLABLE)
    assert look(owners, 0.0, None) == ([], [])
    look(owners, 10.0, job("running", HELD))
    _, lines = look(owners, 1100.0, None)
    assert (lines[0].state, lines[0].kept_gpu_seconds) == ("done", 4000.0)
    assert (owners.finished, owners.waiting) == (1, 0)


def test_a_census_says_every_job() -> None:
    owners = Owners(BATCH)
    owners.submit(NAME, KILLABLE)
    look(owners, 0.0, job("running", HELD))
    said = list(owners.look({NAME: job("running", HELD)}, START + 50.0, census=True))
    assert [one.kept_gpu_seconds for one in said if isinstance(one, JobLine)] == [200.0]


def test_declarations_are_those_that_the_daemon_reads() -> None:
    body = manifests.job(SPEC, BATCH, Course(10.0, 1000.0), "s")
    notes = body["metadata"]["annotations"]
    assert notes == {
        marks.TENANT: "research",
        marks.CLASS: "checkpoint",
        marks.EXPECTED_SECONDS: "900",
        marks.CHECKPOINT_INTERVAL: "300",
        marks.CHECKPOINT_WRITE: "20",
        marks.RESTART_SECONDS: "50",
    }
    assert body["metadata"]["labels"][marks.QUEUE] == "research"
    life = body["spec"]["template"]["metadata"]["annotations"]
    assert life["tidal.dev/sim-run-seconds"] == "1000"
    killable = manifests.job(KILLABLE, BATCH, Course(10.0, 1000.0), "s")
    assert marks.CLASS not in killable["metadata"]["annotations"]
