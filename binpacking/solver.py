"""The back end: rows to a PuLP problem, PuLP to HiGHS, one optimum back.

One thread, no time limit, a limit on branch-and-bound nodes: the same rows always give the same
answer. A solve that fails has no answer; nothing is raised.
"""

from collections.abc import Mapping
from typing import Any

import highspy
import msgspec
import numpy as np
import pulp

from binpacking.problem import Effort
from binpacking.rows import Linear

_LARGEST_WEIGHT = 1 << 20
"""Objective weights above this are scaled down: the solver's tolerances are absolute."""

_FEASIBLE = 2
"""HiGHS' `kSolutionStatusFeasible`, as its info record states it."""


class Answer(msgspec.Struct, frozen=True):
    """A feasible point, and the best bound on the objective that was proven."""

    values: tuple[int, ...]
    """By column number."""
    bound: float
    """No point has an objective below this."""


def minimise(rows: Linear, weights: Mapping[int, int], effort: Effort) -> Answer | None:
    """The least sum of weight x column; `weights` by column number, 0 where one is missing.

    None where no feasible point was found within the effort.
    """
    if not rows.columns:
        return Answer((), 0.0)
    scale = _scale(weights)
    problem, columns = _stated(rows, weights, scale)
    solver = _Highs(
        msg=False,
        threads=1,
        gapRel=effort.gap,
        mip_max_nodes=effort.node_limit,
        mip_heuristic_run_feasibility_jump=False,
    )
    try:
        problem.solve(solver)
    except pulp.PulpError:
        return None
    if problem.sol_status not in {pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible}:
        return None
    bound = problem.solverModel.getInfo().mip_dual_bound
    return Answer(tuple(round(column.varValue) for column in columns), bound * scale)


def _stated(rows: Linear, weights: Mapping[int, int], scale: int) -> tuple[Any, list[Any]]:
    """The PuLP problem and its variables; names are padded because PuLP orders by name."""
    problem = pulp.LpProblem("packing", pulp.LpMinimize)
    columns = [
        problem.add_variable(f"c{number:06d}", 0, column.upper, pulp.LpInteger)
        for number, column in enumerate(rows.columns)
    ]
    problem.setObjective(
        pulp.LpAffineExpression(
            [(column, weights.get(number, 0) / scale) for number, column in enumerate(columns)]
        )
    )
    for number, row in enumerate(rows.rows):
        for side, limit in ((pulp.LpConstraintGE, row.lower), (pulp.LpConstraintLE, row.upper)):
            if limit is not None:
                terms = pulp.LpAffineExpression([(columns[c], weight) for c, weight in row.terms])
                name = f"r{number:06d}_{side + 1}"
                problem.addConstraint(pulp.LpConstraint(terms, side, name, limit))
    return problem, columns


def _scale(weights: Mapping[int, int]) -> int:
    """A power of two that brings the largest weight within the solver's comfort."""
    largest = max((abs(weight) for weight in weights.values()), default=0)
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
        if lp.solverModel.passModel(_model(lp, columns, rows)) == highspy.HighsStatus.kError:
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


def _model(lp: Any, columns: list[Any], rows: list[Any]) -> highspy.HighsLp:  # noqa: ANN401
    """The PuLP problem in HiGHS' row-wise arrays."""
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(columns), len(rows)
    model.col_cost_ = np.array([lp.objective[column] for column in columns], float)
    model.col_lower_ = np.zeros(len(columns))
    model.col_upper_ = np.array([column.upBound for column in columns], float)
    model.integrality_ = [highspy.HighsVarType.kInteger] * len(columns)
    lower, upper = [row.getLb() for row in rows], [row.getUb() for row in rows]
    infinity = highspy.kHighsInf
    model.row_lower_ = np.array([-infinity if y is None else y for y in lower], float)
    model.row_upper_ = np.array([infinity if y is None else y for y in upper], float)
    matrix = model.a_matrix_
    matrix.format_ = highspy.MatrixFormat.kRowwise
    matrix.start_ = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int32)
    matrix.index_ = np.array([column.index for row in rows for column in row], np.int32)
    matrix.value_ = np.array([weight for row in rows for weight in row.values()], float)
    return model
