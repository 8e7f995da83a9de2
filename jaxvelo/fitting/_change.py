"""What a fit changes in each cell."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxvelo import fit
from jaxvelo.fitting._kernel_problem import KernelProblem
from jaxvelo.kernels import KernelExpression


@dataclasses.dataclass(frozen=True)
class Change:
    """What a fitted kernel says otherwise than the convention.

    Attributes
    ----------
    quantity
        What of each cell: ``"fate probabilities"``, ``"probabilities of later cells"``, or where the objective looks at
        single steps ``"transition probabilities"``.
    size
        The largest change of any of these, or, of transition probabilities, half the sum of all (total variation):
        between 0 and 1, shape ``(cells,)``. NaN for cells where they are given, such as terminal cells.
    fates
        ``"convention"`` and ``"fitted"``, fate probabilities of shape ``(cells, fates)``; empty if the objective has
        none.
    fate_names
        Names of the fates.
    """

    quantity: str
    size: Float[np.ndarray, " cells"]
    fates: dict[str, np.ndarray]
    fate_names: list[str]


def change_by_fit(
    problem: KernelProblem, fitted: KernelExpression, before: Sequence[Any], after: Sequence[Any]
) -> Change:
    """Compare a fitted kernel with the convention.

    Parameters
    ----------
    problem
        The problem.
    fitted
        The fitted kernel.
    before, after
        Outlooks (:meth:`jaxvelo.fit.Objective.outlook`) of the terms of the objective for the convention and for the
        fitted kernel. Those of the first term that has fates, or else any, are compared.
    """
    terms = list(zip(fit.terms_of(problem.objective), before, after, strict=True))
    for term, old, new in sorted(terms, key=lambda each: not each[0].outlook_names):
        if old is not None:
            first, last = np.asarray(old, dtype=np.float64), np.asarray(new, dtype=np.float64)
            size = np.where(term.given_cells(), np.nan, np.abs(last - first).max(axis=1))
            names = list(term.outlook_names)
            fates = {"convention": first, "fitted": last} if names else {}
            return Change("fate probabilities" if names else "probabilities of later cells", size, fates, names)
    difference = fitted.transitions.to_csr() - problem.fitted_kernel(problem.start).transitions.to_csr()
    size = np.asarray(abs(difference).sum(axis=1)).ravel() / 2
    return Change("transition probabilities", size, {}, [])


def summary(size: Float[np.ndarray, " cells"], cells: Bool[np.ndarray, " cells"]) -> tuple[float, float]:
    """Root mean square and largest change over some cells, without those where all is given; NaN if there are none."""
    known = size[cells & ~np.isnan(size)]
    return (float(np.sqrt(np.mean(known**2))), float(known.max())) if len(known) else (float("nan"), float("nan"))
