"""Builds and finds the binaries of the test control plane: `make controlplane`.

The binaries lie in a cache outside the checkout, one folder per module, keyed by its go.sum, its
sources and the Go version; a second build with the same key does nothing. A folder named by
KUBEBUILDER_ASSETS, as envtest users have it, goes first, binary by binary.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
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


def go_version() -> str | None:
    """The Go version on PATH, as `go1.26.8`; None without Go."""
    if shutil.which("go") is None:
        return None
    # Not in the module's folder: there GOTOOLCHAIN may want another toolchain.
    return subprocess.run(
        ["go", "env", "GOVERSION"], capture_output=True, text=True, check=True, cwd="/"
    ).stdout.strip()


def cache_root() -> Path:
    """Where built binaries are kept: TIDAL_CONTROLPLANE_CACHE, else the user's cache folder."""
    chosen = os.environ.get("TIDAL_CONTROLPLANE_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidal-controlplane"


def folder_of(module: Module) -> Path | None:
    """The cache folder of a module's binaries; None without Go, which is part of the key."""
    version = go_version()
    if version is None:
        return None
    digest = hashlib.sha256(version.encode())
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
            folder = folder_of(module)
            if folder is not None and (folder / name).exists():
                return folder / name
    return None


def names_of(module: Module) -> tuple[str, ...]:
    """All names under which a module's binaries are started."""
    return tuple(name for name, _ in module.packages) + module.links


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


def build(module: Module) -> Path:
    """Builds a module unless its folder is complete; the folder appears at once, whole.

    Raises BuildError without Go.
    """
    folder = folder_of(module)
    if folder is None:
        raise BuildError(
            "no `go` on PATH: install Go 1.26, or point KUBEBUILDER_ASSETS at etcd, kube-apiserver,"
            " kube-controller-manager, kube-scheduler, prometheus and promtool"
        )
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        compile_into(module, Path(scratch))
        Path(scratch).rename(folder)
        Path(scratch).mkdir()
    return folder


def main() -> int:
    """Builds all modules and prints one JSON line for each: folder and seconds."""
    for module in MODULES:
        if all(find(name) is not None for name in names_of(module) if name != "kubernetes"):
            continue
        began = time.monotonic()
        print(f"building {', '.join(names_of(module))}", file=sys.stderr, flush=True)
        try:
            build(module)
        except (BuildError, subprocess.CalledProcessError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        print(f"  {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    found = {name: str(find(name)) for module in MODULES for name in names_of(module)}
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
