"""Who signed the daemon's certificate: published, and published anew when the file changes."""

from pathlib import Path

import pytest

from scheduler.adapters.cluster.authority import Authority
from scheduler.apiserver.client import ApiUnreachableError
from tests.fixtures.memoryapi import MemoryApi, refusal

MAP = "/api/v1/namespaces/tidal/configmaps/tidal-api-ca"


@pytest.fixture
def api() -> MemoryApi:
    return MemoryApi()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ca.crt"
    path.write_text("one")
    return path


def published(api: MemoryApi) -> str:
    text: str = api.objects[MAP]["data"]["ca.crt"]
    return text


def test_a_new_authority_is_published_without_a_restart(api: MemoryApi, file: Path) -> None:
    authority = Authority(api, "tidal", file)
    authority.start()
    assert published(api) == "one"
    calls = len(api.calls)
    authority.refresh()
    assert len(api.calls) == calls, "the same file is not written again"
    file.write_text("two")
    authority.refresh()
    assert published(api) == "two"
    authority.stop()


def test_what_cannot_be_published_is_told_and_tried_again(api: MemoryApi, file: Path) -> None:
    authority = Authority(api, "tidal", file)
    authority.refresh()
    file.write_text("two")
    api.away("PATCH")
    authority.refresh()
    assert "--tls-ca" in authority.problem
    assert published(api) == "one"
    api.away()
    authority.refresh()
    assert (authority.problem, published(api)) == ("", "two")
    file.unlink()
    authority.refresh()
    assert str(file) in authority.problem


def test_a_start_without_the_api_server_fails(api: MemoryApi, file: Path) -> None:
    api.away("PATCH")
    with pytest.raises(ApiUnreachableError):
        Authority(api, "tidal", file).start()


def test_a_replica_that_was_faster_is_no_error(api: MemoryApi, file: Path) -> None:
    def other(method: str, path: str) -> None:
        if method == "POST":
            raise refusal(409, f"{path} already exists")

    api.before = other
    authority = Authority(api, "tidal", file)
    authority.refresh()
    assert authority.problem == ""
