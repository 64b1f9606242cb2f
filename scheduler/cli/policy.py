"""`scalerctl policy check FILE`: every error of a policy at once, before it is in force."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import msgspec
from rich.table import Table
from rich.text import Text

from scheduler.adapters.policyfile import read_policy
from scheduler.cli import words
from scheduler.cli.terminal import (
    Cell,
    CommandError,
    Subparsers,
    add_output,
    print_document,
    print_parts,
    table,
)
from scheduler.planning.policy import Policy, PolicyError, RolePolicy


def add(subparsers: Subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser("policy", help="check a policy")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="say every error of a policy file")
    check.add_argument(
        "file", metavar="FILE", type=Path, help="a policy, or a ConfigMap that carries one"
    )
    add_output(check)
    check.set_defaults(handle=handle)


def handle(args: argparse.Namespace) -> int:
    """Read the file; show the policy with all defaults filled in."""
    try:
        policy = read_policy(args.file)
    except PolicyError as error:
        raise CommandError(*error.errors) from None
    if args.output == "table":
        print_parts(tell(policy))
    else:
        document = {"schema": "tidal.policy/1", "policy": policy.model_dump(mode="json")}
        print_document(msgspec.json.encode(document), args.output)
    return 0


def tell(policy: Policy) -> Iterator[Table | Text]:
    """Yield that the policy is good, and its roles."""
    yield Text(f"the policy is good; mode {policy.mode}", words.GOOD)
    headers = ("ROLE", "GPUS", "TOKENS", "TOKENS/S OF A REPLICA", "REPLICAS", "SIZED FOR")
    rows = [
        _row(f"{name}/{key}", role)
        for name, model in policy.models.items()
        for key, role in model.roles.items()
    ]
    yield table(headers, rows)


def _row(key: str, role: RolePolicy) -> tuple[Cell, ...]:
    rates = role.capacity_tokens_per_second.items()
    return (
        key,
        str(role.gpus_per_pod * role.pods_per_replica),
        role.tokens,
        ", ".join(f"{model}: {words.rate(rate)}" for model, rate in rates),
        f"{role.min_replicas}-{role.max_replicas}",
        f"P{role.quantile * 100:g} within {words.span(role.lead_seconds)}",
    )
