"""Nodes and the devices on them, as values.

First words of the capacity vocabulary: everything in this package and above speaks of `Node`
and `Device`. Quantities are integers: milli-GPU (1000 = one whole GPU), MiB, milli-CPU.
"""

from functools import cached_property
from typing import Literal

import msgspec

WHOLE_GPU_MILLI = 1000


class Holder(msgspec.Struct, frozen=True):
    """A pod that holds a part of a device, or all of it."""

    owner: str
    """Key of the replica or job, or the pod's own uid when nobody known owns it."""
    milli_gpu: int = WHOLE_GPU_MILLI
    memory_mib: int = 0


class Device(msgspec.Struct, frozen=True):
    """One GPU: what it is, whether it works, who holds it."""

    index: int
    uuid: str
    memory_mib: int
    healthy: bool = True
    holders: tuple[Holder, ...] = ()

    @property
    def free(self) -> bool:
        """True when a whole-GPU pod may take the device."""
        return self.healthy and not self.holders

    @property
    def free_milli(self) -> int:
        """What pods that share the device may take of it."""
        held = sum(holder.milli_gpu for holder in self.holders)
        return max(WHOLE_GPU_MILLI - held, 0) if self.healthy else 0


class Node(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One GPU node as observed; what is derived is computed once, as nodes outlive ticks."""

    name: str
    gpu_model: str
    switch_path: tuple[str, ...]
    """Switches from the core down to the leaf; a domain is the whole prefix, not one name."""
    devices: tuple[Device, ...]
    resource_name: str = "nvidia.com/gpu"
    sharing: Literal["none", "parts", "slices"] = "none"
    """`parts`: pods may ask a part of a card here. `slices`: what is counted as GPUs here are
    slices of cards, none of which is among the devices."""
    ready: bool = True
    cordoned: bool = False
    section: str = ""
    """Nodes of one section admit pods of the same workloads; empty where all may come."""
    spot: bool = False
    cpu_milli: int = 0
    memory_mib: int = 0
    cpu_held_milli: int = 0
    """Requests of the pods observed here, those without GPU among them."""
    memory_held_mib: int = 0

    @property
    def schedulable(self) -> bool:
        """True when new pods may be placed here."""
        return self.ready and not self.cordoned

    @cached_property
    def free_gpus(self) -> int:
        """Whole GPUs without a holder, 0 on a node that takes no new pods."""
        return sum(device.free for device in self.devices) if self.schedulable else 0

    @cached_property
    def healthy_gpus(self) -> int:
        """Devices that work, held or not."""
        return sum(device.healthy for device in self.devices)

    @cached_property
    def free_cards(self) -> tuple[int, ...]:
        """Free milli-GPU per device, whether or not the node takes new pods."""
        return tuple(device.free_milli for device in self.devices)

    @cached_property
    def variety(self) -> str:
        """What a request must name to be placed here: GPU model and section."""
        return f"{self.gpu_model} like {self.section}" if self.section else self.gpu_model

    @cached_property
    def packing_leaf(self) -> tuple[str, ...]:
        """The leaf as the packer counts it: one for each variety."""
        return (*self.switch_path, self.variety)

    @cached_property
    def leaf(self) -> tuple[str, ...]:
        """The leaf switch's full path, with the GPU model: a mixed leaf counts as several."""
        return (*self.switch_path, self.gpu_model)
