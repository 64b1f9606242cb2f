from collections.abc import Iterator

import pytest
from kubernetes.client import Configuration

from scheduler.apiserver.client import Api, ApiUnreachableError
from scheduler.apiserver.discovery import Discovery
from tests.apiserver.served import Answer, Served, status

WANTED = ("pods", "jobs.batch", "widgets.example.com", "absent.example.com")


@pytest.fixture
def served() -> Iterator[Served]:
    with Served() as one:
        versions = [{"groupVersion": f"example.com/{name}"} for name in ("v1", "v2")]
        group = {"name": "example.com", "versions": versions, "preferredVersion": versions[1]}
        batch = {"name": "batch", "versions": [{"groupVersion": "batch/v1"}]}
        one.documents["/apis"] = {"groups": [group, batch]}
        for path, name in (
            ("/api/v1", "pods"),
            ("/apis/batch/v1", "jobs"),
            ("/apis/example.com/v1", "widgets"),
            ("/apis/example.com/v2", "widgets"),
        ):
            one.documents[path] = {"resources": [{"name": name}, {"name": f"{name}/status"}]}
        yield one


@pytest.fixture
def discovery(served: Served) -> Iterator[Discovery]:
    api = Api(Configuration(host=served.url))
    yield Discovery(api, WANTED)
    api.close()


def test_the_preferred_version_is_chosen(discovery: Discovery) -> None:
    discovery.refresh()
    assert discovery.versions == {
        "pods": "/api/v1",
        "jobs.batch": "/apis/batch/v1",
        "widgets.example.com": "/apis/example.com/v2",
    }


def test_a_version_without_the_resource_is_passed_over(
    served: Served, discovery: Discovery
) -> None:
    served.documents["/apis/example.com/v2"] = {"resources": None}
    discovery.refresh()
    assert discovery.versions["widgets.example.com"] == "/apis/example.com/v1"


def test_a_group_that_does_not_answer_keeps_what_was_known(
    served: Served, discovery: Discovery
) -> None:
    down = Answer(503, status(503, "ServiceUnavailable"))
    served.answers["/apis/batch/v1"] = down
    discovery.refresh()
    assert "jobs.batch" not in discovery.versions
    del served.answers["/apis/batch/v1"]
    discovery.refresh()
    served.answers["/apis/batch/v1"] = down
    discovery.refresh()
    assert discovery.versions["jobs.batch"] == "/apis/batch/v1"
    served.documents["/apis"]["groups"] = []
    discovery.refresh()
    assert discovery.versions == {"pods": "/api/v1"}


def test_without_a_server_what_was_known_stays(served: Served, discovery: Discovery) -> None:
    discovery.refresh()
    before = discovery.versions
    served.stop()
    with pytest.raises(ApiUnreachableError):
        discovery.refresh()
    served.start()
    assert discovery.versions == before
