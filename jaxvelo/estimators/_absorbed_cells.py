"""Fates and times of the cells, or an error that says why they are not known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Float

from jaxvelo.annotated.arguments import is_number, listed
from jaxvelo.annotated.progress_bar import progress_bar
from jaxvelo.configuration import logger
from jaxvelo.estimators._lineage import Lineage
from jaxvelo.estimators._state_set import States
from jaxvelo.markov import Outcome, absorption_probabilities, absorption_times, cannot_reach

SOLVERS = ("direct", "gmres", "lgmres", "bicgstab", "gcrotmk")
"""CellRank's; here one method solves all, directly where iteration does not."""
SMALL = 1e-6
"""A bound of the error below this is no sign of a slow chain."""


def fates_of(
    matrix: sp.csr_matrix, states: States, tolerance: Any, sum_tolerance: Any, shows_progress: bool
) -> Lineage:
    """Compute the probability of each cell to end in each state.

    Parameters
    ----------
    matrix
        Transition matrix.
    states
        Terminal states.
    tolerance
        Largest error of a probability.
    sum_tolerance
        How far the probabilities of a cell may be from the sum one.
    shows_progress
        Whether to show a bar.

    Raises
    ------
    ValueError
        If a cell can reach no terminal state, or a tolerance is no positive number.
    ArithmeticError
        If the fates are not known within the tolerances.
    """
    _check_tolerance("tol", tolerance)
    _check_tolerance("check_sum_tol", sum_tolerance)
    _check_reached(matrix, states)
    if len(states.names) == 1:
        logger.warning("There is one terminal state only: all cells go there with probability 1")
        return Lineage(np.ones((len(states.codes), 1)), names=states.names, colors=states.colors)
    n_fates = len(states.names)
    with progress_bar(n_fates + 1, "Fates", "equations", shows_progress) as bar:
        found = absorption_probabilities(matrix, states.codes, n_fates, tolerance=tolerance, report=bar.update)
    _check_outcome(found.outcome, float(found.error), tolerance, "fates")
    if float(found.row_sum_defect) > sum_tolerance:
        raise ArithmeticError(
            f"Expected the fates of each cell to sum to one within {sum_tolerance:.0e}, found a difference of "
            f"{float(found.row_sum_defect):.1e}. Pass a smaller `tol`, or a larger `check_sum_tol`."
        )
    logger.info(
        "    largest error %.1e; probabilities of a cell sum to one within %.1e",
        float(found.error),
        float(found.row_sum_defect),
    )
    # The bound of the error is within the tolerance: what is below zero or above one is so by rounding.
    probabilities = np.clip(np.asarray(found.probabilities), 0, 1)
    largest = probabilities[states.codes < 0].max(axis=0, initial=0)
    unreached = [name for name, value in zip(states.names, largest, strict=True) if value == 0]
    if unreached and (states.codes < 0).any():
        logger.warning("No cell goes to %s but those that are there", listed(unreached))
    return Lineage(probabilities, names=states.names, colors=states.colors)


def times_of(
    matrix: sp.csr_matrix, states: States, tolerance: Any, with_variance: bool, shows_progress: bool
) -> pd.DataFrame:
    """Compute how many steps cells take to each state, given that they go there: a column ``"<state>_mean"`` for each.

    Parameters
    ----------
    matrix, states, tolerance, shows_progress
        As of :func:`fates_of`.
    with_variance
        Whether to add columns ``"<state>_var"``.

    Raises
    ------
    ValueError, ArithmeticError
        As :func:`fates_of` does.
    """
    _check_tolerance("tol", tolerance)
    _check_reached(matrix, states)
    n_fates = len(states.names)
    with progress_bar(4 * n_fates + 1, "Times", "equations", shows_progress) as bar:
        found = absorption_times(
            matrix, states.codes, n_fates, tolerance=tolerance, report=bar.update, needs_variance=with_variance
        )
    if with_variance and found.error <= tolerance < found.variance_error:
        raise ArithmeticError(
            f"Expected variances of times with a relative error of at most `tol={tolerance:.0e}`, found a bound of "
            f"{float(found.variance_error):.1e}: they are differences of much larger numbers. The means are known: "
            "pass `calculate_variance=False`, or raise `tol`."
        )
    _check_outcome(found.outcome, float(found.error), tolerance, "times")
    columns: dict[str, Float[np.ndarray, " cells"]] = {}
    for number, name in enumerate(states.names):
        columns[f"{name}_mean"] = np.asarray(found.mean)[:, number]
        if with_variance:
            columns[f"{name}_var"] = np.asarray(found.variance)[:, number]
    return pd.DataFrame(columns, index=states.assignment.index)


def check_solver(solver: Any) -> None:
    """Raise a ValueError unless a solver is one of CellRank's."""
    if solver not in SOLVERS:
        raise ValueError(f"Expected `solver` to be one of {list(SOLVERS)}, found `{solver!r}`.")


def _check_tolerance(name: str, value: Any) -> None:
    if not is_number(value) or not 0 < value < 1:
        raise ValueError(f"Expected `{name}` to be a number between 0 and 1, found `{value!r}`.")


def _check_reached(matrix: sp.csr_matrix, states: States) -> None:
    """Raise a ValueError if some cells reach no terminal state."""
    lost = np.flatnonzero(cannot_reach(matrix, states.codes))
    if len(lost):
        cells = listed(states.assignment.index[lost], 3)
        raise ValueError(
            f"Expected each cell to reach one of the terminal states {listed(states.names)}, found {len(lost)} that "
            f"reach none, such as {cells}. {Outcome.UNREACHABLE.explanation}"
        )


def _check_outcome(outcome: Any, error: float, tolerance: float, what: str) -> None:
    """Raise an ArithmeticError, with cause and remedy, unless the equations are solved."""
    if int(outcome) == Outcome.INACCURATE:
        cause = (
            "the rounding errors of double precision show no smaller one. Raise `tol`."
            if error <= SMALL
            else "absorption takes too many steps. Choose terminal states that the cells come to sooner, add "
            "connectivities to the kernel, make its softmax scale smaller, or raise `tol`."
        )
        raise ArithmeticError(
            f"Expected {what} with an error of at most `tol={tolerance:.0e}`, found a bound of {error:.1e}: {cause}"
        )
    if int(outcome) != Outcome.SOLVED:
        raise ArithmeticError(Outcome(int(outcome)).explanation)
