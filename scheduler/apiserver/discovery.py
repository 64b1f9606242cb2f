"""Which resources the server has, and under which version: custom kinds come and go.

Asks the group list and then only the groups that somebody wants; a group whose server does not
answer keeps what was known of it.
"""

import msgspec

from scheduler.apiserver.client import Api, ApiError

CORE = "/api/v1"


class _Version(msgspec.Struct, frozen=True, rename="camel"):
    group_version: str


class _Group(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    versions: tuple[_Version, ...] = ()
    preferred_version: _Version | None = None


class _Groups(msgspec.Struct, frozen=True):
    groups: tuple[_Group, ...] | None = None


class _Resource(msgspec.Struct, frozen=True):
    name: str


class _Resources(msgspec.Struct, frozen=True):
    resources: tuple[_Resource, ...] | None = None


_GROUPS = msgspec.json.Decoder(_Groups)
_RESOURCES = msgspec.json.Decoder(_Resources)


class Discovery:
    """Served versions of the wanted resources, each named `plural.group`, or `plural` for core."""

    def __init__(self, api: Api, wanted: tuple[str, ...]) -> None:
        """`versions` is empty until the first `refresh`."""
        self._api = api
        self._wanted = wanted
        self.versions: dict[str, str] = {}
        """Path of the version to use, such as /apis/apps/v1, of each wanted resource served.

        It is the version that the server prefers among those that have the resource; a version
        once chosen is kept as long as it is served.
        """

    def refresh(self) -> None:
        """Ask the server. Raises ApiError, ApiUnreachableError or msgspec.MsgspecError."""
        groups = {one.name: one for one in _GROUPS.decode(self._api.get("/apis")).groups or ()}
        found: dict[str, str] = {}
        for group in sorted({_group(resource) for resource in self._wanted}):
            paths = [CORE] if not group else _paths(groups.get(group))
            found |= self._served(group, paths)
        self.versions = found

    def _served(self, group: str, paths: list[str]) -> dict[str, str]:
        """Return the paths of the wanted resources of one group; `paths` are in preference."""
        wanted = [resource for resource in self._wanted if _group(resource) == group]
        known = {one: self.versions[one] for one in wanted if one in self.versions}
        found: dict[str, str] = {}
        for path in paths:
            try:
                names = _names(self._api.get(path))
            except ApiError:
                found |= {one: at for one, at in known.items() if at == path}
                continue
            here = [one for one in wanted if one.split(".")[0] in names]
            found |= {one: path for one in here if known.get(one) == path or one not in found}
        return found


def _group(resource: str) -> str:
    return resource.partition(".")[2]


def _paths(group: _Group | None) -> list[str]:
    """Return the paths of a group's versions, the preferred one first."""
    if group is None:
        return []
    first = (group.preferred_version,) if group.preferred_version else ()
    return list(dict.fromkeys(f"/apis/{one.group_version}" for one in first + group.versions))


def _names(body: bytes) -> frozenset[str]:
    return frozenset(one.name for one in _RESOURCES.decode(body).resources or ())
