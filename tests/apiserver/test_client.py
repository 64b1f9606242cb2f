import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from scheduler.apiserver.client import Api, ApiError, ApiUnreachableError, ConfigurationError
from tests.apiserver.served import Answer, Served, status, until

PODS = "/api/v1/pods"


@pytest.fixture
def served() -> Iterator[Served]:
    with Served() as one:
        one.serve(PODS)
        yield one


@pytest.fixture
def api(served: Served, tmp_path: Path) -> Iterator[Api]:
    one = Api.load(kubeconfig(tmp_path, served.url, {}))
    yield one
    one.close()


def kubeconfig(folder: Path, url: str, user: dict[str, object]) -> Path:
    names = {"cluster": "here", "user": "me"}
    document = {
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": user}],
        "contexts": [{"name": "both", "context": names}],
        "current-context": "both",
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(document))
    return file


def test_bytes_come_back_as_they_are(served: Served, api: Api) -> None:
    served.documents["/version"] = {"gitVersion": "v1.36.3"}
    assert json.loads(api.get("/version")) == {"gitVersion": "v1.36.3"}


def test_bodies_and_queries_go_out(served: Served, api: Api) -> None:
    api.post(PODS, {"a": 1}, dryRun="All", **{"continue": "x y"})
    (request,) = served.requests
    assert (request.method, json.loads(request.body)) == ("POST", {"a": 1})
    assert request.query == {"dryRun": "All", "continue": "x y"}
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["User-Agent"].startswith("tidal/")


@pytest.mark.parametrize(
    ("form", "content", "query"),
    [
        ("json", "application/json-patch+json", {}),
        ("merge", "application/merge-patch+json", {}),
        ("strategic", "application/strategic-merge-patch+json", {}),
        ("apply", "application/apply-patch+yaml", {"fieldManager": "tidal"}),
    ],
)
def test_patches_say_what_they_are(
    served: Served, api: Api, form: str, content: str, query: dict[str, str]
) -> None:
    api.patch(PODS, [], form)  # type: ignore[arg-type]
    (request,) = served.requests
    assert (request.headers["Content-Type"], request.query) == (content, query)


def test_delete_has_options_or_no_body(served: Served, api: Api) -> None:
    api.delete(PODS)
    api.delete(PODS, {"gracePeriodSeconds": 0})
    assert [request.body for request in served.requests] == [b"", b'{"gracePeriodSeconds":0}']


def test_a_refusal_says_why_in_one_line(served: Served, api: Api) -> None:
    body = status(409, "Conflict", "it was\nchanged")
    served.refuse("write", Answer(409, body, {"Retry-After": "3"}))
    with pytest.raises(ApiError) as caught:
        api.post(PODS, {})
    error = caught.value
    assert (error.status, error.reason, error.body) == (409, "Conflict", body)
    assert error.retry_after_seconds == 3.0
    assert str(error) == "409 Conflict: it was changed"


def test_a_refusal_that_is_no_status_is_quoted(served: Served, api: Api) -> None:
    served.refuse("list", Answer(502, b"<html>bad gateway</html>"))
    with pytest.raises(ApiError, match="502 <html>bad gateway"):
        api.get(PODS)


def test_redirects_are_not_followed(served: Served, api: Api) -> None:
    served.refuse("list", Answer(302, b"", {"Location": "http://example.com/"}))
    with pytest.raises(ApiError, match="302"):
        api.get(PODS)


def test_a_connection_that_fails_is_told_apart(served: Served, api: Api) -> None:
    served.refuse("list", Answer())
    with pytest.raises(ApiUnreachableError, match=f"GET {served.url}{PODS}"):
        api.get(PODS)
    api.get(PODS)
    served.stop()
    with pytest.raises(ApiUnreachableError):
        api.get(PODS)
    served.start()
    api.get(PODS)


def test_a_proxy_is_not_used_on_loopback(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    Api.load(kubeconfig(tmp_path, served.url, {})).get(PODS)
    assert len(served.requests) == 1


def test_a_path_before_the_api_is_kept(served: Served, tmp_path: Path) -> None:
    served.serve("/k8s/clusters/c-1/api/v1/pods")
    Api.load(kubeconfig(tmp_path, f"{served.url}/k8s/clusters/c-1/", {})).get(PODS)
    assert served.requests[0].path == "/k8s/clusters/c-1/api/v1/pods"


def test_tokens_go_along(served: Served, tmp_path: Path) -> None:
    Api.load(kubeconfig(tmp_path, served.url, {"token": "secret"})).get(PODS)
    assert served.requests[0].headers["Authorization"] == "Bearer secret"


def test_plugins_that_give_tokens_are_asked(served: Served, tmp_path: Path) -> None:
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "from-plugin"},
    }
    plugin = tmp_path / "plugin"
    plugin.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    asked = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(plugin),
        "interactiveMode": "Never",
    }
    Api.load(kubeconfig(tmp_path, served.url, {"exec": asked})).get(PODS)
    assert served.requests[0].headers["Authorization"] == "Bearer from-plugin"


@pytest.mark.parametrize("content", [None, "", "[]", "{", "current-context: x\n", "a: b"])
def test_a_kubeconfig_that_cannot_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=str(file)):
        Api.load(file)


def test_an_unknown_context_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="elsewhere"):
        Api.load(kubeconfig(tmp_path, "http://127.0.0.1:1", {}), "elsewhere")


def test_a_watch_brings_lines_until_the_server_ends_it(served: Served, api: Api) -> None:
    served.put(PODS, "a", text="x" * 200_000)
    served.put(PODS, "b")
    watch = api.watch(PODS, resourceVersion="0")
    lines = [json.loads(next(watch)) for _ in range(2)]
    assert [one["object"]["metadata"]["name"] for one in lines] == ["a", "b"]
    served.end_watches()
    assert list(watch) == []


def test_a_watch_that_breaks_off_says_so(served: Served, api: Api) -> None:
    watch = api.watch(PODS, resourceVersion="0")
    until(lambda: served.watching == 1)
    served.cut_watches()
    with pytest.raises(ApiUnreachableError, match="broke off"):
        next(watch)
    assert list(watch) == []


def test_another_thread_can_end_a_watch(served: Served, api: Api) -> None:
    watch = api.watch(PODS, resourceVersion="0")
    rest: list[bytes] = []
    reader = threading.Thread(target=lambda: rest.extend(watch))
    reader.start()
    watch.close()
    reader.join(60)
    assert (reader.is_alive(), rest) == (False, [])


def test_closing_the_client_ends_everything(served: Served, api: Api) -> None:
    watch = api.watch(PODS, resourceVersion="0")
    api.close()
    assert list(watch) == []
    with pytest.raises(ApiUnreachableError, match="closed"):
        api.get(PODS)


def test_a_refused_watch_is_an_error(served: Served, api: Api) -> None:
    served.refuse("watch", Answer(403, status(403, "Forbidden", "no")))
    with pytest.raises(ApiError, match="403 Forbidden: no"):
        api.watch(PODS, resourceVersion="0")
