"""Where batch jobs come from: the seeded generator, and files."""

from pathlib import Path

import numpy as np
import pytest

from scheduler.simulation.clusterfile import ClusterSpec, build, parse_cluster
from scheduler.simulation.jobfile import JobsError, load_jobs
from scheduler.simulation.jobs import DrawnJobs, JobSpec, ListedJobs, shapes
from scheduler.simulation.worldfile import load_world

BATCH = load_world().batch
CLUSTER = build(32)


def drawn(cluster: ClusterSpec = CLUSTER, seed: int = 1) -> DrawnJobs:
    return DrawnJobs(BATCH, cluster, np.random.default_rng(seed))


def take(source: DrawnJobs, count: int) -> list[JobSpec]:
    return list(source.due(0.0, BATCH.backlog - count))


def test_a_job_depends_on_its_number_alone() -> None:
    at_once = take(drawn(), 90)
    source = drawn()
    one_by_one = [job for _ in range(90) for job in take(source, 1)]
    assert at_once == one_by_one
    assert [job.id for job in at_once[:2]] == ["job-00001", "job-00002"]
    assert take(drawn(seed=2), 90) != at_once


def test_the_backlog_is_filled_and_no_more() -> None:
    source = drawn()
    assert len(list(source.due(0.0, 0))) == BATCH.backlog
    assert list(source.due(5.0, BATCH.backlog)) == []
    assert [job.submitted_seconds for job in source.due(10.0, BATCH.backlog - 1)] == [10.0]


def test_large_sizes_become_pods_of_8_and_owners_misjudge() -> None:
    source = drawn()
    jobs = [job for _ in range(10) for job in source.due(0.0, 0)]
    assert {job.gpus for job in jobs} == {1, 2, 4, 8, 16, 32, 64}
    assert all(job.gpus_per_pod == min(8, job.gpus) for job in jobs)
    errors = np.log([job.declared_seconds / job.duration_seconds for job in jobs])
    assert abs(float(np.mean(errors))) < 0.05
    assert 0.25 < float(np.std(errors)) < 0.35
    writing = [job for job in jobs if job.checkpoint_interval_seconds is not None]
    assert 0.7 < len(writing) / len(jobs) < 0.8
    assert all(not job.writes_on_notice for job in jobs if job not in writing)
    elastic = [job for job in jobs if job.min_pods < job.pods]
    assert elastic
    assert all(job.pods > 1 for job in elastic)


def test_what_no_leaf_can_hold_is_drawn_again() -> None:
    small = build(2)  # two leaves of one node of 8
    assert max(job.gpus for job in take(drawn(small), 90)) == 8
    tiny = parse_cluster(
        {"nodes": [{"name": "a", "gpu_model": "X-80GB", "gpus": 2, "switch_path": ["l"]}]}
    )
    assert {job.gpus for job in take(drawn(tiny), 90)} == {1, 2}


def test_a_leaf_holds_what_its_nodes_of_one_model_hold() -> None:
    assert shapes(build(32)).fits(16, 8)
    assert not shapes(build(32)).fits(17, 8)
    assert shapes(build(32)).fits(32, 4)
    assert not shapes(build(32)).fits(1, 9)


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


CSV = (
    "id,tenant,gpus_per_pod,pods,submitted_seconds,duration_seconds,gpu_models,"
    "writes_on_notice,checkpoint_interval_seconds\n"
    "b,x,8,2,60,3600,H100-SXM-80GB;H200-SXM-141GB,true,600\n"
    "a,x,1,,-30,10,,,\n"
)


def test_a_csv_and_a_yaml_say_the_same(tmp_path: Path) -> None:
    yaml = """
- {id: b, tenant: x, gpus_per_pod: 8, pods: 2, submitted_seconds: 60, duration_seconds: 3600,
   gpu_models: [H100-SXM-80GB, H200-SXM-141GB], writes_on_notice: true,
   checkpoint_interval_seconds: 600}
- {id: a, tenant: x, gpus_per_pod: 1, submitted_seconds: -30, duration_seconds: 10}
"""
    jobs = load_jobs(written(tmp_path, "jobs.csv", CSV), CLUSTER)
    assert jobs == load_jobs(written(tmp_path, "jobs.yaml", yaml), CLUSTER)
    assert (jobs[0].gpus, jobs[0].declared_seconds, jobs[0].max_pods) == (16, 3600.0, 2)
    source = ListedJobs(jobs)
    assert [job.id for job in source.due(0.0, 0)] == ["a"]
    assert [job.id for job in source.due(60.0, 0)] == ["b"]
    assert list(source.due(1e9, 0)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gpus_per_pod": 0}, "0.gpus_per_pod: "),
        ({"gpus_per_pod": 9}, "0.pods: no leaf holds 1 pods of 9 GPUs"),
        ({"pods": 200}, "no leaf holds 200 pods"),
        ({"duration_seconds": -1}, "0.duration_seconds: "),
        ({"colour": "red"}, "0.colour: "),
        ({"min_pods": 3, "pods": 2}, "min_pods <= pods <= max_pods"),
        ({"writes_on_notice": "true"}, "needs checkpoint_interval_seconds"),
        ({"gpu_models": "[B300]"}, "0.gpu_models: no node has B300"),
    ],
)
def test_a_job_that_cannot_be_is_refused(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    row = {"id": "a", "tenant": "x", "gpus_per_pod": 1, "submitted_seconds": 0}
    fields = row | {"duration_seconds": 10} | change
    text = "- {" + ", ".join(f"{name}: {value}" for name, value in fields.items()) + "}"
    with pytest.raises(JobsError) as refused:
        load_jobs(written(tmp_path, "jobs.yaml", text), CLUSTER)
    assert said in str(refused.value)


def test_an_id_occurs_once(tmp_path: Path) -> None:
    text = "id,tenant,gpus_per_pod,submitted_seconds,duration_seconds\na,x,1,0,9\na,x,1,0,9\n"
    with pytest.raises(JobsError, match="a occurs twice"):
        load_jobs(written(tmp_path, "jobs.csv", text), CLUSTER)


def test_a_row_with_too_many_cells_is_refused(tmp_path: Path) -> None:
    text = "id,tenant,gpus_per_pod,submitted_seconds,duration_seconds\na,x,1,0,9,oops\n"
    with pytest.raises(JobsError, match="more cells than the header"):
        load_jobs(written(tmp_path, "jobs.csv", text), CLUSTER)
