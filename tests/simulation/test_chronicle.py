"""Changes between looks at a cluster, as lines of the event stream."""

from binpacking.inventory import Device, Node
from scheduler.planning.snapshot import Loan, Pod, Replica, Snapshot
from scheduler.simulation.chronicle import Chronicle
from scheduler.simulation.events import LoanLine, NodeLine, ReplicaLine

NODE = Node(
    name="n",
    gpu_model="H100",
    switch_path=("core", "leaf"),
    devices=tuple(Device(index, f"n/{index}", 80) for index in range(2)),
)
LOAN = Loan(
    id="l",
    job="ns/j",
    gpus=4,
    granted_seconds=1000.0,
    return_by_seconds=1600.0,
    promised_p99_seconds=60.0,
)


def replica(state: str, *devices: int) -> Replica:
    pod = Pod(name="p", uid="u", gpus=2, node="n" if devices else "", devices=devices)
    return Replica(
        id="ns/p",
        role="chat/decode",
        state=state,  # type: ignore[arg-type]
        pods=(pod,),
        gpu_model="H100",
    )


def seen(*replicas: Replica, loans: tuple[Loan, ...] = ()) -> Snapshot:
    return Snapshot(now_seconds=0.0, nodes=(NODE,), replicas=replicas, loans=loans)


def test_a_replica_comes_serves_and_goes() -> None:
    chronicle = Chronicle()
    lines = []
    for now, states in enumerate(
        (
            [replica("pending")],
            [replica("starting", 0, 1)],
            [replica("ready", 0, 1)],
            [replica("ready", 0, 1)],
            [],
        )
    ):
        lines += [
            (one.t, one.state, one.gpus)
            for one in chronicle.look(seen(*states), float(now), 0.0)
            if isinstance(one, ReplicaLine)
        ]
    held = ("n/0", "n/1")
    assert lines == [
        (0.0, "starting", ()),
        (1.0, "starting", held),
        (2.0, "ready", held),
        (4.0, "gone", ()),
    ]


def test_nodes_and_loans_are_told_once_in_the_streams_time() -> None:
    chronicle = Chronicle()
    first = list(chronicle.look(seen(loans=(LOAN,)), 5.0, 1000.0))
    assert first == [NodeLine(5.0, "n", 2, ready=True), LoanLine(5.0, "l", 4, 600.0)]
    assert list(chronicle.look(seen(loans=(LOAN,)), 6.0, 1000.0)) == []
