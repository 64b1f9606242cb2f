"""What all objects have in common: metadata, conditions, selectors."""

import msgspec


class Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """Base: camelCase on the wire. Values are trees, so the cycle collector need not visit them."""


class OwnerReference(Wire, frozen=True):
    """Who made the object."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class Meta(Wire, frozen=True):
    """metadata."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()

    @property
    def controller(self) -> OwnerReference:
        """The owner that controls the object, or an empty one."""
        return next((one for one in self.owner_references if one.controller), OwnerReference())


class Condition(Wire, frozen=True):
    """One entry of status.conditions."""

    type: str
    status: str = "Unknown"
    last_transition_time: str | None = None


class Requirement(Wire, frozen=True):
    """One expression of a label selector."""

    key: str
    operator: str
    values: tuple[str, ...] | None = None


class Selector(Wire, frozen=True):
    """A label selector."""

    match_labels: dict[str, str] | None = None
    match_expressions: tuple[Requirement, ...] | None = None


class CrossReference(Wire, frozen=True):
    """A workload by kind and name, such as scaleTargetRef of an autoscaler."""

    kind: str = ""
    name: str = ""
