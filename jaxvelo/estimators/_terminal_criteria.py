"""Which macrostates are terminal: criteria to choose by, each a function from a macrostate picture to a choice."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from jaxvelo.annotated.arguments import check_integer, is_number
from jaxvelo.configuration import logger
from jaxvelo.estimators._coarse_chain import CoarseChain
from jaxvelo.markov import eigengap


class Evidence(NamedTuple):
    """What criteria choose by.

    Attributes
    ----------
    transitions
        The transition matrix.
    coarse
        The macrostates as a chain.
    memberships
        How much each cell belongs to each macrostate, shape ``(cells, states)``.
    eigenvalues
        Leading eigenvalues of the transition matrix; ``None`` if they are not computed.
    alpha
        Weight of the distance of an eigenvalue from one in an eigengap.
    stability_threshold
        Least probability to stay, 0.96 if ``None``.
    n_states
        Number of states to choose, if the user wants to fix it.
    n_cells
        Number of cells that stand for a state.
    """

    transitions: sp.csr_matrix
    coarse: CoarseChain
    memberships: np.ndarray
    eigenvalues: np.ndarray | None
    alpha: float | None
    stability_threshold: float | None
    n_states: int | None
    n_cells: int


class Choice(NamedTuple):
    """States that were chosen, and why.

    Attributes
    ----------
    names
        The states, in the order that they get.
    reason
        The rule in words: what the numbers of those chosen have in common.
    numbers
        By what each macrostate was judged, chosen or not, to be shown to the user; the stabilities if ``None``.
    """

    names: list[str]
    reason: str
    numbers: Mapping[str, str] | None = None


def by_stability(evidence: Evidence) -> Choice:
    """Choose the states that are stable enough: those with a probability to stay of at least the threshold."""
    threshold = DEFAULT_THRESHOLD if evidence.stability_threshold is None else evidence.stability_threshold
    if not is_number(threshold):
        raise ValueError(f"Expected `stability_threshold` to be a number, found `{threshold!r}`.")
    stability = evidence.coarse.stability
    names = [str(name) for name in stability.index[stability >= threshold]]
    if not names:
        raise ValueError(
            f"Expected a macrostate with a stability of at least {threshold}, found the largest of "
            f"{stability.max():.4f}, that of {stability.idxmax()!r}. Lower `stability_threshold`, choose another "
            "`method` (as 'top_n' with `n_states`), or compute other macrostates by `.compute_macrostates()`."
        )
    return Choice(names, f"stability of at least {threshold}")


def by_number(evidence: Evidence) -> Choice:
    """Choose as many of the most stable states as the user asks for."""
    if evidence.n_states is None:
        raise ValueError("Expected `n_states` for `method='top_n'`, found None. Pass the number of terminal states.")
    check_integer("n_states", evidence.n_states, 1)
    n_all = len(evidence.coarse.stability)
    if evidence.n_states > n_all:
        raise ValueError(
            f"Expected `n_states` of at most the {n_all} macrostates, found {evidence.n_states}. Compute more by "
            "`.compute_macrostates()`."
        )
    return Choice(_most_stable(evidence.coarse, evidence.n_states), f"the {evidence.n_states} most stable ones")


def by_eigengap(evidence: Evidence) -> Choice:
    """Choose as many of the most stable states as there are eigenvalues before their largest gap."""
    n_states = eigengap(_eigenvalues(evidence), _alpha(evidence))
    reason = f"the most stable ones, as many as the {n_states} eigenvalues before the gap"
    return Choice(_most_stable(evidence.coarse, n_states), reason)


def by_coarse_eigengap(evidence: Evidence) -> Choice:
    """Choose the states before the largest gap of the stabilities, without the last of them but at least one."""
    n_states = max(eigengap(evidence.coarse.stability.to_numpy(), _alpha(evidence)) - 1, 1)
    return Choice(_most_stable(evidence.coarse, n_states), f"the {n_states} before a gap of the stabilities")


def by_retention(evidence: Evidence) -> Choice:
    r"""Choose the states that keep their cells and that others come to.

    With :math:`\lambda_{k+1}` the first eigenvalue behind the gap, what is faster than the gap is over after
    :math:`t = 1 / (1 - \lambda_{k+1})` steps. A state j is terminal if

    1. it then keeps most of what it had, :math:`(T_c^t)_{jj} \geq 0.6` with :math:`T_c` the coarse transition matrix;
    2. cells are still found where it is when it would have lost its own: start a walk at each cell; after
       :math:`2 / (1 - (T_c)_{jj})` steps, but no more than :math:`10 t`, a quarter of a walk or more is at each of its
       most typical cells in the mean.

    The first condition leaves out what is passed through, the second one beginnings, however slowly they are left,
    and parts of a way whose end is another state.
    """
    check_integer("n_cells", evidence.n_cells, 1)
    eigenvalues = np.sort(np.real(_eigenvalues(evidence)))[::-1]
    following = eigenvalues[eigengap(eigenvalues, _alpha(evidence))]
    n_steps = math.ceil(1 / max(1 - max(following, 0.0), PATIENCE / MOST_STEPS))
    matrix = evidence.coarse.transition_matrix.to_numpy()
    kept = np.diag(np.linalg.matrix_power(matrix, n_steps))
    steps_of = np.clip(np.ceil(2 / np.maximum(1 - np.diag(matrix), 1e-9)), n_steps, PATIENCE * n_steps).astype(int)
    found = _walks_found(evidence, steps_of)
    names = [str(name) for name in evidence.coarse.stability.index]
    chosen = [names[state] for state in np.flatnonzero((kept >= LEAST_KEPT) & (found >= LEAST_FOUND))]
    numbers = {name: f"keeps {max(k, 0):.0%}, draws {f:.2g}" for name, k, f in zip(names, kept, found, strict=True)}
    if not chosen:
        raise ValueError(
            f"Expected a macrostate that keeps at least {LEAST_KEPT:.0%} of its walks for {n_steps} steps, and draws, "
            f"of one walk from each cell, at least {LEAST_FOUND} to each of its typical cells later, found {numbers}. "
            "The process may go round: choose another `method` (as 'top_n' with `n_states`), or name the states by "
            "`.set_terminal_states()`."
        )
    reason = (
        f"keeping at least {LEAST_KEPT:.0%} of the walks that start there for {n_steps} steps, and drawing, of one "
        f"walk from each cell, at least {LEAST_FOUND} to each typical cell later"
    )
    return Choice(chosen, reason, numbers)


def _walks_found(evidence: Evidence, steps_of: Int[np.ndarray, " states"]) -> Float[np.ndarray, " states"]:
    """Start a walk at each cell: how many are at a typical cell of each state after so many steps, in the mean."""
    walks = np.ones(len(evidence.memberships))
    typical = np.argsort(-evidence.memberships, axis=0, kind="stable")[: evidence.n_cells]
    backward = evidence.transitions.T
    found = np.empty(len(steps_of))
    for step in range(1, steps_of.max() + 1):
        walks = backward @ walks
        for state in np.flatnonzero(steps_of == step):
            found[state] = walks[typical[:, state]].mean()
    return found


CRITERIA: Mapping[str, Callable[[Evidence], Choice]] = {
    "retention": by_retention,
    "stability": by_stability,
    "top_n": by_number,
    "eigengap": by_eigengap,
    "eigengap_coarse": by_coarse_eigengap,
}
"""All criteria by the name that a user gives; a new one is a function above and a line here."""
DEFAULT_THRESHOLD = 0.96
LEAST_KEPT, LEAST_FOUND = 0.6, 0.25
PATIENCE = 10
MOST_STEPS = 1000
ENOUGH_EIGENVALUES = 10
"""Of fewer, the largest gap says little: it may be behind the last one."""


def criterion_meant(stability_threshold: Any, n_states: Any) -> str:
    """Name the criterion that a user means who names none: the one that a number is given for, or the best one."""
    if stability_threshold is not None:
        return "stability"
    return "retention" if n_states is None else "top_n"


def check_criterion(method: Any) -> None:
    """Raise a ValueError unless there is a criterion of that name."""
    if method not in CRITERIA:
        raise ValueError(f"Expected `method` to be one of {list(CRITERIA)}, found `{method!r}`.")


def choose_terminal(method: Any, evidence: Evidence) -> Choice:
    """Choose terminal states by a criterion, named by the user.

    Raises
    ------
    ValueError
        If there is no such criterion, or it finds nothing.
    """
    check_criterion(method)
    return CRITERIA[method](evidence)


def explained(choice: Choice, coarse: CoarseChain) -> str:
    """Say which states were chosen and which were not, with the numbers that decided, and why."""
    numbers = choice.numbers or {str(name): f"{value:.4g}" for name, value in coarse.stability.items()}

    def with_numbers(names: list[str]) -> str:
        return ", ".join(f"{name} ({numbers[name]})" for name in names)

    ranked = [str(name) for name in coarse.stability.sort_values(ascending=False, kind="stable").index]
    others = [name for name in ranked if name not in choice.names]
    chosen = with_numbers([name for name in ranked if name in choice.names])
    return f"    chose {chosen} by {choice.reason}" + (f"; not {with_numbers(others)}" if others else "")


def _most_stable(coarse: CoarseChain, n_states: int) -> list[str]:
    """The most stable states, the most stable last."""
    return [str(name) for name in coarse.stability.index[np.argsort(coarse.stability.to_numpy())][-n_states:]]


def _eigenvalues(evidence: Evidence) -> np.ndarray:
    if evidence.eigenvalues is None:
        raise RuntimeError("Compute eigendecomposition first as `.compute_eigendecomposition()` or `.compute_schur()`.")
    n_known = len(evidence.eigenvalues)
    if n_known < min(ENOUGH_EIGENVALUES, evidence.transitions.shape[0]):
        logger.warning(
            "Looking for a gap among %d eigenvalues only: there may be a larger one behind them. Compute more by "
            "`.compute_schur()`", n_known,
        )  # fmt: skip
    return evidence.eigenvalues


def _alpha(evidence: Evidence) -> float:
    if not is_number(evidence.alpha):
        raise ValueError(f"Expected `alpha` to be a number, found `{evidence.alpha!r}`.")
    return float(evidence.alpha)  # type: ignore[arg-type]
