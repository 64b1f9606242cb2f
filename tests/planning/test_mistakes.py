"""What a wrong document is told: the path, the fix, and the key that was likely meant."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from scheduler.planning.mistakes import error_lines
from scheduler.planning.policy import Cadence, Policy, Slo


def told(document: object, kind: Any = Policy) -> tuple[str, ...]:  # noqa: ANN401 -- or a union
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(document)
    return error_lines(caught.value, kind)


def policy(role: object) -> dict[str, object]:
    return {"version": 1, "models": {"chat": {"roles": {"decode": role}}}}


WHOLE = {"tokens": "generated", "capacity_tokens_per_second": {"H": 1}}
ROLE = "models.chat.roles.decode"


@pytest.mark.parametrize(
    ("role", "line"),
    [
        (WHOLE | {"tokens": "gen"}, ".tokens: must be 'prompt' or 'generated' (given: 'gen')"),
        (WHOLE | {"min_replica": 1}, ".min_replica: is no key here; 'min_replicas' is"),
        (
            WHOLE | {"spread": {"level": "leaf", "domains": 2, "number": 1}},
            ".spread.number: is no key here; these are: domains, level",
        ),
        (
            WHOLE | {"capacity_tokens_per_second": {}},
            ".capacity_tokens_per_second: is empty; give at least 1",
        ),
        ({"tokens": "prompt"}, ".capacity_tokens_per_second: is missing"),
        (WHOLE | {"spread": 3}, ".spread: must be a mapping (given: 3)"),
    ],
)
def test_a_wrong_field_is_told_in_one_line(role: object, line: str) -> None:
    assert told(policy(role)) == (ROLE + line,)


def test_a_section_says_what_it_demands_without_more_words() -> None:
    (line,) = told({**policy(WHOLE), "cadence": {"observe_seconds": 90}})
    assert line.startswith("cadence: must hold: observe_seconds <= plan_seconds")


def test_an_unknown_key_of_one_of_several_kinds_names_no_other() -> None:
    assert "Slo.ttft_second: is no key here" in told({"ttft_second": 1}, Cadence | Slo)


def test_a_long_value_is_cut() -> None:
    (line,) = told(policy(WHOLE | {"tokens": "x" * 1000}))
    assert len(line) == 300
