"""The policy from a file: read again when it changed, the last good one kept.

The file holds the policy document itself or a ConfigMap manifest with it under `policy.yaml`, so
that one file serves `kubectl apply` and the command line. Its bytes are compared, because the
times and numbers of a file may be the same after an edit.
"""

import re
from pathlib import Path

import yaml

from scheduler.planning.policy import Policy, PolicyError, parse

CONFIG_MAP_KEY = "policy.yaml"
BOOLEAN = "tag:yaml.org,2002:bool"
TRUE_OR_FALSE = re.compile(r"true|false|True|False|TRUE|FALSE")
MOST_BYTES = 1024 * 1024
"""A ConfigMap holds no more."""


class PolicyFile:
    """`current()` is the policy in force; `error` says why the newest edit was refused."""

    def __init__(self, path: Path) -> None:
        """Read the file; raise `PolicyError` with every error, since nothing good is known."""
        self._path = path
        self._body: bytes | None = _body(path)
        self._policy = parsed(self._body, str(path))
        self.error: tuple[str, ...] = ()

    def current(self) -> Policy:
        """Return the last good policy, after a look at the file."""
        try:
            body = _body(self._path)
            if body != self._body:
                self._body = body
                self._policy = parsed(body, str(self._path))
                self.error = ()
        except PolicyError as error:
            self.error = error.errors
        return self._policy


def read_policy(path: Path) -> Policy:
    """Return the file's policy, or raise `PolicyError` with one line per error."""
    return parsed(_body(path), str(path))


def _body(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            body = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise PolicyError((f"{path}: cannot be read: {error.strerror}; name a file",)) from None
    if len(body) > MOST_BYTES:
        raise PolicyError((f"{path}: is larger than {MOST_BYTES} bytes; name a policy file",))
    return body


def parsed(body: bytes, name: str) -> Policy:
    """Return the policy of a document's bytes, or raise `PolicyError`; `name` is for its lines."""
    return parse(_mapping(_unwrapped(_yaml(body, name), name), name))


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
    """YAML with two of its traps shut: a key that stands twice, and words that mean true or false.

    `mode: off` is the word; a second `mode:` is an error, where YAML would keep the last.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML declares it on instances
        first: [(tag, TRUE_OR_FALSE if tag == BOOLEAN else pattern) for tag, pattern in resolvers]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

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
