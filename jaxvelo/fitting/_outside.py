"""The cells of which the items of an objective tell nothing."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from jaxvelo import fit
from jaxvelo.kernels import KernelExpression

VISITED = 0.5
"""From so many expected visits on, counted over all items, the items tell something of a cell's steps."""


def cells_outside(kernel: KernelExpression, objective: fit.Loss) -> Bool[np.ndarray, " cells"]:
    r"""Mask of the cells of which the items tell nothing.

    The loss of an item depends on the steps of the cells that are visited from its cell, in proportion to the number of
    visits: for fates until the end, for futures as far as these are. So a cell that is not visited, as one that lies
    before all cells with labels, or at another end, may have any steps without a change of the loss.

    Parameters
    ----------
    kernel
        The kernel, computed: the convention.
    objective
        The loss. Where one of its terms has items of single steps, which speak for all cells, no cell is outside.
    """
    visits = np.zeros(kernel.shape[0])
    for term in fit.terms_of(objective):
        own = term.evidence(kernel.transitions)
        if own is None or not np.isfinite(own).all():
            return np.zeros(len(visits), dtype=bool)
        visits += own
    return visits < VISITED
