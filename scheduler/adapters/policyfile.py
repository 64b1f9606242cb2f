"""The policy from a file: read again when it changed, the last good one kept.

The file holds the policy document itself or a ConfigMap manifest with it under `policy.yaml`, so
that one file serves `kubectl apply` and the command line. A ConfigMap volume swaps a symbolic
link; what the path leads to is compared, not the link.
"""

from pathlib import Path

import yaml

from scheduler.planning.policy import Policy, PolicyError, parse

CONFIG_MAP_KEY = "policy.yaml"
MOST_BYTES = 1024 * 1024
"""A ConfigMap holds no more."""

Version = tuple[int, int, int]


class PolicyFile:
    """`current()` is the policy in force; `error` says why the newest edit was refused."""

    def __init__(self, path: Path) -> None:
        """Read the file; raise `PolicyError` with every error, since nothing good is known."""
        self._path = path
        self._version = _version(path)
        self._policy = read_policy(path)
        self.error: tuple[str, ...] = ()

    def current(self) -> Policy:
        """Return the last good policy, after a look at the file where it changed."""
        version = _version(self._path)
        if version != self._version:
            self._version = version
            self._reload()
        return self._policy

    def _reload(self) -> None:
        try:
            self._policy = read_policy(self._path)
        except PolicyError as error:
            self.error = error.errors
        else:
            self.error = ()


def read_policy(path: Path) -> Policy:
    """Return the file's policy, or raise `PolicyError` with one line per error."""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise PolicyError((f"{path}: cannot be read: {error.strerror}; name a file",)) from None
    if len(body) > MOST_BYTES:
        raise PolicyError((f"{path}: is larger than {MOST_BYTES} bytes; name a policy file",))
    return parse(_mapping(_unwrapped(_yaml(body, str(path)), str(path)), str(path)))


def _version(path: Path) -> Version | None:
    """Return what changes with every edit; None while there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _unwrapped(document: object, name: str) -> object:
    """Return the policy document of a ConfigMap manifest, anything else as it is."""
    if not isinstance(document, dict) or document.get("kind") != "ConfigMap":
        return document
    data = document.get("data")
    text = data.get(CONFIG_MAP_KEY) if isinstance(data, dict) else None
    if not isinstance(text, str):
        raise PolicyError((f"data.{CONFIG_MAP_KEY}: is missing in the ConfigMap; put it there",))
    return _yaml(text.encode(), f"{name} data.{CONFIG_MAP_KEY}")


def _mapping(document: object, name: str) -> dict[str, object]:
    if not isinstance(document, dict):
        raise PolicyError((f"{name}: holds no mapping; start with 'version: 1'",))
    odd = [key for key in document if not isinstance(key, str)]
    if odd:
        raise PolicyError((f"{odd[0]!r}: is no field name; write it as text",))
    return document


def _yaml(body: bytes, name: str) -> object:
    try:
        return yaml.load(body, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark is not None else ""
        why = getattr(error, "problem", None) or "is not YAML"
        raise PolicyError((f"{name}{where}: {why}; mend the YAML",)) from None


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, where YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:  # noqa: FBT001, FBT002 - PyYAML's signature
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} stands twice", key.start_mark
                )
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)
