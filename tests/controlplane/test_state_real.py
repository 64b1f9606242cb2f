"""What replicas of Tidal share, against a real API server: lease, plan, policy, Events, access."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from scheduler.adapters.cluster.access import Access, User
from scheduler.adapters.cluster.events import EventRecorder, Reference
from scheduler.adapters.cluster.lease import Leadership
from scheduler.adapters.cluster.policymap import PolicyConfigMap
from scheduler.adapters.cluster.shared import FencedOffError, PlanReader, PlanWriter, SharedPlan
from scheduler.adapters.wallclock import steady_seconds
from scheduler.apiserver.client import Api
from scheduler.planning.snapshot import Reservation
from tests.controlplane.kinds.world import eventually, within
from tests.controlplane.plane import ControlPlane

TAKEOVER_SECONDS = 15.0
GOOD = """
version: 1
mode: {mode}
models:
  chat:
    roles:
      decode: {{tokens: generated, capacity_tokens_per_second: {{H100: 1000}}}}
"""


@pytest.fixture
def api(plane: ControlPlane) -> Iterator[Api]:
    api = Api.load(plane.kubeconfig)
    yield api
    api.close()


def until(holds: Callable[[], bool]) -> None:
    eventually(holds, "what is awaited")


def replica(api: Api, namespace: str, name: str) -> Leadership:
    return Leadership(api, namespace, name, steady_seconds, time.time)


def plan(at: float, epoch: int, *nodes: str) -> SharedPlan:
    reservations = tuple(
        Reservation(
            id=f"r-{node}",
            owner="chat/decode",
            parts=((node, 8),),
            created_seconds=at,
            expires_seconds=at + 300,
        )
        for node in nodes
    )
    return SharedPlan(at_seconds=at, epoch=epoch, source="full", reservations=reservations)


def test_a_follower_acts_at_once_after_a_stop_and_soon_after_a_kill(
    api: Api, namespace: str
) -> None:
    one, two, three = (replica(api, namespace, name) for name in ("one", "two", "three"))
    one.start()
    until(lambda: one.is_leader)
    two.start()
    one.stop()
    within(lambda: two.is_leader, "the follower leads", TAKEOVER_SECONDS)
    assert (one.is_leader, two.epoch) == (False, 2)
    two._stopped.set()  # noqa: SLF001 - a kill: nothing is given back
    two._release = lambda: None  # type: ignore[method-assign]  # noqa: SLF001
    three.start()
    within(lambda: three.is_leader, "the follower leads", TAKEOVER_SECONDS)
    assert (two.is_leader, three.epoch) == (False, 3)
    three.stop()


def test_a_leader_outlives_a_restart_of_the_api_server_in_its_epoch(
    plane: ControlPlane, api: Api, namespace: str
) -> None:
    one = replica(api, namespace, "one")
    one.start()
    until(lambda: one.is_leader)
    plane.restart_apiserver()
    until(lambda: one.is_leader and not one.error)
    assert one.epoch == 1
    one.stop()


def test_a_plan_is_written_followed_fenced_and_read_back(api: Api, namespace: str) -> None:
    writer, blocks = PlanWriter(api, namespace), {"n0": "a", "n1": "b", "n2": "b"}
    reader = PlanReader(api, namespace)
    reader.start()
    first, second = plan(10.0, 1, "n0", "n1"), plan(20.0, 2, "n0", "n2")
    assert writer.write(first, blocks) == 3
    until(lambda: reader.newest() == first)
    assert writer.write(first, blocks) == 0
    assert writer.write(second, blocks) == 3
    until(lambda: reader.newest() == second)
    with pytest.raises(FencedOffError):
        writer.write(first, blocks)
    reader.stop()
    again = PlanReader(api, namespace)
    again.start()
    until(lambda: again.synced)
    assert again.newest() == second
    again.stop()


def test_two_writers_of_one_epoch_never_leave_halves(api: Api, namespace: str) -> None:
    reader, seen = PlanReader(api, namespace), set()
    reader.start()
    blocks = {f"n{number}": f"block-{number % 4}" for number in range(20)}

    def write(offset: int) -> None:
        writer = PlanWriter(api, namespace)
        for turn in range(10):
            nodes = [f"n{(turn + offset + step) % 20}" for step in range(6)]
            try:
                writer.write(plan(float(turn * 2 + offset), 1, *nodes), blocks)
            except Exception as error:  # noqa: BLE001 - a conflict is right
                assert "409" in str(error)  # noqa: PT017
            found = reader.newest()
            if found is not None:
                seen.add(found)
                assert len(found.reservations) == 6

    threads = [threading.Thread(target=write, args=(offset,)) for offset in (0, 1)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    # the last writes of the two may have met, so that nothing whole is there; the next mends it
    alone = plan(100.0, 1, "n0", "n7")
    PlanWriter(api, namespace).write(alone, blocks)
    until(lambda: reader.newest() == alone)
    assert reader.error == ""
    reader.stop()


def test_a_bad_edit_of_the_policy_is_refused_said_and_mended(
    plane: ControlPlane, api: Api, namespace: str
) -> None:
    everything = f"/api/v1/namespaces/{namespace}/configmaps"

    def put(mode: str) -> None:
        body = {"data": {"policy.yaml": GOOD.format(mode=mode)}}
        api.patch(f"{everything}/tidal-policy", body, "merge")

    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "tidal-policy"},
        "data": {"policy.yaml": GOOD.format(mode="act")},
    }
    api.post(everything, document)
    recorder = EventRecorder(api, time.time, "tidal-0")
    recorder.start()

    def opened() -> PolicyConfigMap:
        return PolicyConfigMap(
            api, namespace, "tidal-policy", recorder=recorder, leading=lambda: True
        )

    policy = opened()
    policy.start()
    kept = f"{everything}/tidal-policy-last-good"
    until(lambda: b"mode: act" in _found(api, kept))
    put("maybe")
    until(lambda: bool(policy.error))
    assert policy.current().mode == "act"
    assert opened().current().mode == "act"
    until(lambda: "PolicyRefused" in _reasons(api, namespace))
    put("recommend")
    until(lambda: policy.current().mode == "recommend")
    until(lambda: b"mode: recommend" in _found(api, kept))
    until(lambda: "PolicyInForce" in _reasons(api, namespace))
    policy.stop()
    recorder.stop()
    assert recorder.failed == 0
    said = plane.kubectl("-n", namespace, "describe", "configmap", "tidal-policy").stdout
    assert "the policy is refused and the last good one stays: mode:" in said


def _found(api: Api, path: str) -> bytes:
    try:
        return api.get(path)
    except Exception:  # noqa: BLE001 - not there yet
        return b""


def _events(api: Api, namespace: str) -> list[dict[str, Any]]:
    body = api.get(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")
    found: list[dict[str, Any]] = msgspec.json.decode(body)["items"]
    return found


def _reasons(api: Api, namespace: str) -> set[str]:
    return {one["reason"] for one in _events(api, namespace)}


def test_events_are_counted_and_those_of_nodes_lie_in_default(api: Api, namespace: str) -> None:
    recorder = EventRecorder(api, time.time, "tidal-0")
    recorder.start()
    job = Reference(api_version="batch/v1", kind="Job", namespace=namespace, name="j", uid="1")
    node = Reference(api_version="v1", kind="Node", name=f"node-of-{namespace}", uid="2")
    for _ in range(2):
        recorder.tell(job, "Normal", "Lent", "8 GPUs until 12:00")
    recorder.tell(node, "Warning", "Quarantined", "Xid 79")
    recorder.stop()
    assert (recorder.failed, recorder.dropped) == (0, 0)
    (event,) = _events(api, namespace)
    assert event["series"]["count"] == 2
    assert any(one["regarding"]["name"] == node.name for one in _events(api, "default"))


def test_rbac_decides_who_reads_the_api(plane: ControlPlane, api: Api, namespace: str) -> None:
    access = Access(api, steady_seconds)
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"reader-{namespace}"},
        "rules": [{"nonResourceURLs": ["/v1/*", "/metrics"], "verbs": ["get"]}],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"reader-{namespace}"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": f"reader-{namespace}",
        },
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
    }
    api.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", role)
    api.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 600},
    }
    token = msgspec.json.decode(api.post(path, request))["status"]["token"]
    user = access.user_of(token)
    assert user is not None
    assert user.username == f"system:serviceaccount:{namespace}:default"
    until(lambda: Access(api, steady_seconds).may(user, "get", "/v1/status"))
    assert access.may(user, "get", "/metrics")
    assert not access.may(user, "post", "/v1/status")
    assert not access.may(user, "get", "/v2/status")
    assert not access.may(User(username="ann"), "get", "/v1/status")
    assert access.user_of("no token at all") is None
