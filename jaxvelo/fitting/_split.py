"""Which cells a kernel is fitted on, and which are held out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from jaxvelo.annotated.cells import chosen_cells
from jaxvelo.fitting._kernel_problem import KernelProblem


class Split(NamedTuple):
    """Masks of cells, disjoint.

    Attributes
    ----------
    training
        The cells that the kernel is fitted on.
    held_out
        The cells on which it is validated; none, if there is no validation.
    """

    training: Bool[np.ndarray, " cells"]
    held_out: Bool[np.ndarray, " cells"]

    @property
    def is_validated(self) -> bool:
        """Whether cells are held out."""
        return bool(self.held_out.any())


def split_cells(problem: KernelProblem, validation: Any) -> Split:
    """Split the cells that the objective has items of.

    Parameters
    ----------
    problem
        The problem, with the random seed for a fraction.
    validation
        ``None``, a fraction of the cells that the objective has items of, or cells.

    Raises
    ------
    ValueError
        If a fraction is not one, or fewer than two cells are held out, or all.
    """
    known = problem.item_cells()
    n_known = int(known.sum())
    if validation is None:
        return Split(known, np.zeros_like(known))
    if isinstance(validation, (float, np.floating)):
        if not 0 < validation < 1:
            raise ValueError(f"Expected `validation` to be a fraction between 0 and 1, found `{validation}`.")
        chosen = np.random.default_rng(problem.seed).permutation(np.flatnonzero(known))[: round(validation * n_known)]
        held_out = np.zeros_like(known)
        held_out[chosen] = True
    else:
        held_out = chosen_cells(problem.kernel.adata, validation, "validation") & known
    if held_out.sum() < 2:
        raise ValueError(
            f"Expected at least two validation cells that the objective has items of, found {held_out.sum()} (it has "
            f"items of {n_known} cells). Pass a larger fraction, other cells, or `validation=None`."
        )
    if not (known & ~held_out).any():
        raise ValueError("Expected some cells to fit on, found all of them in `validation`.")
    return Split(known & ~held_out, held_out)
