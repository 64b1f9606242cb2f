"""The policy document: refused as a whole, with every error at once and the field's path."""

import pytest

from scheduler.planning.policy import PolicyError, parse

ROLE = {"tokens": "prompt", "capacity_tokens_per_second": {"H100": 1000.0}}


def document(**changes: object) -> dict[str, object]:
    return {"version": 1, "models": {"chat": {"roles": {"prefill": {**ROLE, **changes}}}}}


def test_defaults_fill_what_is_not_said() -> None:
    policy = parse(document())
    role = policy.role("chat/prefill")
    assert role is not None
    assert (role.gpus_per_pod, role.min_replicas, policy.mode) == (1, 1, "act")
    assert policy.role("chat/decode") is None
    assert policy.role("code/prefill") is None


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        (document(capacity_tokens_per_second={}), "capacity_tokens_per_second"),
        (document(quantile=0.8), "quantile"),
        (document(min_replicas=3, max_replicas=2), "min_replicas must not exceed max_replicas"),
        (document(tokns="prompt"), "prefill.tokns"),
        (document(headroom=1.5), "headroom"),
        ({**document(), "version": 2}, "version"),
        ({**document(), "cadence": {"plan_seconds": 5}}, "observe_seconds <= plan_seconds"),
        ({**document(), "extender": {"plan_stale_seconds": 1e9}}, "plan_stale_seconds"),
        ({"version": 1, "models": {}}, "models"),
        ({}, "version"),
    ],
)
def test_each_error_names_its_field(wrong: dict[str, object], where: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse(wrong)
    assert any(where in line for line in caught.value.errors)


def test_all_errors_come_at_once() -> None:
    wrong = {**document(headroom=2, gpus_per_pod=0), "mode": "sometimes", "colour": "red"}
    with pytest.raises(PolicyError) as caught:
        parse(wrong)
    paths = [line.partition(":")[0] for line in caught.value.errors]
    assert paths == [
        "mode",
        "models.chat.roles.prefill.gpus_per_pod",
        "models.chat.roles.prefill.headroom",
        "colour",
    ]
