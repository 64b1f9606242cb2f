"""Builds and finds the binaries of the test control plane: `make controlplane`.

The binaries lie in a cache outside the checkout, one folder per module, keyed by its go.mod, go.sum
and sources; a second build with the same key does nothing, and needs no Go. A folder named by
KUBEBUILDER_ASSETS, as envtest users have it, goes first, binary by binary.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
KUBERNETES_VERSION = "1.36.3"
OLD_SCHEDULER_VERSION = "1.34.3"


@dataclass(frozen=True)
class Module:
    """One Go module: its folder, the packages to build as (binary, package), further names of the
    first binary, and the Kubernetes version stamped into it.
    """

    folder: Path
    packages: tuple[tuple[str, str], ...]
    links: tuple[str, ...] = ()
    version: str = ""


MODULES = (
    Module(
        HERE,
        (("kubernetes", "./cmd/kubernetes"), ("etcd", "./cmd/etcd")),
        ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"),
        KUBERNETES_VERSION,
    ),
    Module(
        HERE / "prometheus",
        (
            ("prometheus", "github.com/prometheus/prometheus/cmd/prometheus"),
            ("promtool", "github.com/prometheus/prometheus/cmd/promtool"),
        ),
    ),
    Module(
        HERE / "scheduler134",
        (("kube-scheduler-1.34", "."),),
        version=OLD_SCHEDULER_VERSION,
    ),
)


class BuildError(Exception):
    """Why the binaries cannot be built here, with what to do."""


def cache_root() -> Path:
    """Where built binaries are kept: TIDAL_CONTROLPLANE_CACHE, else the user's cache folder."""
    chosen = os.environ.get("TIDAL_CONTROLPLANE_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidal-controlplane"


def folder_of(module: Module) -> Path:
    """The cache folder of a module's binaries, named after all that they are made of."""
    recipe = " ".join([stamps(module.version), *names_of(module)])
    digest = hashlib.sha256(recipe.encode())
    sources = sorted(module.folder.glob("*.go")) + sorted(module.folder.glob("cmd/*/*.go"))
    for file in [module.folder / "go.mod", module.folder / "go.sum", *sources]:
        digest.update(file.read_bytes())
    return cache_root() / digest.hexdigest()[:16]


def find(name: str) -> Path | None:
    """The binary of this name: from KUBEBUILDER_ASSETS, else from the cache, else None."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (Path(assets) / name).exists():
        return Path(assets) / name
    for module in MODULES:
        if name in names_of(module):
            binary = folder_of(module) / name
            if binary.exists():
                return binary
    return None


def names_of(module: Module) -> tuple[str, ...]:
    """All names in a module's folder."""
    return tuple(name for name, _ in module.packages) + module.links


def programs_of(module: Module) -> tuple[str, ...]:
    """The names under which a module's binaries are started: one with links only under these."""
    hidden = {module.packages[0][0]} if module.links else set()
    return tuple(name for name in names_of(module) if name not in hidden)


def stamps(version: str) -> str:
    """Linker flags that write the version; without them clients cannot parse gitVersion."""
    if not version:
        return "-s -w"
    major, minor = version.split(".")[:2]
    values = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    settings = [f"-X {p}.{k}={v}" for p in packages for k, v in values.items()]
    return " ".join(["-s -w", *settings])


def compile_into(module: Module, folder: Path) -> None:
    """Builds every package of a module into a folder."""
    for binary, package in module.packages:
        target = str(folder / binary)
        command = ["go", "build", "-trimpath", "-ldflags", stamps(module.version)]
        subprocess.run(
            [*command, "-o", target, package],
            cwd=module.folder,
            env={**os.environ, "CGO_ENABLED": "0"},
            check=True,
        )
    for link in module.links:
        (folder / link).symlink_to(module.packages[0][0])


def build(module: Module) -> None:
    """Builds a module unless its folder is there; the folder appears at once, whole.

    Raises BuildError without Go.
    """
    folder = folder_of(module)
    if folder.exists():
        return
    if shutil.which("go") is None:
        raise BuildError(
            "no `go` on PATH: install Go 1.26 or later, or point KUBEBUILDER_ASSETS at a folder"
            f" with {', '.join(programs_of(module))}"
        )
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        compile_into(module, Path(scratch))
        Path(scratch).rename(folder)
        Path(scratch).mkdir()  # for the context to remove


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Waits until no other build uses the cache: two at once take twice as long."""
    cache_root().mkdir(parents=True, exist_ok=True)
    with (cache_root() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build_missing(module: Module) -> None:
    """Builds a module unless each of its programs is found somewhere. Says so, with the time."""
    if all(find(name) for name in programs_of(module)):
        return
    print(f"building {', '.join(programs_of(module))}", file=sys.stderr, flush=True)
    began = time.monotonic()
    build(module)
    print(f"  {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def main() -> int:
    """Builds what is missing and prints where each program is."""
    try:
        with alone():
            for module in MODULES:
                build_missing(module)
    except (BuildError, subprocess.CalledProcessError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name in (name for module in MODULES for name in programs_of(module)):
        print(f"{name:24} {find(name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
