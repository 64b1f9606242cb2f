"""Fragmentation per GPU model and switch: the mix to come, and what is exported."""

import msgspec

from binpacking.inventory import Holder, Node
from binpacking.prices import HostKind, Prices, SlotPrice
from scheduler.daemon.documents.fragments import fragment_lines
from scheduler.daemon.documents.metrics import metrics
from scheduler.daemon.documents.shapes import Facts, FragmentLine
from scheduler.daemon.documents.status import status
from scheduler.planning.tocome import by_gpus, pods_to_come
from scheduler.ports import Tick
from tests.fixtures.ticks import busy_tick


def halved(tick: Tick) -> Tick:
    """Every device of the first node is half taken, and no other node is there."""
    node = tick.snapshot.nodes[0]
    devices = tuple(
        msgspec.structs.replace(device, holders=(Holder("x", 500),)) for device in node.devices
    )
    only: Node = msgspec.structs.replace(node, devices=devices)
    snapshot = msgspec.structs.replace(tick.snapshot, nodes=(only,))
    return msgspec.structs.replace(tick, snapshot=snapshot)


def test_the_mix_to_come_is_weighted_by_gpus() -> None:
    tick = busy_tick()
    mixture = by_gpus(pods_to_come(tick.snapshot, tick.plan.sizings))
    (sizing,) = tick.plan.sizings
    (role,) = (role for role in tick.snapshot.roles if role.key == sizing.role)
    here = sum(r.state in {"ready", "starting"} for r in tick.snapshot.replicas)
    more = -(-sizing.wanted_milli // 1000) - here
    ((shape, weight),) = mixture.shapes
    assert more > 0
    assert shape.cards == role.gpus_per_pod
    waiting = [job for job in tick.snapshot.jobs if job.state == "queued"]
    queued = sum(job.pods * job.gpus_per_pod for job in waiting)
    assert weight == 1000 * (more * role.pods_per_replica * role.gpus_per_pod + queued)


def test_halves_of_cards_are_fragment_where_whole_ones_are_asked() -> None:
    tick = halved(busy_tick())
    (node,) = tick.snapshot.nodes
    idle = 500 * len(node.devices)
    assert fragment_lines(tick) == (
        FragmentLine(
            gpu_model=node.gpu_model,
            switch="/".join(node.switch_path),
            idle_milli_gpus=idle,
            fragment_milli_gpus=idle,
        ),
    )
    text = metrics(status(tick, Facts()))
    labels = f'gpu_model="{node.gpu_model}",switch="{"/".join(node.switch_path)}"'
    assert f"tidal_fragment_gpus{{{labels}}} {idle / 1000:g}\n" in text
    assert f"tidal_idle_gpus{{{labels}}} {idle / 1000:g}\n" in text


def test_prices_of_room_are_exported_by_model_and_size() -> None:
    tick = busy_tick()
    kinds = (HostKind("H", 8, 0, 0), HostKind("H", 4, 0, 0), HostKind("L", 8, 0, 0))
    slot = SlotPrice(cards=8, kinds=(0, 2), asks=((0, 0, 1),), milli_gpus=2500)
    prices = Prices(kinds=kinds, cards=(200, 300, 0), slots=(slot,))
    planned = msgspec.structs.replace(tick.plan, prices=prices)
    shown = status(msgspec.structs.replace(tick, plan=planned), Facts())
    told = [(line.gpu_model, line.gpus, line.milli_gpus) for line in shown.prices]
    assert told == [("H", 1, 300), ("H", 8, 2500), ("L", 8, 2500)]
    assert 'tidal_room_price_gpus{gpu_model="L",gpus="8"} 2.5\n' in metrics(shown)


def test_nothing_is_fragment_where_nothing_is_asked() -> None:
    tick = busy_tick()
    plan = msgspec.structs.replace(tick.plan, to_come=())
    assert fragment_lines(msgspec.structs.replace(tick, plan=plan)) == ()
