"""Which macrostates are terminal: criteria to choose by, each a function from a macrostate picture to a choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxvelo.annotated.arguments import check_integer, is_number
from jaxvelo.estimators._coarse_chain import CoarseChain
from jaxvelo.markov import eigengap


class Evidence(NamedTuple):
    """What criteria choose by.

    Attributes
    ----------
    coarse
        The macrostates as a chain.
    eigenvalues
        Leading eigenvalues of the transition matrix; ``None`` if they are not computed.
    alpha
        Weight of the distance of an eigenvalue from one in an eigengap.
    stability_threshold
        Least probability to stay.
    n_states
        Number of states to choose, if the user wants to fix it.
    """

    coarse: CoarseChain
    eigenvalues: np.ndarray | None
    alpha: float | None
    stability_threshold: float | None
    n_states: int | None


class Choice(NamedTuple):
    """States, in the order that they get, and the rule in words: what the numbers of those chosen have in common."""

    names: list[str]
    reason: str


def by_stability(evidence: Evidence) -> Choice:
    """Choose the states that are stable enough: those with a probability to stay of at least the threshold."""
    threshold = evidence.stability_threshold
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
    if evidence.eigenvalues is None:
        raise RuntimeError("Compute eigendecomposition first as `.compute_eigendecomposition()` or `.compute_schur()`.")
    n_states = eigengap(evidence.eigenvalues, _alpha(evidence))
    reason = f"the most stable ones, as many as the {n_states} eigenvalues before the gap"
    return Choice(_most_stable(evidence.coarse, n_states), reason)


def by_coarse_eigengap(evidence: Evidence) -> Choice:
    """Choose the states before the largest gap of the stabilities, without the last of them but at least one."""
    n_states = max(eigengap(evidence.coarse.stability.to_numpy(), _alpha(evidence)) - 1, 1)
    return Choice(_most_stable(evidence.coarse, n_states), f"the {n_states} before a gap of the stabilities")


CRITERIA: Mapping[str, Callable[[Evidence], Choice]] = {
    "stability": by_stability,
    "top_n": by_number,
    "eigengap": by_eigengap,
    "eigengap_coarse": by_coarse_eigengap,
}
"""All criteria by the name that a user gives; a new one is a function above and a line here."""
DEFAULT: Literal["stability"] = "stability"


def choose_terminal(method: Any, evidence: Evidence) -> Choice:
    """Choose terminal states by a criterion, named by the user.

    Raises
    ------
    ValueError
        If there is no such criterion, or it finds nothing.
    """
    if method not in CRITERIA:
        raise ValueError(f"Expected `method` to be one of {list(CRITERIA)}, found `{method!r}`.")
    return CRITERIA[method](evidence)


def explained(choice: Choice, coarse: CoarseChain) -> str:
    """Say which states were chosen and which were not, with their stabilities, and why."""

    def with_stability(names: list[str]) -> str:
        return ", ".join(f"{name} ({coarse.stability[name]:.4g})" for name in names)

    ranked = [str(name) for name in coarse.stability.sort_values(ascending=False, kind="stable").index]
    others = [name for name in ranked if name not in choice.names]
    chosen = with_stability([name for name in ranked if name in choice.names])
    return f"    chose {chosen} by {choice.reason}" + (f"; not {with_stability(others)}" if others else "")


def _most_stable(coarse: CoarseChain, n_states: int) -> list[str]:
    """The most stable states, the most stable last."""
    return [str(name) for name in coarse.stability.index[np.argsort(coarse.stability.to_numpy())][-n_states:]]


def _alpha(evidence: Evidence) -> float:
    if not is_number(evidence.alpha):
        raise ValueError(f"Expected `alpha` to be a number, found `{evidence.alpha!r}`.")
    return float(evidence.alpha)  # type: ignore[arg-type]
