"""The extender under a real kube-scheduler and API server: what it says is what happens."""

import contextlib
import http.client
import itertools
import ssl
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from scheduler.apiserver.client import Api
from scheduler.extender import process
from scheduler.extender.process import ExtenderProcess
from scheduler.https import Tls
from scheduler.planning import reasons
from scheduler.planning.standing import Victim
from scheduler.planning.targets import Target
from tests.controlplane.offered import (
    OWNER,
    Cluster,
    asked,
    kept,
    place,
    publish,
    serve,
    standing,
    told,
    until,
)
from tests.controlplane.plane import ControlPlane
from tests.controlplane.settings import Extender

QUIET_SECONDS = 5.0
VERSIONS = ("1.36", "1.34")


@pytest.fixture
def cluster(plane: ControlPlane, namespace: str) -> Cluster:
    return Cluster(plane, namespace)


@pytest.fixture
def extender() -> Iterator[ExtenderProcess]:
    running = process.start("127.0.0.1", 0)
    yield running
    running.stop()


@pytest.mark.parametrize("version", VERSIONS)
def test_filter_pins_a_pod_to_its_reserved_node(
    cluster: Cluster, extender: ExtenderProcess, version: str
) -> None:
    a, b, c = (cluster.node(name) for name in "abc")
    reserved = (kept("chat/decode", (b, 4)),)
    publish(extender, standing(place(a), place(b), place(c), reservations=reserved))
    serve(cluster, extender, version)
    cluster.owned("mine", "chat/decode")
    until(lambda: "mine" in cluster.bound(), "a bound pod")
    assert cluster.bound()["mine"] == b


def test_a_pd_set_lands_as_reserved_under_one_leaf(
    cluster: Cluster, extender: ExtenderProcess
) -> None:
    """Four pods of two roles at once; each has room on every node, and slots on two."""
    a, b, c, d = (cluster.node(name) for name in "abcd")
    roles = ("prefill", "decode")
    places = (place(a), place(b), place(c, leaf="s1"), place(d, leaf="s1"))
    one = standing(
        *places,
        reservations=tuple(
            kept(f"chat/{role}", (node, 4), number=number)
            for role in roles
            for number, node in enumerate((c, d))
        ),
        targets=tuple(
            (f"chat/{role}", Target("RoleBasedGroup", cluster.namespace, "chat", role))
            for role in roles
        ),
    )
    publish(extender, one)
    serve(cluster, extender)
    for role, number in itertools.product(roles, range(2)):
        labels = {
            "rbg.workloads.x-k8s.io/group-name": "chat",
            "rbg.workloads.x-k8s.io/role-name": role,
            "rbg.workloads.x-k8s.io/role-instance-name": f"chat-{role}-{number}",
        }
        cluster.pod(f"chat-{role}-{number}", meta={"labels": labels})
    until(lambda: len(cluster.bound()) == 4, "four bound pods")
    found = cluster.bound()
    for role in roles:
        assert {found[f"chat-{role}-{number}"] for number in range(2)} == {c, d}


def test_a_burst_of_strangers_takes_no_reserved_gpu(
    cluster: Cluster, extender: ExtenderProcess
) -> None:
    """No bind reaches the extender, and no new plan: what it has just offered must count."""
    a, b = (cluster.node(name) for name in "ab")
    reserved = (kept("chat/decode", (a, 4)), kept("chat/decode", (b, 4), number=1))
    publish(extender, standing(place(a), place(b), reservations=reserved))
    serve(cluster, extender)
    for number in range(6):
        cluster.pod(f"stranger-{number}", gpus=2)
    until(lambda: len(cluster.bound()) == 4, "the strangers that fit")
    for number in range(2):
        cluster.owned(f"mine-{number}", "chat/decode")
    until(lambda: len(cluster.bound()) == 6, "the owner's pods")
    found = cluster.bound()
    assert {found["mine-0"], found["mine-1"]} == {a, b}


def test_a_gang_over_two_nodes_starts_as_a_whole_or_waits(
    cluster: Cluster, extender: ExtenderProcess
) -> None:
    a, b, c = (cluster.node(name) for name in "abc")
    job = f"{cluster.namespace}/train"
    gang = (kept("chat/decode", (a, 8), (b, 8)),)
    cluster.pod("train-0", gpus=8, node=b)
    publish(extender, standing(place(a), place(b, 0, 8, by=job), place(c), reservations=gang))
    serve(cluster, extender)
    for number in range(2):
        cluster.owned(f"tp-{number}", "chat/decode", 8, group="r1")
    sentence = reasons.planned_elsewhere((a, b), (job,))
    until(lambda: all(sentence in cluster.message(f"tp-{n}") for n in range(2)), "the reason")
    assert cluster.bound() == {"train-0": b}
    cluster.delete("train-0")
    until(lambda: {"tp-0", "tp-1"} <= cluster.bound().keys(), "the gang")
    assert sorted(cluster.bound().values()) == [a, b]


def test_a_refused_pod_is_told_why_and_asked_about_seldom(
    cluster: Cluster, extender: ExtenderProcess
) -> None:
    nodes = [cluster.node(f"n{number}") for number in range(6)]
    for node in nodes:
        cluster.pod(f"low-{node}", gpus=1, node=node)
    cluster.plane.call(
        "POST",
        "/apis/scheduling.k8s.io/v1/priorityclasses",
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": f"high-{cluster.namespace}"},
            "value": 1000,
        },
    )
    job = f"{cluster.namespace}/train"
    reserved = tuple(
        kept("chat/decode", (node, 7), number=number) for number, node in enumerate(nodes)
    )
    one = standing(*(place(node, 7) for node in nodes), reservations=reserved, jobs=(job,))
    publish(extender, one)
    serve(cluster, extender)
    high = {"priorityClassName": f"high-{cluster.namespace}"}
    cluster.pod("train-0", meta={"labels": {"batch.kubernetes.io/job-name": "train"}}, spec=high)
    sentence = reasons.not_lent(job)
    until(lambda: f"6 {sentence}" in cluster.message("train-0"), "the reason")
    before = told(extender.port)["verbs"]["filter"]["calls"]
    time.sleep(QUIET_SECONDS)
    assert told(extender.port)["verbs"]["filter"]["calls"] - before <= 5
    publish(extender, standing(*(place(node, 7) for node in nodes)))
    cluster.touch("train-0")
    until(lambda: "train-0" in cluster.bound(), "the pod after a new plan")


@pytest.mark.parametrize("version", VERSIONS)
def test_preemption_takes_the_planned_victims_and_no_others(
    cluster: Cluster, extender: ExtenderProcess, version: str
) -> None:
    """Four full nodes; a scheduler that finds its node refused would strip one after another."""
    nodes = [cluster.node(name, gpus=4) for name in "abcd"]
    for node, number in itertools.product(nodes, range(4)):
        cluster.pod(f"low-{node[-1]}{number}", gpus=1, node=node, spec={"priority": 0})
    cluster.plane.call(
        "POST",
        "/apis/scheduling.k8s.io/v1/priorityclasses",
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": f"high-{cluster.namespace}"},
            "value": 1000,
        },
    )
    planned = nodes[2]
    victims = tuple(
        Victim(cluster.get(f"low-c{number}")["metadata"]["uid"], planned, 1) for number in range(4)
    )
    places = (place(node, 0, 4 if node == planned else 0, by="default/job") for node in nodes)
    one = standing(*places, reservations=(kept("chat/decode", (planned, 4)),), victims=victims)
    publish(extender, one)
    serve(cluster, extender, version)
    high = {"priorityClassName": f"high-{cluster.namespace}"}
    cluster.pod("stranger", spec=high)
    until(lambda: told(extender.port)["verbs"]["preempt"]["refused"] > 0, "a refused preemption")
    cluster.pod("mine", meta={"annotations": {OWNER: "chat/decode"}}, spec=high)
    until(lambda: "mine" in cluster.bound(), "a bound pod")
    left = {name: node for name, node in cluster.bound().items() if name.startswith("low-")}
    assert cluster.bound()["mine"] == planned
    assert sorted(left) == [f"low-{node}{number}" for node in "abd" for number in range(4)]
    assert "stranger" not in cluster.bound()


def test_a_scheduler_that_may_ignore_it_places_pods_without_it(
    cluster: Cluster, extender: ExtenderProcess
) -> None:
    a = cluster.node("a")
    url = f"http://127.0.0.1:{extender.port}"
    entry = Extender(url=url, ignorable=True)
    cluster.plane.start_scheduler(cluster.scheduler, extender=entry)
    publish(extender, standing(place(a), reservations=(kept("chat/decode", (a, 8)),)))
    cluster.pod("refused")
    until(lambda: reasons.kept_for("chat/decode") in cluster.message("refused"), "the reason")
    extender.stop()
    cluster.pod("placed")
    until(lambda: cluster.bound().get("placed") == a, "a pod placed without Tidal")


def test_only_a_scheduler_with_a_certificate_gets_in(cluster: Cluster, tmp_path: Path) -> None:
    a, b = (cluster.node(name) for name in "ab")
    authority = cluster.plane.authority
    server = authority.server("127.0.0.1")
    (tmp_path / "tls.crt").write_bytes(server.certificate)
    (tmp_path / "tls.key").write_bytes(server.key)
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    tls = Tls(
        certificate=tmp_path / "tls.crt",
        key=tmp_path / "tls.key",
        client_authority=tmp_path / "ca.crt",
    )
    running = process.start("127.0.0.1", 0, tls=tls, health_port=0)
    try:
        publish(running, standing(place(a), place(b), reservations=(kept("chat/x", (a, 8)),)))
        url = f"https://127.0.0.1:{running.port}"
        known = Extender(
            url=url, certificate=authority.client("scheduler"), authority=authority.certificate
        )
        cluster.plane.start_scheduler(cluster.scheduler, extender=known)
        cluster.pod("known")
        until(lambda: cluster.bound().get("known") == b, "a pod placed through TLS")
        calls = told(running.health_port or 0)["verbs"]["filter"]["calls"]
        unknown = Extender(url=url, authority=authority.certificate)
        cluster.plane.start_scheduler(f"{cluster.scheduler}-bare", extender=unknown)
        cluster.pod("unknown", spec={"schedulerName": f"{cluster.scheduler}-bare"})
        refused = partial(cluster.condition, "unknown")
        until(lambda: refused().get("reason") == "SchedulerError", "the refusal")
        assert told(running.health_port or 0)["verbs"]["filter"]["calls"] == calls
        context = ssl.create_default_context(cadata=authority.certificate.decode())
        bare = http.client.HTTPSConnection("127.0.0.1", running.port, context=context, timeout=60)
        with pytest.raises((ssl.SSLError, ConnectionError)), contextlib.closing(bare):
            asked(bare)
    finally:
        running.stop()


def test_it_binds_through_the_api_server_where_told_to(cluster: Cluster) -> None:
    a = cluster.node("a")
    running = process.start("127.0.0.1", 0, partial(Api.load, cluster.plane.kubeconfig))
    try:
        publish(running, standing(place(a)))
        entry = Extender(url=f"http://127.0.0.1:{running.port}", bind_verb="bind")
        cluster.plane.start_scheduler(cluster.scheduler, extender=entry)
        for number in range(2):
            cluster.pod(f"pod-{number}")
        until(lambda: len(cluster.bound()) == 2, "two bound pods")
        # the API server shows a Binding before the extender has counted its answer
        until(lambda: told(running.port)["verbs"]["bind"]["calls"] >= 2, "two answered binds")
        assert told(running.port)["verbs"]["bind"]["refused"] == 0
    finally:
        running.stop()
