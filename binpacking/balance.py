"""GPUs that a host's remaining CPU cannot serve.

FGD asks whether the next pod fits; a host with eight idle cards and CPU for two passes that test
until it is too late. Here the pods to come ask, per GPU, CPU with a mean and a variance; on a
host with R idle GPUs and C CPU left, E[(need - C)+] / mean GPUs are expected to stay idle for
want of CPU. The fall of that figure steers pods with much CPU to hosts with much to spare, and
pods with little to hosts that have little.
"""

import msgspec
import numpy as np

from binpacking.cards import Ints, Population
from binpacking.chances import Floats, expected_excess
from binpacking.inventory import WHOLE_GPU_MILLI


class Balance(msgspec.Struct, frozen=True):
    """CPU that pods to come ask per GPU that they ask."""

    mean_milli: float
    variance: float

    def starved(self, cpu: Ints, idle_milli: Ints) -> Floats:
        """GPUs expected to stay idle for want of CPU, per host."""
        if not self.mean_milli:
            return np.zeros(len(cpu))
        gpus = np.maximum(idle_milli, 0) / WHOLE_GPU_MILLI
        deviation = np.maximum(np.sqrt(self.variance * gpus), 1.0)
        need = expected_excess(self.mean_milli * gpus, deviation, cpu.astype(np.float64))
        found: Floats = np.where(gpus > 0, need / self.mean_milli, 0.0)
        return found


def balance_of(population: Population) -> Balance:
    """Mean and variance of CPU per GPU; pods without GPU add to both."""
    gpus = sum(shape.gpu_milli * count for shape, count in population) / WHOLE_GPU_MILLI
    if not gpus:
        return Balance(0.0, 0.0)
    mean = sum(shape.cpu_milli * count for shape, count in population) / gpus
    squares = sum(
        (shape.cpu_milli - mean * shape.gpu_milli / WHOLE_GPU_MILLI) ** 2 * count
        for shape, count in population
    )
    return Balance(mean, squares / gpus)
