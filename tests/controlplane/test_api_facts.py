"""What Tidal assumes of an API server's answers, asked of a real one through its own client."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scheduler.apiserver.client import Api, ApiError
from tests.controlplane.plane import ControlPlane

ABSENT_UID = "00000000-0000-0000-0000-000000000000"
CORE = "/api/v1"
WAIT_SECONDS = 120.0


@pytest.fixture
def api(plane: ControlPlane) -> Iterator[Api]:
    client = Api.load(plane.kubeconfig)
    yield client
    client.close()


@pytest.fixture
def pods(namespace: str) -> str:
    """The path of the pods of a new namespace."""
    return f"{CORE}/namespaces/{namespace}/pods"


def make_pod(api: Api, pods: str, name: str = "one", **spec: object) -> dict[str, Any]:
    """A pod that no scheduler takes."""
    container = {"name": "main", "image": "none"}
    spec = {"schedulerName": "nobody", "containers": [container], **spec}
    metadata = {"name": name, "labels": {"app": name}, "annotations": {"tidal.dev/epoch": "3"}}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    made: dict[str, Any] = msgspec.json.decode(api.post(pods, body))
    return made


def bind(api: Api, pods: str, name: str, node: str, uid: str | None = None) -> None:
    metadata = {"name": name} if uid is None else {"name": name, "uid": uid}
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    body = {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target}
    api.post(f"{pods}/{name}/binding", body)


def evict(api: Api, pods: str, name: str, **options: object) -> None:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    api.post(f"{pods}/{name}/eviction", {**body, "deleteOptions": options})


def refusal(act: Callable[[], object]) -> ApiError:
    """The refusal with which an action ends."""
    with pytest.raises(ApiError) as refused:
        act()
    return refused.value


def details(error: ApiError) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(error.body).get("details", {})
    return found


# -- binding -----------------------------------------------------------------------------------


@pytest.mark.parametrize("node", ["gpu-0", "gpu-1"])
def test_a_pod_is_bound_once(api: Api, pods: str, node: str) -> None:
    make_pod(api, pods)
    bind(api, pods, "one", "gpu-0")
    error = refusal(lambda: bind(api, pods, "one", node))
    assert (error.status, error.reason) == (409, "Conflict")
    assert 'already assigned to node "gpu-0"' in error.message


def test_a_binding_to_a_node_that_is_not_there_is_accepted(api: Api, pods: str) -> None:
    make_pod(api, pods)
    bind(api, pods, "one", "no-such-node")
    bound = msgspec.json.decode(api.get(f"{pods}/one"))
    assert bound["spec"]["nodeName"] == "no-such-node"


def test_a_binding_of_another_pod_of_that_name_is_refused(api: Api, pods: str) -> None:
    made = make_pod(api, pods)
    error = refusal(lambda: bind(api, pods, "one", "gpu-0", ABSENT_UID))
    assert (error.status, error.reason) == (409, "Conflict")
    bind(api, pods, "one", "gpu-0", made["metadata"]["uid"])


def test_a_gated_pod_is_not_bound(api: Api, pods: str) -> None:
    make_pod(api, pods, schedulingGates=[{"name": "tidal.dev/gang"}])
    error = refusal(lambda: bind(api, pods, "one", "gpu-0"))
    assert (error.status, error.reason) == (409, "Conflict")
    assert "schedulingGates" in error.message
    api.patch(f"{pods}/one", [{"op": "remove", "path": "/spec/schedulingGates"}], "json")
    bind(api, pods, "one", "gpu-0")


def test_a_missing_pod_is_not_bound(api: Api, pods: str) -> None:
    error = refusal(lambda: bind(api, pods, "one", "gpu-0"))
    assert (error.status, error.reason) == (404, "NotFound")


# -- eviction and deletion -----------------------------------------------------------------------


def protect(api: Api, namespace: str, app: str, healthy: int = 1) -> None:
    """A budget that keeps one ready pod of an app, when its controller has counted so many."""
    path = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": app}}}
    metadata = {"name": "budget"}
    body = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata}
    api.post(path, {**body, "spec": spec})
    deadline = time.monotonic() + WAIT_SECONDS
    while counted(api, f"{path}/budget") != healthy:
        assert time.monotonic() < deadline, "the budget never counted its pods"
        time.sleep(0.02)


def counted(api: Api, budget: str) -> int:
    return int(msgspec.json.decode(api.get(budget))["status"].get("currentHealthy", 0))


def make_ready(api: Api, pods: str, name: str) -> None:
    ready = {"type": "Ready", "status": "True"}
    status = {"phase": "Running", "conditions": [ready]}
    api.patch(f"{pods}/{name}/status", {"status": status}, "strategic")


def test_an_eviction_starts_the_grace_period(api: Api, pods: str) -> None:
    make_pod(api, pods)
    bind(api, pods, "one", "gpu-0")
    make_ready(api, pods, "one")
    evict(api, pods, "one", gracePeriodSeconds=120)
    left = msgspec.json.decode(api.get(f"{pods}/one"))["metadata"]
    assert left["deletionGracePeriodSeconds"] == 120


def test_an_eviction_that_breaks_a_budget_is_refused(api: Api, pods: str, namespace: str) -> None:
    make_pod(api, pods)
    make_ready(api, pods, "one")
    protect(api, namespace, "one")
    error = refusal(lambda: evict(api, pods, "one"))
    assert (error.status, error.reason) == (429, "TooManyRequests")
    assert [cause["reason"] for cause in details(error)["causes"]] == ["DisruptionBudget"]
    assert error.retry_after_seconds == 0
    assert "deletionTimestamp" not in msgspec.json.decode(api.get(f"{pods}/one"))["metadata"]


def test_an_eviction_of_another_pod_of_that_name_still_spends_the_budget(
    api: Api, pods: str, namespace: str
) -> None:
    """The controller gives it back after two minutes."""
    for name in ("one", "two"):
        make_pod(api, pods, name)
        api.patch(f"{pods}/{name}", {"metadata": {"labels": {"app": "both"}}}, "merge")
        make_ready(api, pods, name)
    protect(api, namespace, "both", healthy=2)
    wrong = {"uid": ABSENT_UID}
    assert refusal(lambda: evict(api, pods, "one", preconditions=wrong)).status == 409
    assert refusal(lambda: evict(api, pods, "two")).status == 429


def test_a_missing_pod_is_not_evicted(api: Api, pods: str) -> None:
    error = refusal(lambda: evict(api, pods, "one"))
    assert (error.status, error.reason) == (404, "NotFound")


@pytest.mark.parametrize("act", ["evict", "delete"])
def test_another_pod_of_that_name_is_not_ended(api: Api, pods: str, act: str) -> None:
    """The pod runs: for a pending one the server asks itself again for 10 s before it refuses."""
    made = make_pod(api, pods, terminationGracePeriodSeconds=0)
    bind(api, pods, "one", "gpu-0")
    make_ready(api, pods, "one")

    def end(uid: str) -> None:
        if act == "evict":
            evict(api, pods, "one", preconditions={"uid": uid})
        else:
            api.delete(f"{pods}/one", {"preconditions": {"uid": uid}})

    error = refusal(lambda: end(ABSENT_UID))
    assert (error.status, error.reason) == (409, "Conflict")
    end(made["metadata"]["uid"])
    assert refusal(lambda: api.get(f"{pods}/one")).status == 404


# -- guarded writes ------------------------------------------------------------------------------


def test_a_json_patch_whose_test_fails_changes_nothing(api: Api, pods: str) -> None:
    make_pod(api, pods)
    path = "/metadata/annotations/tidal.dev~1epoch"
    raised = [{"op": "test", "path": path, "value": "2"}, {"op": "replace", "path": path}]
    raised[1]["value"] = "4"
    error = refusal(lambda: api.patch(f"{pods}/one", raised, "json"))
    assert (error.status, error.reason, details(error)) == (422, "Invalid", {})
    kept = msgspec.json.decode(api.get(f"{pods}/one"))["metadata"]["annotations"]
    assert kept == {"tidal.dev/epoch": "3"}
    raised[0]["value"] = "3"
    api.patch(f"{pods}/one", raised, "json")


def test_a_json_patch_with_an_invalid_value_has_details(api: Api, pods: str) -> None:
    make_pod(api, pods)
    moved = [{"op": "add", "path": "/spec/nodeName", "value": "gpu-0"}]
    error = refusal(lambda: api.patch(f"{pods}/one", moved, "json"))
    assert (error.status, error.reason) == (422, "Invalid")
    assert details(error)["causes"]


def test_a_write_with_a_stale_version_is_refused(api: Api, pods: str) -> None:
    stale = make_pod(api, pods)
    api.patch(f"{pods}/one", {"metadata": {"labels": {"seen": "yes"}}}, "merge")
    version = stale["metadata"]["resourceVersion"]
    guarded = {"metadata": {"resourceVersion": version, "labels": {"seen": "no"}}}
    compared = [{"op": "test", "path": "/metadata/resourceVersion", "value": version}]
    merge = refusal(lambda: api.patch(f"{pods}/one", guarded, "merge"))
    json = refusal(lambda: api.patch(f"{pods}/one", compared, "json"))
    assert [merge.status, json.status] == [409, 422]
    assert merge.reason == "Conflict"
    assert details(json) == {}


def test_what_is_there_is_not_made_again(api: Api, pods: str) -> None:
    make_pod(api, pods)
    error = refusal(lambda: make_pod(api, pods))
    assert (error.status, error.reason) == (409, "AlreadyExists")


# -- watches, selectors, rights ------------------------------------------------------------------


def test_a_watch_from_too_long_ago_says_410_in_its_stream(
    plane: ControlPlane, api: Api, pods: str
) -> None:
    old = make_pod(api, pods)["metadata"]["resourceVersion"]
    make_pod(api, pods, "two")
    plane.restart_apiserver()
    with_lines = api.watch(pods, resourceVersion=old)
    event = msgspec.json.decode(next(with_lines))
    with_lines.close()
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
    assert event["object"]["reason"] == "Expired"


def test_a_field_that_has_no_index_cannot_be_selected(api: Api, pods: str) -> None:
    assert refusal(lambda: api.get(pods, fieldSelector="spec.priority=1")).status == 400


def test_a_user_without_the_right_is_told_which(
    plane: ControlPlane, namespace: str, pods: str
) -> None:
    guest = Api.load(plane.kubeconfig_for_service_account(namespace, "default"))
    error = refusal(lambda: bind(guest, pods, "one", "gpu-0"))
    guest.close()
    assert (error.status, error.reason) == (403, "Forbidden")
    assert 'cannot create resource "pods/binding"' in error.message


def test_an_unknown_token_is_refused(plane: ControlPlane, pods: str, tmp_path: Path) -> None:
    known = plane.kubeconfig_for_service_account("default", "default").read_text()
    token = next(line for line in known.splitlines() if "token:" in line)
    unknown = tmp_path / "kubeconfig"
    unknown.write_text(known.replace(token, f"{token}x"))
    stranger = Api.load(unknown)
    error = refusal(lambda: stranger.get(pods))
    stranger.close()
    assert (error.status, error.reason) == (401, "Unauthorized")
