"""Idle GPUs that the pods to come could not use, per GPU model and leaf switch; prices of room."""

from binpacking.cards import Fleet
from binpacking.fragmentation import Fragments
from scheduler.daemon.documents.shapes import FragmentLine, PriceLine
from scheduler.planning.pricing import host_of
from scheduler.planning.tocome import by_gpus
from scheduler.ports import Tick


def fragment_lines(tick: Tick) -> tuple[FragmentLine, ...]:
    """In order of model and switch; nothing where no shape is to come."""
    mixture = by_gpus(tick.plan.to_come)
    nodes = tick.snapshot.nodes
    if not mixture.weight or not nodes:
        return ()
    fleet = Fleet(host_of(node) for node in nodes)
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


def price_lines(tick: Tick) -> tuple[PriceLine, ...]:
    """In order of model and GPUs; of several makes of one model the dearest."""
    prices = tick.plan.prices
    dearest: dict[tuple[str, int], int] = {}
    cards = zip(prices.kinds, prices.cards, strict=True)
    rooms = [(kind.gpu_model, 1, price) for kind, price in cards]
    for slot in prices.slots:
        models = sorted({prices.kinds[place].gpu_model for place in slot.kinds})
        rooms += [(model, slot.cards, slot.milli_gpus) for model in models]
    for model, gpus, price in rooms:
        dearest[model, gpus] = max(price, dearest.get((model, gpus), 0))
    return tuple(
        PriceLine(gpu_model=model, gpus=gpus, milli_gpus=price)
        for (model, gpus), price in sorted(dearest.items())
        if price
    )
