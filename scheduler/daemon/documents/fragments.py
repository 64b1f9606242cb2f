"""Idle GPUs that the shapes to come could not use, per GPU model and leaf switch."""

from binpacking.cards import Fleet, Host
from binpacking.fragmentation import Fragments
from binpacking.inventory import WHOLE_GPU_MILLI, Device, Node
from scheduler.daemon.documents.shapes import FragmentLine
from scheduler.planning.tocome import shapes_to_come
from scheduler.ports import Tick


def fragment_lines(tick: Tick) -> tuple[FragmentLine, ...]:
    """In order of model and switch; nothing where no shape is to come."""
    mixture = shapes_to_come(tick.snapshot, tick.plan.sizings)
    nodes = tick.snapshot.nodes
    if not mixture.weight or not nodes:
        return ()
    fleet = Fleet(_host(node) for node in nodes)
    leaves = {node.name: (node.gpu_model, "/".join(node.switch_path)) for node in nodes}
    fragments = Fragments(fleet, mixture)
    sums: dict[tuple[str, str], tuple[int, int]] = {}
    pairs = zip(fleet.names, fragments.idle.tolist(), fragments.now.tolist(), strict=True)
    for name, idle, fragment in pairs:
        before = sums.get(leaves[name], (0, 0))
        sums[leaves[name]] = (before[0] + idle, before[1] + fragment)
    return tuple(
        FragmentLine(
            gpu_model=model,
            switch=switch,
            idle_milli_gpus=idle,
            fragment_milli_gpus=fragment // mixture.weight,
        )
        for (model, switch), (idle, fragment) in sorted(sums.items())
    )


def _host(node: Node) -> Host:
    cards = tuple(_free(device) if node.schedulable else 0 for device in node.devices)
    return Host(node.name, node.gpu_model, node.cpu_milli, node.memory_mib, cards)


def _free(device: Device) -> int:
    held = sum(holder.milli_gpu for holder in device.holders)
    return max(WHOLE_GPU_MILLI - held, 0) if device.healthy else 0
