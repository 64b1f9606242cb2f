"""The policy's ConfigMap: edits are taken in, bad ones refused and said, the last good one kept."""

import threading
from collections.abc import Callable, Iterator

import pytest

from scheduler.adapters.cluster.events import EventRecorder
from scheduler.adapters.cluster.policymap import PolicyConfigMap
from scheduler.planning.policy import PolicyError
from tests.fixtures.memoryapi import MemoryApi, refusal

ALL = "/api/v1/namespaces/tidal/configmaps"
EVENTS = "/apis/events.k8s.io/v1/namespaces/tidal/events"
GOOD = """
version: 1
mode: {mode}
models:
  chat:
    roles:
      decode: {{tokens: generated, capacity_tokens_per_second: {{H100: 1000}}}}
"""
BAD = GOOD.format(mode="maybe")


class World:
    """An API server and what follows it."""

    def __init__(self) -> None:
        self.api = MemoryApi()
        self.recorder = EventRecorder(self.api, lambda: 1.7e9, "tidal-0")
        self.changed = threading.Event()
        self.changes = 0
        self.leads = True
        self.running: list[PolicyConfigMap] = []
        self.recorder.start()

    def put(self, text: str, name: str = "tidal-policy") -> None:
        path = f"{ALL}/{name}"
        if path in self.api.objects:
            self.api.patch(path, {"data": {"policy.yaml": text}}, "merge")
        else:
            self.api.post(ALL, {"metadata": {"name": name}, "data": {"policy.yaml": text}})

    def opened(self, *, start: bool = False) -> PolicyConfigMap:
        policy = PolicyConfigMap(
            self.api,
            "tidal",
            "tidal-policy",
            recorder=self.recorder,
            leading=lambda: self.leads,
            on_change=self.on_change,
        )
        if start:
            policy.start()
            self.running.append(policy)
        return policy

    def on_change(self) -> None:
        self.changes += 1
        self.changed.set()

    def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            assert self.changed.wait(60)
            self.changed.clear()

    def kept(self) -> str:
        found = self.api.objects.get(f"{ALL}/tidal-policy-last-good", {})
        return str(found.get("data", {}).get("policy.yaml", ""))

    def events(self) -> list[tuple[str, str, str]]:
        """After all that waits is told and written."""
        for one in self.running:
            one.stop()
        self.recorder.stop()
        found = [one for path, one in self.api.objects.items() if path.startswith(EVENTS)]
        return [(one["type"], one["reason"], one["note"]) for one in found]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    for one in world.running:
        one.stop()
    world.recorder.stop()


def test_a_good_edit_is_taken_in(world: World) -> None:
    world.put(GOOD.format(mode="act"))
    policy = world.opened(start=True)
    assert policy.current().mode == "act"
    world.put(GOOD.format(mode="recommend"))
    world.until(lambda: policy.current().mode == "recommend")
    assert policy.error == ()


def test_a_bad_edit_keeps_the_last_good_one_until_it_is_mended(world: World) -> None:
    world.put(GOOD.format(mode="act"))
    policy = world.opened(start=True)
    policy.tend()
    world.put(BAD)
    world.until(lambda: bool(policy.error))
    policy.tend()
    assert policy.current().mode == "act"
    assert policy.error[0].startswith("mode: ")
    assert world.kept() == GOOD.format(mode="act")
    world.put(GOOD.format(mode="off"))
    world.until(lambda: policy.current().mode == "off")
    assert policy.error == ()
    policy.tend()
    assert world.kept() == GOOD.format(mode="off")
    (refused, mended) = world.events()
    assert refused[:2] == ("Warning", "PolicyRefused")
    assert "mode: must be 'off', 'recommend' or 'act'" in refused[2]
    assert mended == ("Normal", "PolicyInForce", "the policy is in force")


def test_a_restart_under_a_bad_edit_goes_on_with_the_last_good_one(world: World) -> None:
    world.put(GOOD.format(mode="recommend"))
    world.opened().tend()
    world.put(BAD)
    again = world.opened()
    assert again.current().mode == "recommend"
    assert again.error[0].startswith("mode: ")


def test_an_edit_that_is_mended_before_the_leader_spoke_is_said(world: World) -> None:
    world.put(GOOD.format(mode="act"), "tidal-policy-last-good")
    world.put(BAD)
    world.leads = False
    policy = world.opened(start=True)
    assert policy.error
    world.leads = True
    world.put(GOOD.format(mode="recommend"))
    world.until(lambda: policy.error == ())
    policy.tend()
    assert "PolicyInForce" in [reason for _, reason, _ in world.events()]


@pytest.mark.parametrize("text", [BAD, None])
def test_without_any_good_policy_it_does_not_start(world: World, text: str | None) -> None:
    if text is not None:
        world.put(text)
    with pytest.raises(PolicyError) as caught:
        world.opened()
    expected = "mode: " if text else "ConfigMap tidal/tidal-policy: does not exist; create it"
    assert caught.value.errors[0].startswith(expected)


def test_a_map_that_is_deleted_is_a_bad_edit(world: World) -> None:
    world.put(GOOD.format(mode="act"))
    policy = world.opened(start=True)
    world.until(lambda: world.changes > 0)
    world.api.delete(f"{ALL}/tidal-policy")
    world.until(lambda: bool(policy.error))
    assert policy.error == ("ConfigMap tidal/tidal-policy: does not exist; create it",)
    assert policy.current().mode == "act"


def test_a_missing_key_names_it(world: World) -> None:
    world.put(GOOD.format(mode="act"), "tidal-policy-last-good")
    world.api.post(ALL, {"metadata": {"name": "tidal-policy"}, "data": {"other": "x"}})
    assert world.opened().error == (
        "ConfigMap tidal/tidal-policy: data.policy.yaml: is missing; put it there",
    )


def test_a_follower_writes_nothing(world: World) -> None:
    world.put(GOOD.format(mode="act"))
    world.leads = False
    world.opened().tend()
    assert world.kept() == ""
    assert world.events() == []


def test_a_last_good_text_that_cannot_be_kept_is_a_problem(world: World) -> None:
    def refuse(method: str, path: str) -> None:
        if method == "PATCH" and path.endswith("-last-good"):
            raise refusal(403, "configmaps is forbidden")

    world.put(GOOD.format(mode="act"))
    policy = world.opened()
    world.api.before = refuse
    policy.look()
    assert "tidal-policy-last-good: cannot be written: 403" in policy.problem
    world.api.before = lambda _method, _path: None
    policy.look()
    assert (policy.problem, world.kept()) == ("", GOOD.format(mode="act"))


def test_another_map_in_the_namespace_changes_nothing(world: World) -> None:
    world.put(GOOD.format(mode="act"))
    policy = world.opened(start=True)
    world.put(BAD, "another")
    world.put(GOOD.format(mode="off"))
    world.until(lambda: policy.current().mode == "off")
    assert policy.error == ()
