"""The document that explains the policy: it is valid, complete, and tells the true defaults."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from scheduler.adapters.policyfile import read_policy
from scheduler.planning.policy import Policy

EXAMPLE = Path(__file__).parents[2] / "deploy" / "policy.example.yaml"
MARK = "# default"


def section_of(annotation: object) -> type[BaseModel] | None:
    """The section that a field holds, itself or as the values of a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = [section_of(argument) for argument in get_args(annotation)]
    return next((found for found in inner if found), None)


def fields(section: type[BaseModel]) -> Iterator[tuple[type[BaseModel], str, FieldInfo]]:
    """Every field of the policy's models, by the section that has it."""
    for name, field in section.model_fields.items():
        yield section, name, field
        inner = section_of(field.annotation)
        if inner:
            yield from fields(inner)


def written(
    node: yaml.Node, section: type[BaseModel] | None
) -> Iterator[tuple[type[BaseModel], str, yaml.Node, yaml.Node]]:
    """Every key of the example that is a field, with its section and nodes."""
    if section is None or not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        field = section.model_fields[key.value]
        yield section, key.value, key, value
        inner = section_of(field.annotation)
        if inner and get_origin(field.annotation) is dict:
            for _, one in value.value:
                yield from written(one, inner)
        else:
            yield from written(value, inner)


def lines_of_example() -> Iterator[tuple[type[BaseModel], str, object, str]]:
    """Section, field, value in the document and text of the line, for every field it names."""
    text = EXAMPLE.read_text()
    lines = text.splitlines()
    root = yaml.compose(text, yaml.SafeLoader)
    assert root is not None
    for section, name, key, value in written(root, Policy):
        plain = yaml.safe_load(yaml.serialize(value))
        yield section, name, plain, lines[key.start_mark.line]


def default_of(field: FieldInfo) -> object:
    default = field.get_default(call_default_factory=True)
    return list(default) if isinstance(default, tuple) else default


def test_the_example_is_valid() -> None:
    policy = read_policy(EXAMPLE)
    gpu_models = {
        tuple(sorted(role.capacity_tokens_per_second))
        for model in policy.models.values()
        for role in model.roles.values()
    }
    assert gpu_models == {("H100-SXM-80GB", "H200-SXM-141GB")}
    assert {tuple(model.roles) for model in policy.models.values()} == {("prefill", "decode")}
    assert len(policy.models) == 2


def test_the_example_names_every_field() -> None:
    known = {(section.__name__, name) for section, name, _ in fields(Policy)}
    named = {(section.__name__, name) for section, name, _, _ in lines_of_example()}
    assert named == known


def test_what_is_called_a_default_is_the_default_and_the_reverse() -> None:
    for section, name, value, line in lines_of_example():
        field = section.model_fields[name]
        if section_of(field.annotation) or field.is_required():
            assert MARK not in line, line
        else:
            assert (value == default_of(field)) == line.endswith(MARK), line
