"""Builders of ticks that several documents are made of."""

import msgspec

from binpacking.inventory import Node
from scheduler.ports import Tick
from tests.fixtures.ticks import tick_of
from tests.fixtures.worlds import node, policy, world

LACKS = "chat/decode lacks 1.0 replicas: no further GPU can be freed; of 2 running jobs 2 give way"


def calm(**changes: object) -> Tick:
    """A tick of one node where nothing is asked for."""
    return tick_of(world(node("n0"), **changes), policy())


def sick(one: Node, *indices: int) -> Node:
    devices = tuple(
        msgspec.structs.replace(device, healthy=device.index not in indices)
        for device in one.devices
    )
    return msgspec.structs.replace(one, devices=devices)
