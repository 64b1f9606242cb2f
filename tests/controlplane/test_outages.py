"""Parts fail while Tidal runs: its own replicas, the API server, Prometheus, the policy's text.

Everything is the real thing but the nodes and the engines: two `scalerctl run` processes, etcd, the
API server, kube-scheduler asking whichever replica lives, Prometheus scraping metrics of the pods.
"""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Self

import pytest
import yaml

from scheduler.adapters.ledger import open_ledger
from scheduler.adapters.policyfile import CONFIG_MAP_KEY
from scheduler.planning.actions import ScaleRole
from scheduler.wiring.parts import RETAIN_TICKS
from tests.controlplane.engines import history_of
from tests.controlplane.fleet import Fleet, ReplicaProcess, fleet_of, said
from tests.controlplane.kinds.world import WAIT_SECONDS, Object, eventually, within
from tests.controlplane.plane import ControlPlane
from tests.controlplane.rig import QUICK, rig_of

pytestmark = pytest.mark.controlplane

CHAT = {"chat/decode": {"target": {"kind": "Deployment", "name": "chat"}}}
SLOW_TO_SHRINK: Object = {"scale_down": {"stabilization_window_seconds": 1800}}
GROWS: dict[str, Object] = {"chat/decode": {**CHAT["chat/decode"], **SLOW_TO_SHRINK}}
"""A burst lasts a minute, and a slow machine may need longer for what a test does meanwhile."""
TAKEOVER_SECONDS = 15.0
HANDOVER_SECONDS = 6.0
DEPLOYMENTS, JOBS = "apps/v1/deployments", "batch/v1/jobs"
REPLICAS, EPOCH, ATTEMPT = "tidal.dev/replicas", "tidal.dev/epoch", "tidal.dev/attempt"
POLICY = "tidal-policy"
GATED: Object = {"schedulingGates": [{"name": "tidal.dev/gang"}]}
Find = Callable[[str], Path]


@pytest.fixture
def fleet(plane: ControlPlane, namespace: str, tmp_path: Path, program: Find) -> Iterator[Fleet]:
    """A small cluster with one serving pod, and no replica of Tidal yet."""
    with rig_of(plane, namespace, tmp_path) as rig, fleet_of(rig, program) as one:
        rig.nodes(2)
        rig.policy(GROWS)
        yield one


def serving(fleet: Fleet, replicas: int = 1) -> None:
    """Pods of the Deployment, ready, with a demand that needs one of them."""
    fleet.rig.scheduler()
    fleet.rig.deployment("chat", replicas)
    fleet.engines.rate = 900
    fleet.prometheus.start()


def two_replicas(fleet: Fleet) -> tuple[ReplicaProcess, ReplicaProcess]:
    """A leader and a follower that both see live metrics."""
    one, other = fleet.start(wait=False), fleet.start(wait=False)
    for each in (one, other):
        each.wait_until_it_plans()
        fleet.metrics_are(each, "live")
    eventually(lambda: one.leads != other.leads, "one of two leads")
    return (one, other) if one.leads else (other, one)


def settled(fleet: Fleet, least: int, seconds: float = WAIT_SECONDS) -> None:
    """Wait until at least so many serving pods are ready, as many as are wanted."""

    def look() -> bool:
        ready = len(fleet.rig.ready("chat"))
        return ready >= least and ready == fleet.replicas_wanted()

    eventually(look, f"{least} pods of chat ready", seconds)


def scaled_once_each(versions: list[Object]) -> list[int]:
    """Counts of a Deployment that only grew; each is Tidal's, and no version changed none."""
    counts = [one["spec"]["replicas"] for one in versions]
    assert counts == sorted(set(counts)), counts
    for one in versions[1:]:
        assert one["metadata"]["annotations"][REPLICAS] == str(one["spec"]["replicas"])
    return counts


class Asking:
    """Asks a replica's extender again and again from another thread."""

    def __init__(self, replica: ReplicaProcess, namespace: str) -> None:
        self.answers: list[Object | None] = []
        self._pod = {
            "metadata": {"name": "asked", "namespace": namespace, "uid": "asked"},
            "spec": {
                "containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]
            },
        }
        self._replica = replica
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._ended.wait(0.1):
            self.answers.append(self._replica.filter(self._pod, ["n-0001", "n-0002"]))


def test_a_killed_leader_is_followed_within_fifteen_seconds(fleet: Fleet) -> None:
    rig = fleet.rig
    serving(fleet)
    rig.job("night")
    leader, follower = two_replicas(fleet)
    rig.has_ready("night", 1)
    rig.plane.schedulers[-1].stop()  # so that what is reserved stays reserved
    chat, night = fleet.history(DEPLOYMENTS, "chat"), fleet.history(JOBS, "night")
    fleet.engines.burst(2000)
    eventually(lambda: fleet.replicas_wanted() >= 3, "the leader scales up")
    kept = eventually(lambda: reserved(fleet), "its reservations")
    epoch = epoch_of(fleet)
    with Asking(follower, fleet.world.namespace) as asking:
        leader.kill()
        scaled = fleet.replicas_wanted()
        fleet.engines.burst(3500)
        within(lambda: fleet.replicas_wanted() > scaled, "the follower acts", TAKEOVER_SECONDS)
    assert len(asking.answers) > 3
    assert all(one and not one["Error"] for one in asking.answers)
    eventually(lambda: epoch_of(fleet) > epoch, "a plan of the follower's")
    assert kept <= reserved(fleet)
    rig.scheduler()
    settled(fleet, 5)
    counts = scaled_once_each(chat.changes)
    assert counts[0] == 1
    assert counts[-1] >= 5
    epochs = [int(one) for one in chat.annotations(EPOCH)]
    assert epochs == sorted(set(epochs))
    assert epochs[0] <= epoch < epochs[-1]
    assert len(night.changes) == 1, "the job that runs was not touched"
    # The one that was killed comes back under its own name and follows.
    again = fleet.start()
    assert not again.leads


def epoch_of(fleet: Fleet) -> int:
    """The epoch of the shared plan."""
    plan = fleet.plan()
    return plan.epoch if plan else 0


def reserved(fleet: Fleet) -> set[str]:
    """Ids of the reservations in the shared plan."""
    plan = fleet.plan()
    return {one.id for one in plan.reservations} if plan else set()


def test_a_leader_that_is_told_to_end_hands_over_at_once(fleet: Fleet) -> None:
    serving(fleet)
    leader, follower = two_replicas(fleet)
    for one, words in ((leader, "leads, epoch"), (follower, f"follows {leader.name}")):
        text = said("status", "--server", one.url)
        assert f"this replica, {one.name}" in text
        assert words in " ".join(text.split())
        text = said("explain", "chat/decode", "--server", one.url)
        assert "chat/decode" in text
    eventually(lambda: leader.metric("tidal_leader") == 1, "the leader's metric")
    eventually(lambda: follower.metric("tidal_leader") == 0, "the follower's metric")
    ended = threading.Thread(target=leader.terminate)
    ended.start()
    within(lambda: follower.leads, "the follower leads", HANDOVER_SECONDS)
    ended.join()
    assert leader.program.status == 0
    fleet.engines.burst(2000)
    settled(fleet, 3)
    assert follower.terminate() == 0


def test_with_both_gone_pods_are_placed_and_gated_ones_wait(fleet: Fleet) -> None:
    rig, world = fleet.rig, fleet.world
    gated = {"target": {"kind": "Deployment", "name": "gated"}, "min_replicas": 1}
    rig.policy({**GROWS, "gated/decode": gated})
    rig.deployment("plain", 0)
    rig.deployment("gated", 1, spec=GATED)
    serving(fleet)
    replicas = two_replicas(fleet)
    rig.has_ready("gated", 1)
    for one in replicas:
        one.kill()
    rig.job("night", pods=2, gpus=4, spec=GATED)
    world.delete("pods", world.names("pods", "app=gated")[0])
    world.api.patch(world.path(DEPLOYMENTS, "plain"), {"spec": {"replicas": 1}}, "merge")
    rig.has_ready("plain", 1)
    eventually(lambda: waits_at_its_gate(fleet), "the gated pod comes again and waits")
    time.sleep(2)
    assert waits_at_its_gate(fleet)
    assert rig.suspended("night")
    assert world.all("pods", "app=night") == []
    fleet.start()
    rig.has_ready("gated", 1)
    rig.has_ready("night", 2)
    for name in ("plain", "chat"):
        rig.has_ready(name, 1)


def waits_at_its_gate(fleet: Fleet) -> bool:
    pods = fleet.world.all("pods", "app=gated")
    return len(pods) == 1 and "schedulingGates" in pods[0]["spec"]


def test_the_api_server_restarts_while_a_role_grows(fleet: Fleet, plane: ControlPlane) -> None:
    serving(fleet)
    fleet.rig.job("night")
    leader, follower = two_replicas(fleet)
    fleet.rig.has_ready("night", 1)
    fleet.engines.burst(2000)
    eventually(lambda: fleet.replicas_wanted() >= 3, "the leader scales up")
    plane.restart_apiserver()
    settled(fleet, 3)
    fleet.engines.burst(3000)
    settled(fleet, 4)
    for one in (leader, follower):
        assert one.program.running
        eventually(partial(untroubled, one), f"{one.name} has no problems")
    eventually(lambda: leader.leads != follower.leads, "one of two leads")
    for one in (leader, follower):
        one.terminate()
    counts = sorted(scaled(leader) + scaled(follower))
    assert counts == sorted(set(counts)), "no count was written twice"
    deployment, job = fleet.world.read(DEPLOYMENTS, "chat"), fleet.world.read(JOBS, "night")
    assert deployment["spec"]["replicas"] == counts[-1]
    assert deployment["metadata"]["annotations"][REPLICAS] == str(counts[-1])
    changes = deployment["metadata"]["generation"] - 1
    assert len(counts) <= changes <= len(counts) + 1, "one answer may be lost with the server"
    assert job["metadata"]["annotations"][ATTEMPT] == "1"
    assert job["metadata"]["generation"] == 2, "resumed once, and left alone since"


def untroubled(replica: ReplicaProcess) -> bool:
    return not replica.status["problems"]


def scaled(replica: ReplicaProcess) -> list[int]:
    """Counts that a replica has written, by its ledger."""
    with open_ledger(replica.ledger, RETAIN_TICKS) as ledger:
        ticks = [ledger.tick(line.number) for line in ledger.ticks(0, ledger.next_number() - 1)]
    return [
        one.action.replicas
        for tick in ticks
        for one in tick.outcomes
        if one.applied and isinstance(one.action, ScaleRole)
    ]


def test_missing_metrics_hold_what_serves_and_stop_new_loans(fleet: Fleet) -> None:
    rig = fleet.rig
    rig.policy(CHAT, cadence={**QUICK, "forecast_seconds": 5})
    rig.scheduler()
    rig.deployment("chat", 3)
    fleet.engines.rate = 900
    rig.has_ready("chat", 3)
    first = rig.ready("chat")[0]["metadata"]["name"]
    fleet.prometheus.backfill(history_of(fleet.world.namespace, first, 900))
    rig.job("night", gpus=4)
    chat, night = fleet.history(DEPLOYMENTS, "chat"), fleet.history(JOBS, "night")
    replica = fleet.start()
    fleet.metrics_are(replica, "absent")
    held(fleet, 3)
    assert rig.suspended("night")
    fleet.prometheus.start()
    rig.has_ready("night", 1)
    rig.has_ready("chat", 1)

    fleet.engines.burst(2000)
    settled(fleet, 3)
    fleet.prometheus.stop()
    fleet.metrics_are(replica, "stale")
    count = fleet.replicas_wanted()
    rig.job("late", gpus=4)
    held(fleet, count)
    assert rig.suspended("late")
    assert "does not answer" in " ".join(replica.status["problems"])
    assert "nothing more is lent" in replica.status["summary"]
    text = said("explain", f"{rig.world.namespace}/late", "--server", replica.url)
    assert "nothing more is lent" in " ".join(text.split())

    changes = len(chat.changes)
    fleet.prometheus.start()
    rig.has_ready("late", 1)
    fleet.engines.restart()
    pass_ticks(fleet, 8)
    counts = [one["spec"]["replicas"] for one in chat.changes[changes - 1 :]]
    assert counts == sorted(counts, reverse=True), "a counter that begins again is no demand"
    assert len(night.changes) == 2, "resumed once, and left alone since"


def held(fleet: Fleet, count: int) -> None:
    """Some full plans later the role wants what it had."""
    pass_ticks(fleet, 5)
    assert fleet.replicas_wanted() == count


def pass_ticks(fleet: Fleet, count: int) -> None:
    replica = fleet.living()[0]
    last = replica.status["tick"] + count
    eventually(lambda: replica.status["tick"] >= last, f"tick {last}")


def test_a_bad_edit_of_the_policy_is_refused_and_survives_a_restart(fleet: Fleet) -> None:
    rig, world = fleet.rig, fleet.world
    serving(fleet)
    good = rig.policy_file.read_text()
    wider = yaml.safe_dump({**yaml.safe_load(good), "mode": "recommend"})
    bad = good.replace("version: 1", "version: 1\nmod: act")
    body = {"metadata": {"name": POLICY}, "data": {CONFIG_MAP_KEY: good}}
    world.make("configmaps", body)
    replica = fleet.start("--policy-configmap", POLICY)
    eventually(lambda: kept_policy(fleet) == good, "the last good policy is kept")

    edit(fleet, bad)
    eventually(lambda: replica.status["policy_errors"], "the status shows it")
    assert "mod" in " ".join(replica.status["policy_errors"])
    rig.has_event(POLICY, "PolicyRefused")
    eventually(lambda: replica.metric("tidal_policy_errors") == 1, "the metric too")
    assert replica.status["mode"] == "act"
    assert kept_policy(fleet) == good

    assert replica.terminate() == 0
    replica = fleet.start("--policy-configmap", POLICY)
    assert replica.status["policy_errors"]
    fleet.metrics_are(replica, "live")
    fleet.engines.burst(2000)
    settled(fleet, 3)

    edit(fleet, wider)
    eventually(lambda: replica.status["mode"] == "recommend", "the mended policy is in force")
    assert not replica.status["policy_errors"]
    rig.has_event(POLICY, "PolicyInForce")
    eventually(lambda: kept_policy(fleet) == wider, "the new last good policy")
    assert replica.terminate() == 0


def edit(fleet: Fleet, text: str) -> None:
    body = {"data": {CONFIG_MAP_KEY: text}}
    fleet.world.api.patch(fleet.world.path("configmaps", POLICY), body, "merge")


def kept_policy(fleet: Fleet) -> str:
    found = fleet.world.found("configmaps", f"{POLICY}-last-good")
    return str(found["data"][CONFIG_MAP_KEY]) if found else ""


def test_a_recommendation_is_exported_and_nothing_is_touched(fleet: Fleet) -> None:
    rig = fleet.rig
    rig.policy(GROWS, mode="recommend")
    serving(fleet)
    rig.job("night")
    chat, night = fleet.history(DEPLOYMENTS, "chat"), fleet.history(JOBS, "night")
    replica = fleet.start()
    fleet.metrics_are(replica, "live")
    fleet.engines.burst(2000)
    line = 'tidal_role_desired_replicas{role="chat/decode"}'
    eventually(lambda: (replica.metric(line) or 0) >= 3, "a recommendation")
    held(fleet, 1)
    for history in (chat, night):
        (only,) = history.changes
        notes = only["metadata"].get("annotations", {})
        assert not [name for name in notes if name.startswith("tidal.dev/")]
    assert replica.terminate() == 0
