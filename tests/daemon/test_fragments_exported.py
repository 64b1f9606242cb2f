"""Fragmentation per GPU model and switch: the mix to come, and what is exported."""

import msgspec

from binpacking.inventory import Holder, Node
from scheduler.daemon.documents.fragments import fragment_lines
from scheduler.daemon.documents.metrics import metrics
from scheduler.daemon.documents.shapes import Facts, FragmentLine
from scheduler.daemon.documents.status import status
from scheduler.planning.tocome import shapes_to_come
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
    mixture = shapes_to_come(tick.snapshot, tick.plan.sizings)
    (sizing,) = tick.plan.sizings
    (role,) = (role for role in tick.snapshot.roles if role.key == sizing.role)
    here = sum(r.state in {"ready", "starting"} for r in tick.snapshot.replicas)
    more = -(-sizing.wanted_milli // 1000) - here
    ((shape, weight),) = mixture.shapes
    assert more > 0
    assert shape.cards == role.gpus_per_pod
    waiting = [job for job in tick.snapshot.jobs if job.state == "queued"]
    queued = sum(job.pods * job.gpus_per_pod for job in waiting)
    assert weight == more * role.pods_per_replica * role.gpus_per_pod + queued


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


def test_nothing_is_fragment_where_nothing_is_asked() -> None:
    tick = busy_tick()
    plan = msgspec.structs.replace(tick.plan, sizings=())
    snapshot = msgspec.structs.replace(tick.snapshot, jobs=())
    assert fragment_lines(msgspec.structs.replace(tick, plan=plan, snapshot=snapshot)) == ()
