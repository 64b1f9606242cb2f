"""The frames around objects: a page of a list, an event of a watch, and what all objects have."""

from typing import Generic, TypeVar

import msgspec

from scheduler.apiserver.objects import Meta

T = TypeVar("T")


class Version(msgspec.Struct, frozen=True, rename="camel"):
    """metadata of a list or of a bookmark."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class Head(msgspec.Struct, frozen=True):
    """What a list and a bookmark have in common."""

    metadata: Version


class Page(msgspec.Struct, Generic[T], frozen=True):
    """The objects of one page; an empty list may be null."""

    items: list[T] | None = None


class Named(msgspec.Struct, frozen=True):
    """What every object has, also one that is deleted or cannot be read whole."""

    metadata: Meta


class Event(msgspec.Struct, frozen=True):
    """A line of a watch."""

    type: str
    object: msgspec.Raw
