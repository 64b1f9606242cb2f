"""The watches over a small API server, and over a real one where there are binaries."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes.client import Configuration

from scheduler.adapters.cluster.reduction import Pool
from scheduler.adapters.cluster.watching import Watching
from scheduler.apiserver.client import Api, ApiError, ApiUnreachableError
from tests.apiserver.served import Answer, Served, status, until
from tests.controlplane.plane import ControlPlane

GPU = "nvidia.com/gpu"
PODS, NODES = "/api/v1/pods", "/api/v1/nodes"
LWS = "/apis/leaderworkerset.x-k8s.io/v1/leaderworkersets"
BUILT_IN = {
    "/api/v1": ("nodes", "pods"),
    "/apis/batch/v1": ("jobs",),
    "/apis/apps/v1": ("deployments", "statefulsets"),
    "/apis/autoscaling/v2": ("horizontalpodautoscalers",),
    "/apis/policy/v1": ("poddisruptionbudgets",),
    "/apis/scheduling.k8s.io/v1": ("priorityclasses",),
}
CUSTOM = {"/apis/leaderworkerset.x-k8s.io/v1": ("leaderworkersets",)}


def announce(served: Served, kinds: dict[str, tuple[str, ...]]) -> None:
    """Let discovery find these."""
    groups = []
    for path, names in kinds.items():
        served.documents[path] = {"resources": [{"name": one} for one in names]}
        for one in names:
            served.serve(f"{path}/{one}")
        if path != "/api/v1":
            version = {"groupVersion": path.removeprefix("/apis/")}
            name = version["groupVersion"].partition("/")[0]
            groups.append({"name": name, "versions": [version], "preferredVersion": version})
    served.documents["/apis"] = {"groups": groups}


def container(**amounts: str) -> dict[str, Any]:
    return {"name": "main", "resources": {"requests": amounts}}


@pytest.fixture
def served() -> Iterator[Served]:
    with Served() as one:
        announce(one, BUILT_IN)
        yield one


@pytest.fixture
def watching(served: Served) -> Iterator[Watching]:
    api = Api(Configuration(host=served.url))
    one = Watching(api, (GPU,), discovery_seconds=0.02)
    yield one
    one.stop()
    api.close()


def test_everything_served_is_observed(served: Served, watching: Watching) -> None:
    served.put(NODES, "n1", status={"allocatable": {GPU: "8"}})
    served.put("/apis/batch/v1/jobs", "a/j1", spec={"suspend": True})
    assert (watching.synced, watching.staleness_seconds()) == (False, float("inf"))
    watching.start()
    until(lambda: watching.synced)
    seen = watching.observed()
    assert seen.nodes[0].status.allocatable == {GPU: "8"}
    assert seen.jobs[0].spec.suspend
    assert watching.versions["jobs.batch"] == "/apis/batch/v1"
    assert watching.versions["pods"] == "/api/v1"
    until(lambda: watching.staleness_seconds() == 0)
    assert watching.problems == ()


def test_only_pods_with_gpus_are_kept_with_our_annotations(
    served: Served, watching: Watching
) -> None:
    notes = {"tidal.dev/owner": "chat/decode", "example.com/large": "x" * 1000}
    limits = {"name": "main", "resources": {"limits": {GPU: "1"}}}
    served.put(PODS, "a/gpu", metadata={"annotations": notes}, spec={"containers": [limits]})
    served.put(PODS, "a/init", spec={"initContainers": [container(**{GPU: "1"})]})
    served.put(PODS, "a/none", spec={"containers": [container(cpu="1")]})
    watching.start()
    until(lambda: watching.synced)
    gpu, init = watching.observed().pods
    assert (gpu.metadata.name, init.metadata.name) == ("gpu", "init")
    assert gpu.metadata.annotations == {"tidal.dev/owner": "chat/decode"}


def test_pods_without_gpu_are_summed_by_node(served: Served, watching: Watching) -> None:
    half, two = container(cpu="500m", memory="1Gi"), container(cpu="2")
    served.put(PODS, "a/one", spec={"nodeName": "n1", "containers": [half, two]})
    served.put(PODS, "b/one", spec={"nodeName": "n1", "containers": [half]})
    served.put(PODS, "a/gpu", spec={"nodeName": "n1", "containers": [container(**{GPU: "1"})]})
    watching.start()
    until(lambda: watching.synced)
    assert watching.observed().cardless == {"n1": (3000, 2048)}
    assert watching.observed().cardless is watching.observed().cardless
    served.put(PODS, "a/two", spec={"nodeName": "n2", "containers": [two]})
    served.remove(PODS, "a/one")
    until(lambda: watching.observed().cardless == {"n1": (500, 1024), "n2": (2000, 0)})
    served.remove(PODS, "b/one")
    served.forget()
    until(lambda: watching.observed().cardless == {"n2": (2000, 0)})


def test_changes_are_told(served: Served) -> None:
    changed = threading.Event()
    api = Api(Configuration(host=served.url))
    watching = Watching(api, (GPU,), changed.set)
    watching.start()
    until(lambda: watching.synced)
    changed.clear()
    served.put(PODS, "a/one", spec={"containers": [container(**{GPU: "1"})]})
    assert changed.wait(60)
    until(lambda: len(watching.observed().pods) == 1)
    watching.stop()
    api.close()


def test_custom_kinds_come_and_go(served: Served, watching: Watching) -> None:
    watching.start()
    until(lambda: watching.synced)
    assert watching.observed().leader_worker_sets == ()
    announce(served, BUILT_IN | CUSTOM)
    served.put(LWS, "a/engine", spec={"replicas": 3})
    until(lambda: len(watching.observed().leader_worker_sets) == 1)
    announce(served, BUILT_IN)
    served.withdraw(LWS)
    until(lambda: watching.observed().leader_worker_sets == ())
    until(lambda: watching.synced and watching.problems == ())


def test_a_version_is_kept_while_it_is_served(served: Served, watching: Watching) -> None:
    old, new = "/apis/workloads.x-k8s.io/v1alpha1", "/apis/workloads.x-k8s.io/v1alpha2"
    name = "rolebasedgroups.workloads.x-k8s.io"
    announce(served, BUILT_IN | {old: ("rolebasedgroups",)})
    watching.start()
    until(lambda: watching.versions.get(name) == old)
    versions = [{"groupVersion": one.removeprefix("/apis/")} for one in (new, old)]
    announce(served, BUILT_IN | {old: ("rolebasedgroups",), new: ("rolebasedgroups",)})
    groups = [{"name": "workloads.x-k8s.io", "versions": versions, "preferredVersion": versions[0]}]
    served.documents["/apis"]["groups"] += groups
    asked = len(served.requests)
    until(lambda: sum(one.path == new for one in served.requests[asked:]) > 2)
    assert watching.versions[name] == old
    served.documents["/apis"]["groups"][-1]["versions"] = versions[:1]
    del served.documents[old]
    announce(served, BUILT_IN | {new: ("rolebasedgroups",)})
    until(lambda: watching.versions.get(name) == new and watching.synced)


def test_a_kind_that_may_not_be_read_is_a_problem(served: Served, watching: Watching) -> None:
    served.answers[NODES] = Answer(403, status(403, "Forbidden", "nodes is forbidden"))
    watching.start()
    until(lambda: any("nodes is forbidden" in one for one in watching.problems))
    assert not watching.synced


def test_a_server_that_is_not_there_yet_is_waited_for(served: Served, watching: Watching) -> None:
    served.stop()
    watching.start()
    until(lambda: any("discovery" in one for one in watching.problems))
    served.start()
    until(lambda: watching.synced)


def test_equal_values_are_held_once() -> None:
    pool = Pool()
    first, second = (pool.value(({"a": "b"}, 3)) for _ in range(2))
    assert first is second
    assert pool.value(({"a": "c"}, 3)) == ({"a": "c"}, 3)
    assert pool.texts({"a": "b"}) == {"a": "b"}


# ---- a real API server -----------------------------------------------------------------------


@pytest.fixture
def real(plane: ControlPlane) -> Iterator[tuple[Api, Watching]]:
    api = Api.load(plane.kubeconfig)
    one = Watching(api, (GPU,), discovery_seconds=0.2)
    one.start()
    until(lambda: one.synced)
    yield api, one
    one.stop()
    api.close()


def pod(name: str, node: str) -> dict[str, Any]:
    main = {"name": "main", "image": "x", "resources": {"limits": {GPU: "1"}}}
    spec = {"nodeName": node, "containers": [main], "terminationGracePeriodSeconds": 0}
    return {"metadata": {"name": name}, "spec": spec}


def names(watching: Watching, namespace: str) -> list[str]:
    pods = watching.observed().pods
    return [one.metadata.name for one in pods if one.metadata.namespace == namespace]


def test_pods_of_a_real_server_are_followed(real: tuple[Api, Watching], namespace: str) -> None:
    api, watching = real
    pods = f"/api/v1/namespaces/{namespace}/pods"
    api.post("/api/v1/nodes", {"metadata": {"name": "watched"}})
    until(lambda: [one.metadata.name for one in watching.observed().nodes] == ["watched"])
    for name in ("two", "one"):
        api.post(pods, pod(name, "watched"))
    until(lambda: names(watching, namespace) == ["one", "two"])
    mark = {"metadata": {"annotations": {"tidal.dev/owner": "chat/decode"}}}
    api.patch(f"{pods}/one", mark, "merge")
    until(lambda: watching.observed().pods[0].metadata.annotations != {})
    api.delete(f"{pods}/two")
    until(lambda: names(watching, namespace) == ["one"])
    assert watching.problems == ()


def test_a_real_server_refuses_in_words(real: tuple[Api, Watching], namespace: str) -> None:
    api, _ = real
    body = {"metadata": {"name": "lock"}, "data": {"a": "1"}}
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    api.post(maps, body)
    with pytest.raises(ApiError) as caught:
        api.post(maps, body)
    assert (caught.value.status, caught.value.reason) == (409, "AlreadyExists")
    with pytest.raises(ApiError) as caught:
        api.patch(f"{maps}/lock", [{"op": "test", "path": "/data/a", "value": "2"}], "json")
    assert caught.value.status == 422
    api.patch(
        f"{maps}/lock", {"apiVersion": "v1", "kind": "ConfigMap", **body}, "apply", force="true"
    )


def test_custom_kinds_of_a_real_server_come_and_go(
    real: tuple[Api, Watching], namespace: str
) -> None:
    api, watching = real
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    group, plural = "leaderworkerset.x-k8s.io", "leaderworkersets"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    kinds = {"plural": plural, "singular": "leaderworkerset", "kind": "LeaderWorkerSet"}
    spec = {"group": group, "names": kinds, "scope": "Namespaced", "versions": [version]}
    api.post(definitions, {"metadata": {"name": f"{plural}.{group}"}, "spec": spec})
    until(lambda: f"{plural}.{group}" in watching.versions)
    item = {"apiVersion": f"{group}/v1", "kind": "LeaderWorkerSet", "metadata": {"name": "engine"}}
    path = f"/apis/{group}/v1/namespaces/{namespace}/{plural}"
    api.post(path, item | {"spec": {"replicas": 2}})
    until(lambda: [one.spec.replicas for one in watching.observed().leader_worker_sets] == [2])
    api.delete(f"{definitions}/{plural}.{group}")
    until(lambda: f"{plural}.{group}" not in watching.versions)
    until(lambda: watching.observed().leader_worker_sets == () and watching.synced)


def test_a_restart_of_a_real_server_is_survived(
    plane: ControlPlane, real: tuple[Api, Watching], namespace: str
) -> None:
    api, watching = real
    pods = f"/api/v1/namespaces/{namespace}/pods"
    api.post("/api/v1/nodes", {"metadata": {"name": "watched"}})
    api.post(pods, pod("before", "watched"))
    until(lambda: names(watching, namespace) == ["before"])
    plane.stop_apiserver()
    until(lambda: watching.staleness_seconds() > 0 and watching.problems != ())
    assert names(watching, namespace) == ["before"]
    with pytest.raises(ApiUnreachableError):
        api.get("/version")
    plane.start_apiserver()
    api.post(pods, pod("after", "watched"))
    until(lambda: names(watching, namespace) == ["after", "before"])
    until(lambda: watching.staleness_seconds() == 0 and watching.problems == ())


def test_a_version_that_a_real_server_forgot_is_an_error_in_the_stream(
    plane: ControlPlane, real: tuple[Api, Watching]
) -> None:
    plane.restart_apiserver()
    (line,) = real[0].watch("/api/v1/pods", resourceVersion="1")
    event = json.loads(line)
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
