"""Reviews: what is asked of the API server, and for how long an answer counts."""

import pytest

from scheduler.adapters.cluster.access import MOST_KEPT, Access, User
from scheduler.apiserver.client import ApiUnreachableError
from tests.fixtures.memoryapi import MemoryApi

TOKENS = "/apis/authentication.k8s.io/v1/tokenreviews"
RIGHTS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
ANN = {"username": "ann", "uid": "7", "groups": ["ops"], "extra": {"scopes": ["a", "b"]}}


class World:
    def __init__(self) -> None:
        self.api = MemoryApi()
        self.seconds = 0.0
        self.access = Access(self.api, lambda: self.seconds)
        self.answer(user=ANN)

    def answer(self, *, user: object = None, allowed: bool = True, error: str = "") -> None:
        status = {"authenticated": user is not None, "error": error}
        self.api.answers[TOKENS] = {"status": status | ({"user": user} if user else {})}
        self.api.answers[RIGHTS] = {"status": {"allowed": allowed}}


def test_a_token_is_asked_about_and_its_user_known() -> None:
    world = World()
    user = world.access.user_of("secret")
    assert user == User(username="ann", uid="7", groups=("ops",), extra={"scopes": ("a", "b")})
    (asked,) = world.api.uncreated
    assert asked["spec"] == {"token": "secret"}


@pytest.mark.parametrize("error", ["", "token has expired"])
def test_an_unknown_token_has_no_user(error: str) -> None:
    world = World()
    world.answer(error=error)
    assert world.access.user_of("secret") is None


def test_an_answer_with_an_error_is_no_login() -> None:
    world = World()
    world.answer(user=ANN, error="webhook failed")
    assert world.access.user_of("secret") is None


def test_the_right_is_asked_for_path_and_verb_as_the_whole_user() -> None:
    world = World()
    user = world.access.user_of("secret")
    assert user is not None
    assert world.access.may(user, "get", "/v1/status")
    assert world.api.uncreated[-1]["spec"] == {
        "user": "ann",
        "uid": "7",
        "groups": ["ops"],
        "extra": {"scopes": ["a", "b"]},
        "nonResourceAttributes": {"path": "/v1/status", "verb": "get"},
    }
    world.answer(user=ANN, allowed=False)
    assert not world.access.may(user, "get", "/v1/plan")


@pytest.mark.parametrize("known", [True, False])
def test_an_answer_counts_for_ten_seconds(known: bool) -> None:
    world = World()
    world.answer(user=ANN if known else None, allowed=known)
    for world.seconds in (0.0, 9.9):
        assert (world.access.user_of("secret") is not None) == known
        assert world.access.may(User(username="ann"), "get", "/v1/status") == known
    assert len(world.api.calls) == 2
    world.answer(user=None if known else ANN, allowed=not known)
    world.seconds = 10.0
    assert (world.access.user_of("secret") is not None) != known
    assert world.access.may(User(username="ann"), "get", "/v1/status") != known


def test_other_users_verbs_and_paths_are_asked_anew() -> None:
    world = World()
    for name, verb, path in (
        ("ann", "get", "/v1/status"),
        ("bob", "get", "/v1/status"),
        ("ann", "post", "/v1/status"),
        ("ann", "get", "/v1/plan"),
    ):
        world.access.may(User(username=name), verb, path)
    world.access.may(User(username="ann", groups=("ops",)), "get", "/v1/status")
    assert len(world.api.calls) == 5


def test_what_is_kept_is_bounded_and_holds_no_token() -> None:
    world = World()
    for number in range(MOST_KEPT + 1):
        world.access.user_of(f"secret-{number}")
    world.access.user_of("secret-0")
    assert len(world.api.calls) == MOST_KEPT + 2
    assert "secret" not in str(vars(world.access._users))  # noqa: SLF001 - nothing shows it


def test_no_answer_is_not_kept() -> None:
    world = World()
    world.api.away("POST")
    with pytest.raises(ApiUnreachableError):
        world.access.user_of("secret")
    world.api.away()
    assert world.access.user_of("secret") is not None
