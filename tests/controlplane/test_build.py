"""Where the binaries of the control plane are looked for, and when they are built."""

import shutil
from pathlib import Path

import pytest

from tests.controlplane import build
from tests.controlplane.build import MODULES, folder_of, programs_of


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and nothing from the environment."""
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("TIDAL_CONTROLPLANE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fill(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def fill_cache() -> None:
    for module in MODULES:
        fill(folder_of(module), *programs_of(module))


def without_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)


def test_an_empty_cache_has_no_program() -> None:
    assert build.find("etcd") is None


def test_assets_go_first_and_the_cache_has_the_rest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fill_cache()
    fill(tmp_path / "assets", "etcd", "kube-apiserver")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    kubernetes = folder_of(MODULES[0])
    assert build.find("etcd") == tmp_path / "assets" / "etcd"
    assert build.find("kube-apiserver") == tmp_path / "assets" / "kube-apiserver"
    assert build.find("kube-scheduler") == kubernetes / "kube-scheduler"


def test_what_is_there_is_not_built_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill_cache()
    without_go(monkeypatch)
    assert build.main() == 0
    assert capsys.readouterr().err == ""


def test_assets_that_are_complete_need_no_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fill(tmp_path, *(name for module in MODULES for name in programs_of(module)))
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    without_go(monkeypatch)
    assert build.main() == 0


def test_without_go_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_go(monkeypatch)
    assert build.main() == 1
    assert "install Go 1.26 or later, or point KUBEBUILDER_ASSETS" in capsys.readouterr().err


def test_a_module_appears_whole_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(stand_in_go(cache, fails_for="etcd")))
    assert build.main() == 1
    assert build.find("kube-apiserver") is None
    monkeypatch.setenv("PATH", str(stand_in_go(cache, fails_for="nothing")))
    assert build.main() == 0
    assert build.find("kube-apiserver") == folder_of(MODULES[0]) / "kube-apiserver"
    assert not [file for file in cache.iterdir() if file.name.startswith("tmp")]


def stand_in_go(cache: Path, fails_for: str) -> Path:
    """A `go` that makes an empty file of the name after -o, unless it should fail for that name."""
    folder = cache.parent / "bin"
    folder.mkdir(exist_ok=True)
    script = f"#!/bin/sh\ncase $6 in *{fails_for}) exit 1;; esac\n: > $6\n"
    (folder / "go").write_text(script)
    (folder / "go").chmod(0o755)
    return folder
