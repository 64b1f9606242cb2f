"""The Job that users are told to start from, read as Tidal reads it."""

from pathlib import Path

import msgspec
import yaml

from scheduler.adapters.cluster.complaints import complaints
from scheduler.adapters.cluster.observed import Observed
from scheduler.apiserver import objects
from tests.fixtures.kubeobjects import NOW, deployment, node, policy, priority_class, snapshot

EXAMPLE = Path(__file__).parents[2] / "deploy/examples/job.yaml"


def test_the_example_job_declares_what_it_says() -> None:
    documents = yaml.safe_load_all(EXAMPLE.read_text())
    (job,) = (msgspec.convert(d, objects.Job) for d in documents if d["kind"] == "Job")
    world = Observed(
        nodes=(node("n0"),),
        jobs=(job,),
        deployments=(deployment("a", 1),),
        priority_classes=(priority_class("tidal-batch", 1000),),
    )
    rules = policy(decode={"kind": "Deployment", "name": "a"})
    (found,) = snapshot(world, rules, NOW).jobs
    assert complaints(world, rules) == ()
    assert (found.id, found.queue, found.state) == ("default/train", "night", "queued")
    assert (found.pods, found.gpus_per_pod, found.priority) == (2, 4, 1000)
    assert found.checkpoint_write_seconds == 30.0
    assert found.expected_remaining_seconds == 14_400.0
