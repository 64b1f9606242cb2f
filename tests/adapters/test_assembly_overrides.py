"""A count that somebody else wrote: seen first, held, over, edited again, given back."""

import msgspec
import pytest

from scheduler.adapters.cluster.complaints import complaints
from scheduler.adapters.cluster.observed import Observed
from scheduler.adapters.cluster.overrides import new_overrides
from scheduler.apiserver.times import text
from scheduler.planning.marks import OVERRIDE_REPLICAS, OVERRIDE_UNTIL, REPLICAS
from tests.fixtures.kubeobjects import (
    NOW,
    adapter,
    autoscaler,
    deployment,
    group_role,
    policy,
    role_based_group,
    snapshot,
)

HOLD = 3600.0
POLICY = policy(decode={"kind": "Deployment", "name": "a"})
GROUP = policy(decode={"kind": "RoleBasedGroup", "name": "pd", "role": "decode"})


def world(count: int, annotations: dict[str, str]) -> Observed:
    return Observed(deployments=(deployment("a", count, annotations=annotations),))


def until(seen: Observed, now: float) -> float | None:
    return snapshot(seen, POLICY, now).roles[0].override_until_seconds


@pytest.mark.parametrize(
    ("count", "annotations", "held_until", "new"),
    [
        (3, {}, None, False),
        (3, {REPLICAS: "3"}, None, False),
        (5, {REPLICAS: "3"}, NOW + HOLD, True),
        (5, {REPLICAS: "three"}, NOW + HOLD, True),
        (
            5,
            {REPLICAS: "3", OVERRIDE_UNTIL: text(NOW + 9), OVERRIDE_REPLICAS: "5"},
            NOW + 9,
            False,
        ),
        (
            5,
            {REPLICAS: "3", OVERRIDE_UNTIL: text(NOW - 9), OVERRIDE_REPLICAS: "5"},
            NOW - 9,
            False,
        ),
        (
            6,
            {REPLICAS: "3", OVERRIDE_UNTIL: text(NOW - 9), OVERRIDE_REPLICAS: "5"},
            NOW + HOLD,
            True,
        ),
        (
            6,
            {REPLICAS: "3", OVERRIDE_UNTIL: text(NOW + 9), OVERRIDE_REPLICAS: "5"},
            NOW + HOLD,
            True,
        ),
        (3, {REPLICAS: "3", OVERRIDE_UNTIL: text(NOW + 9), OVERRIDE_REPLICAS: "5"}, None, False),
        (5, {REPLICAS: "3", OVERRIDE_UNTIL: "soon", OVERRIDE_REPLICAS: "5"}, NOW + HOLD, True),
        (3, {REPLICAS: "3", OVERRIDE_UNTIL: text(NOW + 86_400)}, NOW + 86_400, False),
        (3, {OVERRIDE_UNTIL: text(NOW + 86_400)}, NOW + 86_400, False),
        (3, {REPLICAS: "3", OVERRIDE_UNTIL: text(NOW - 86_400)}, None, False),
    ],
)
def test_what_count_and_annotations_say(
    count: int, annotations: dict[str, str], held_until: float | None, new: bool
) -> None:
    seen = world(count, annotations)
    assert until(seen, NOW) == held_until
    assert bool(new_overrides(seen, POLICY, NOW)) == new


def test_an_edits_whole_life() -> None:
    marks = {REPLICAS: "3"}
    (first,) = new_overrides(world(5, marks), POLICY, NOW)
    assert first.uid == deployment("a", 5).metadata.uid
    assert (first.role, first.replicas, first.until_seconds) == ("chat/decode", 5, NOW + HOLD)
    marks |= first.annotations
    assert new_overrides(world(5, marks), POLICY, NOW + 15) == ()
    assert until(world(5, marks), NOW + 15) == NOW + HOLD
    (second,) = new_overrides(world(7, marks), POLICY, NOW + 600)  # another edit, another hold
    assert second.until_seconds == NOW + 600 + HOLD
    marks |= second.annotations
    late = NOW + 600 + HOLD + 1
    assert until(world(7, marks), late) == NOW + 600 + HOLD  # over
    assert new_overrides(world(7, marks), POLICY, late) == ()
    ours = {REPLICAS: "4"}  # Tidal writes, and clears the others in the same write
    assert until(world(4, ours), late + 60) is None
    (third,) = new_overrides(world(7, ours), POLICY, late + 120)  # the same count as before
    assert third.until_seconds == late + 120 + HOLD


def test_the_annotations_of_a_groups_role_name_it_unless_an_adapter_carries_them() -> None:
    group = role_based_group(
        "pd", group_role("decode", 5), annotations={f"{REPLICAS}.decode": "3", REPLICAS: "9"}
    )
    (found,) = new_overrides(Observed(role_based_groups=(group,)), GROUP, NOW)
    assert found.uid == group.metadata.uid
    assert found.annotations == {
        f"{OVERRIDE_UNTIL}.decode": text(NOW + HOLD),
        f"{OVERRIDE_REPLICAS}.decode": "5",
    }
    bound = adapter("pd", "decode", 4, annotations={REPLICAS: "3"})
    seen = Observed(role_based_groups=(group,), scaling_adapters=(bound,))
    (found,) = new_overrides(seen, GROUP, NOW)
    assert (found.uid, found.replicas) == (bound.metadata.uid, 4)
    assert set(found.annotations) == {OVERRIDE_UNTIL, OVERRIDE_REPLICAS}


def test_an_autoscalers_counts_are_no_edits() -> None:
    seen = msgspec.structs.replace(
        world(5, {REPLICAS: "3"}), autoscalers=(autoscaler("x", "Deployment", "a"),)
    )
    assert new_overrides(seen, POLICY, NOW) == ()
    assert complaints(seen, POLICY) == (
        (
            "models.chat.roles.decode.target: HorizontalPodAutoscaler default/x scales Deployment "
            "default/a too; delete one of the two"
        ),
    )


def test_a_time_that_cannot_be_read_is_complained_about() -> None:
    (line,) = complaints(world(3, {OVERRIDE_UNTIL: "soon"}), POLICY)
    assert line.startswith("Deployment default/a: annotation tidal.dev/override-until is 'soon':")
