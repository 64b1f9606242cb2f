"""The back ends: rows to HiGHS, one optimum back.

Small programs go through PuLP, whose statement can be printed and read; large ones straight to
HiGHS as arrays, because PuLP's objects took as long as the solve. Both hand HiGHS the same rows in
one transfer. One thread, no time limit, a limit on branch-and-bound nodes: the same rows always
give the same answer, unless `stop` ends a solve, which keeps the best point found. A solve that
fails has no answer; nothing is raised.
"""

from collections.abc import Callable
from typing import Any

import highspy
import msgspec
import numpy as np
import pulp

from binpacking.linear import FREE, HALF, Floats, Integers, Linear
from binpacking.problem import Effort

READABLE = 2000
"""Up to this many entries a program is stated in PuLP."""

_LARGEST_WEIGHT = 1 << 20
"""Objective weights above this are scaled down: the solver's tolerances are absolute."""

_FEASIBLE = 2
"""HiGHS' `kSolutionStatusFeasible`, as its info record states it."""

EXACT = 0.999
"""Objectives are integers: a bound closer than one is a proof."""

Stop = Callable[[], bool]
"""Asked now and then during a solve; true ends it."""


class Answer(msgspec.Struct, frozen=True):
    """A feasible point, and the best bound on the objective that was proven."""

    values: Floats
    """By column; whole numbers."""
    bound: float
    """No point has an objective below this."""


class Relaxed(msgspec.Struct, frozen=True):
    """The optimum where columns may take any value between their bounds."""

    values: Floats
    reduced: Floats
    """By column: what the objective rises by per unit, at the least."""
    duals: Floats
    """By row."""
    objective: float


def minimise(
    linear: Linear,
    costs: Floats,
    effort: Effort,
    stop: Stop | None = None,
    *,
    close: float = EXACT,
) -> Answer | None:
    """The least sum of cost x column; a point within `close` of it is good enough.

    None where no feasible point was found within the effort.
    """
    values, bound = search(linear, costs, effort, stop, close=close)
    return None if values is None else Answer(values, bound)


def search(
    linear: Linear,
    costs: Floats,
    effort: Effort,
    stop: Stop | None = None,
    *,
    close: float = EXACT,
    most: float = FREE,
) -> tuple[Floats | None, float]:
    """The best point found, if any, and what no point goes below: infinite where there is none.

    Points that cost more than `most`, a whole number, are of no interest: one may come back, but
    is not looked for, and of a bound above `most` no more is meant than that it is above.
    """
    if not linear.columns:
        return np.zeros(0), 0.0
    scale = _scale(costs)
    options = {
        "mip_rel_gap": effort.gap,
        "mip_abs_gap": close / scale,
        "mip_max_nodes": effort.node_limit,
        "objective_bound": (most + HALF) / scale,
        "mip_heuristic_run_feasibility_jump": False,
    }
    if len(linear.index) <= READABLE:
        solver = _through_pulp(linear, costs / scale, options)
    else:
        solver = _straight(linear, costs / scale, options, stop)
    if solver is None:
        return None, -FREE
    if solver.getModelStatus() == highspy.HighsModelStatus.kInfeasible:
        return None, FREE
    bound = solver.getInfo().mip_dual_bound * scale
    if solver.getInfo().primal_solution_status != _FEASIBLE:
        return None, bound
    return np.round(np.array(solver.getSolution().col_value)), bound


class Relaxation:
    """The linear relaxation, kept in the solver: columns can be fixed and the next solve is short.

    Mutable; it lives within one answer of the ladder.
    """

    def __init__(self, linear: Linear) -> None:
        self._linear = linear
        self._solver = _highs({})
        model = _model(linear, np.zeros(linear.columns))
        self._fine = self._solver.passModel(model) != highspy.HighsStatus.kError

    def minimise(self, costs: Floats) -> Relaxed | None:
        """The optimum; None where there is none, or HiGHS refuses the rows."""
        scale = _scale(costs)
        columns = np.arange(self._linear.columns, dtype=np.int32)
        if not self._fine:
            return None
        if not self._linear.columns:
            return Relaxed(np.zeros(0), np.zeros(0), np.zeros(self._linear.rows), 0.0)
        self._solver.changeColsCost(len(columns), columns, costs / scale)
        self._solver.run()
        if self._solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        found = self._solver.getSolution()
        return Relaxed(
            np.array(found.col_value),
            np.array(found.col_dual) * scale,
            np.array(found.row_dual) * scale,
            self._solver.getInfo().objective_function_value * scale,
        )

    def fix(self, columns: Integers, values: Floats) -> None:
        """Hold these columns at these values from now on."""
        index = columns.astype(np.int32)
        self._solver.changeColsBounds(len(index), index, values, values)


def stated(linear: Linear, costs: Floats) -> tuple[Any, list[Any]]:
    """The PuLP problem and its variables; names are padded because PuLP orders by name."""
    problem = pulp.LpProblem("packing", pulp.LpMinimize)
    columns = [
        problem.add_variable(f"c{number:06d}", 0, int(upper), pulp.LpInteger)
        for number, upper in enumerate(linear.upper)
    ]
    problem.setObjective(pulp.LpAffineExpression(list(zip(columns, costs.tolist(), strict=True))))
    for row in range(linear.rows):
        terms = pulp.LpAffineExpression([(columns[c], weight) for c, weight in linear.terms(row)])
        for side, limit in ((pulp.LpConstraintGE, linear.low), (pulp.LpConstraintLE, linear.high)):
            if abs(limit[row]) != FREE:
                name = f"r{row:06d}_{side + 1}"
                problem.addConstraint(
                    pulp.LpConstraint(terms.copy(), side, name, float(limit[row]))
                )
    return problem, columns


def _through_pulp(linear: Linear, costs: Floats, options: dict[str, Any]) -> Any:  # noqa: ANN401  # highspy ships no types
    problem, _ = stated(linear, costs)
    try:
        problem.solve(_Highs(msg=False, threads=1, **options))
    except pulp.PulpError:
        return None
    return problem.solverModel


def _straight(
    linear: Linear,
    costs: Floats,
    options: dict[str, Any],
    stop: Stop | None,
) -> Any:  # noqa: ANN401  # highspy ships no types
    solver = _highs(options)
    model = _model(linear, costs)
    model.integrality_ = [highspy.HighsVarType.kInteger] * linear.columns
    if solver.passModel(model) == highspy.HighsStatus.kError:
        return None
    if stop is not None:
        asked = stop
        solver.cbMipInterrupt += lambda event: event.interrupt(asked())
    solver.run()
    return solver


def _highs(options: dict[str, Any]) -> Any:  # noqa: ANN401  # highspy ships no types
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    for name, value in ({"output_flag": False, "threads": 1} | options).items():
        if solver.setOptionValue(name, value) != highspy.HighsStatus.kOk:
            raise RuntimeError(f"HiGHS knows no option {name} with the value {value}")
    return solver


def _scale(costs: Floats) -> int:
    """A power of two that brings the largest weight within the solver's comfort."""
    largest = int(np.max(np.abs(costs), initial=0))
    return 1 << (largest // _LARGEST_WEIGHT).bit_length()


class _Highs(pulp.HiGHS):  # type: ignore[misc]  # PuLP ships no types
    """PuLP's HiGHS with one transfer for the whole problem, and the node limit's status.

    PuLP adds columns and rows one by one, which took as long as the solve, and has no word for a
    solve that stopped at the node limit.
    """

    def buildSolverModel(self, lp: Any) -> None:  # noqa: ANN401, N802  # PuLP's names and types
        """Hand HiGHS all columns and rows at once; raises where it refuses them."""
        columns, rows = lp.variables(), lp.constraints()
        for index, column in enumerate(columns):
            column.index = index
        for index, row in enumerate(rows):
            row.index = index
        lower, upper = [row.getLb() for row in rows], [row.getUb() for row in rows]
        linear = Linear(
            np.array([column.upBound for column in columns], float),
            np.cumsum([0, *(len(row) for row in rows)]).astype(np.int32),
            np.array([column.index for row in rows for column in row], np.int32),
            np.array([weight for row in rows for weight in row.values()], float),
            np.array([-FREE if side is None else side for side in lower], float),
            np.array([FREE if side is None else side for side in upper], float),
        )
        model = _model(linear, np.array([lp.objective[column] for column in columns], float))
        model.integrality_ = [highspy.HighsVarType.kInteger] * linear.columns
        if lp.solverModel.passModel(model) == highspy.HighsStatus.kError:
            raise pulp.PulpSolverError("HiGHS refused the rows")

    def findSolutionValues(self, lp: Any) -> tuple[int, int]:  # noqa: ANN401, N802
        """PuLP's pair of statuses, with the values set on the variables."""
        if lp.solverModel.getInfo().primal_solution_status != _FEASIBLE:
            return pulp.LpStatusNotSolved, pulp.LpSolutionNoSolutionFound
        for column, value in zip(
            lp.variables(), lp.solverModel.getSolution().col_value, strict=True
        ):
            column.varValue = value
        if lp.solverModel.getModelStatus() == highspy.HighsModelStatus.kOptimal:
            return pulp.LpStatusOptimal, pulp.LpSolutionOptimal
        return pulp.LpStatusOptimal, pulp.LpSolutionIntegerFeasible


def _model(linear: Linear, costs: Floats) -> highspy.HighsLp:
    """The rows in HiGHS' arrays, without integrality."""
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = linear.columns, linear.rows
    model.col_cost_ = costs
    model.col_lower_ = np.zeros(linear.columns)
    model.col_upper_ = linear.upper
    model.row_lower_ = linear.low
    model.row_upper_ = linear.high
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = linear.starts.astype(np.int32)
    model.a_matrix_.index_ = linear.index.astype(np.int32)
    model.a_matrix_.value_ = linear.value
    return model
