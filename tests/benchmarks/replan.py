"""How good and how fast a re-plan is after an event, beside rivals and a proven bound.

Instances come from `scheduler.simulation.instances`, each policy decides on each seed in a process
of its own, and every figure is counted from the plan by `replanmeasure`. `tidal` is the product's
ladder at full effort, `tidal-quick` its quick answer; both stop at the first rung that ends after
`--seconds`. Bounds are those that `tidal` proved on the same seed. Seconds are CPU seconds of the
one thread that plans, so that a busy machine does not count. With several sizes in `--nodes`, the
growth of the CPU to a fixed gap is printed too, beside the gap that the whole effort leaves.
Output: `tidal.replan/1`; exit status 1 where a plan does not materialise or breaks the topology.

    python -m tests.benchmarks.replan --nodes 1000 --seeds 0-9 --occupancy .9 --growth .3 \
        --event full --seconds 10 --policies tidal,priority-first-fit,cost-greedy,naive -o json
"""

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from binpacking.ladder import climb
from binpacking.problem import Effort, Packing
from scheduler.cli.arguments import names_of, positive
from scheduler.simulation import reference
from scheduler.simulation.instances import Instance, generate
from tests.benchmarks.options import Options, seeds, share
from tests.benchmarks.replanexact import Exact
from tests.benchmarks.replangrowth import Spent, growth
from tests.benchmarks.replanmeasure import Figures, measure, with_batch
from tests.benchmarks.replannaive import naive
from tests.benchmarks.replanproblem import SECONDS_PER_HOUR, Plan, plan_of, problem_of
from tests.benchmarks.replanrivals import cost_greedy, priority_first_fit
from tests.benchmarks.replansleepers import Sleeper, draw, with_sleepers

SCHEMA = "tidal.replan/1"
QUICK = Effort(name="quick", program=True)
FULL = Effort(name="full", program=True)
MILLI = 1000
MOST_EXACT_NODES = 64
"""Above this the program GPU by GPU takes too long."""


class Case(msgspec.Struct, frozen=True):
    """One instance, and how long a policy may take."""

    nodes: int
    seed: int
    occupancy: float
    growth: float
    small: bool
    seconds: float
    gap: float
    sleepers: float = 0.0

    def instance(self) -> Instance:
        """Draw it."""
        return generate(
            self.nodes,
            self.seed,
            occupancy=self.occupancy,
            growth=self.growth,
            small=self.small,
        )

    def asleep(self, instance: Instance) -> tuple[Sleeper, ...]:
        """Draw its sleepers."""
        return draw(instance, self.seed, self.sleepers)


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy decided, and what that took."""

    plan: Plan
    rung: str
    first_plan_seconds: float
    proven_seconds: float | None = None
    """Until tiers 1 and 2 had gap 0."""
    gap_seconds: float | None = None
    """Until they had the gap asked for."""
    total_seconds: float
    bound_unserved_gpus: float | None = None
    bound_loss: float | None = None


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One policy on one seed."""

    policy: str
    case: Case
    decision: Decision
    figures: Figures
    peak_rss_mib: float


Policy = Callable[[Case, Instance], Decision]


def main() -> int:
    """Run every policy on every seed, print the document."""
    options = _options()
    since = reference.start()
    cases = [_case(options, nodes, seed) for nodes in options.nodes for seed in options.seeds]
    runs = [run for case in cases for run in _decided(options, case)]
    document = _document(options, runs, since)
    if options.output == "json":
        print(json.dumps(document, indent=2))
    else:
        _table(document)
    whole = all(r.figures.materialised and not r.figures.topology_violations for r in runs)
    return 0 if whole else 1


def _options() -> argparse.Namespace:
    parser = Options("replan", __doc__)
    parser.add_argument("--nodes", type=_sizes, default=(1000,), help="such as 1000 or 250,1000")
    parser.add_argument("--seeds", type=seeds, default=(0,), help="such as 0-9 or 3,5")
    parser.add_argument("--occupancy", type=share, default=0.9)
    parser.add_argument("--growth", type=share, default=0.3)
    parser.add_argument("--event", choices=("full", "small"), default="full")
    parser.add_argument(
        "--sleepers", type=share, default=0.0, help="share of the nodes with engines asleep"
    )
    parser.add_argument(
        "--exact-warm", action="store_true", help="solve each seed GPU by GPU; at most 64 nodes"
    )
    parser.add_argument("--seconds", type=positive, default=10.0, help="CPU seconds for a plan")
    parser.add_argument("--gap", type=share, default=0.02, help="relative, to be timed")
    parser.add_argument(
        "--policies", type=names_of(tuple(POLICIES)), default=["tidal"], help=", ".join(POLICIES)
    )
    parser.add_argument("--plans", type=Path, help="write one JSON object a plan to this file")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    options = parser.parse_args()
    try:
        for nodes in options.nodes:
            case = _case(options, nodes, options.seeds[0])
            case.asleep(case.instance())
    except ValueError as error:
        parser.error(str(error))
    if options.exact_warm and max(options.nodes) > MOST_EXACT_NODES:
        parser.error(f"--exact-warm: give at most {MOST_EXACT_NODES} --nodes")
    return options


def _sizes(text: str) -> tuple[int, ...]:
    if not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of nodes; give 1000 or 250,1000")
    return tuple(sorted({int(part) for part in text.split(",")}))


def _case(options: argparse.Namespace, nodes: int, seed: int) -> Case:
    return Case(
        nodes=nodes,
        seed=seed,
        occupancy=options.occupancy,
        growth=options.growth,
        small=options.event == "small",
        seconds=options.seconds,
        gap=options.gap,
        sleepers=options.sleepers,
    )


def _decided(options: argparse.Namespace, case: Case) -> list[Run]:
    """Let each policy decide in a fresh process: its peak memory is its own."""
    spawn = multiprocessing.get_context("spawn")
    runs = []
    for policy in options.policies:
        with ProcessPoolExecutor(1, mp_context=spawn) as child:
            runs.append(child.submit(run, policy, case).result())
        print(f"{_of(case)} {policy}: {_remark(runs[-1])}", file=sys.stderr, flush=True)
    if options.plans:
        first = (case.nodes, case.seed) == (options.nodes[0], options.seeds[0])
        with options.plans.open("w" if first else "a") as file:
            file.writelines(json.dumps(_line(one)) + "\n" for one in runs)
    return runs


def run(policy: str, case: Case) -> Run:
    """Decide one case."""
    instance = case.instance()
    decision = POLICIES[policy](case, instance)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Run(
        policy=policy,
        case=case,
        decision=decision,
        figures=measure(instance, decision.plan, case.asleep(instance)),
        peak_rss_mib=peak,
    )


def _tidal(effort: Effort) -> Policy:
    def decide(case: Case, instance: Instance) -> Decision:
        problem = with_sleepers(problem_of(instance), case.asleep(instance))
        begun = time.process_time()

        def spent() -> float:
            return time.process_time() - begun

        first = proven = close = None
        best = Packing()
        for best in climb(problem, effort, lambda: spent() > case.seconds):
            first = spent() if first is None and best.bound_loss is not None else first
            proven = spent() if proven is None and best.gap == 0.0 else proven
            near = best.gap is not None and best.gap <= case.gap
            close = spent() if close is None and near else close
        return Decision(
            plan=plan_of(instance, best),
            rung=best.rung,
            first_plan_seconds=first or 0.0,
            proven_seconds=proven,
            gap_seconds=close,
            total_seconds=spent(),
            bound_unserved_gpus=_scaled(best.bound_unserved_milli_gpus, MILLI),
            bound_loss=_scaled(best.bound_loss, SECONDS_PER_HOUR),
        )

    return decide


def _scaled(value: int | None, unit: int) -> float | None:
    return None if value is None else value / unit


def _rival(name: str, plan: Callable[[Instance], Plan]) -> Policy:
    def decide(case: Case, instance: Instance) -> Decision:
        begun = time.process_time()
        found = with_batch(instance, plan(instance))
        seconds = time.process_time() - begun
        return Decision(plan=found, rung=name, first_plan_seconds=seconds, total_seconds=seconds)

    return decide


def _naive(case: Case, instance: Instance) -> Decision:
    begun = time.process_time()
    plan = with_batch(instance, naive(instance, case.seconds))
    seconds = time.process_time() - begun
    return Decision(plan=plan, rung="naive", first_plan_seconds=seconds, total_seconds=seconds)


POLICIES: dict[str, Policy] = {
    "tidal": _tidal(FULL),
    "tidal-quick": _tidal(QUICK),
    "priority-first-fit": _rival("priority-first-fit", priority_first_fit),
    "cost-greedy": _rival("cost-greedy", cost_greedy),
    "naive": _naive,
}


def _remark(one: Run) -> str:
    figures, decision = one.figures, one.decision
    return (
        f"{figures.unserved_gpus} unserved, loss {figures.loss:.1f} by {decision.rung}"
        f" in {decision.total_seconds:.2f} s"
    )


def _of(case: Case) -> str:
    return f"{case.nodes} nodes, seed {case.seed},"


def _line(one: Run) -> dict[str, Any]:
    """State a plan as `--plans` writes it."""
    plan = one.decision.plan
    return {
        "policy": one.policy,
        "seed": one.case.seed,
        "nodes": one.case.nodes,
        "killed": plan.killed,
        "placed": [
            {"service": group.service, "pieces": [list(piece) for piece in group.pieces]}
            for group in plan.placed
        ],
        "loss": one.figures.loss,
        "unserved_gpus": one.figures.unserved_gpus,
    }


def _document(
    options: argparse.Namespace, runs: list[Run], since: reference.Started
) -> dict[str, Any]:
    bounds = {one.case: one.decision for one in runs if one.policy == "tidal"}
    best = {one.case: _exact(one.case) for one in runs if options.exact_warm}
    machine = msgspec.to_builtins(reference.machine(since))
    if len(options.nodes) > 1:
        machine["growth"] = [_growth(options, policy, runs, bounds) for policy in options.policies]
    return {
        "schema": SCHEMA,
        "inputs": {
            "nodes": options.nodes if len(options.nodes) > 1 else options.nodes[0],
            "seeds": options.seeds,
            "occupancy": options.occupancy,
            "growth": options.growth,
            "event": options.event,
            "sleepers": options.sleepers,
            "seconds": options.seconds,
            "gap": options.gap,
            "policies": options.policies,
        },
        "results": [_record(one, bounds.get(one.case)) | best.get(one.case, {}) for one in runs],
        "timing": machine | {"records": [_timing(one) for one in runs]},
    }


def _growth(
    options: argparse.Namespace, policy: str, runs: list[Run], bounds: dict[Case, Decision]
) -> dict[str, Any]:
    spent = [
        Spent(
            one.case.nodes,
            one.decision.gap_seconds,
            one.decision.total_seconds,
            _record(one, bounds.get(one.case))["gap"],
        )
        for one in runs
        if one.policy == policy
    ]
    found: dict[str, Any] = msgspec.to_builtins(growth(policy, options.gap, spent), str_keys=True)
    return found


@cache
def _exact(case: Case) -> dict[str, Any]:
    """What the program GPU by GPU finds: the least unserved, then the least loss."""
    instance = case.instance()
    unserved, loss, woken = Exact(instance, case.asleep(instance)).least()
    return {
        "exact_unserved_gpus": unserved,
        "exact_loss": round(loss, 6),
        "exact_sleepers_hit": woken,
    }


def _record(one: Run, proof: Decision | None) -> dict[str, Any]:
    unserved = proof.bound_unserved_gpus if proof else one.decision.bound_unserved_gpus
    loss = proof.bound_loss if proof else one.decision.bound_loss
    return {
        "policy": one.policy,
        "nodes": one.case.nodes,
        "seed": one.case.seed,
        **msgspec.to_builtins(one.figures),
        "bound_unserved_gpus": unserved,
        "bound_loss": loss,
        "gap": _gap(one.figures, unserved, loss),
        "rung": one.decision.rung,
    }


def _gap(figures: Figures, unserved: float | None, loss: float | None) -> float | None:
    """Relative gap of the first of the two tiers that has one; None without a bound."""
    if unserved is None or loss is None:
        return None
    if figures.unserved_gpus > unserved:
        return round((figures.unserved_gpus - unserved) / figures.unserved_gpus, 6)
    return round(max(0.0, figures.loss - loss) / max(figures.loss, 1e-9), 6)


def _timing(one: Run) -> dict[str, Any]:
    decision = one.decision
    return {
        "policy": one.policy,
        "nodes": one.case.nodes,
        "seed": one.case.seed,
        "first_plan_seconds": decision.first_plan_seconds,
        "proven_seconds": decision.proven_seconds,
        "gap_seconds": decision.gap_seconds,
        "total_seconds": decision.total_seconds,
        "peak_rss_mib": one.peak_rss_mib,
    }


def _table(document: dict[str, Any]) -> None:
    columns: list[str] = []
    for record, timing in zip(document["results"], document["timing"]["records"], strict=True):
        cells = record | timing
        if not columns:
            columns = list(cells)
            print("\t".join(columns))
        print("\t".join(_cell(cells[name]) for name in columns))


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
