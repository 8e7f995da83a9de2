"""How far cells are committed to a fate."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from anndata import AnnData
from jaxtyping import Bool, Float
from scipy.special import entr, rel_entr

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.cells import chosen_cells

SPREAD = 1e-6
"""Cells whose degrees differ by less, in bits, are equally committed: fates are known to about as many digits."""


def find_lineage_priming(
    adata: AnnData,
    fates: Float[np.ndarray, "cells lineages"],
    method: Literal["kl_divergence", "entropy"] = "kl_divergence",
    early_cells: Any = None,
) -> Float[np.ndarray, " cells"]:
    """Degree of priming of each cell: :func:`lineage_priming`, with the early cells by name.

    Parameters
    ----------
    adata
        Annotated data; nothing is written there.
    fates
        Fate probabilities.
    method
        See :func:`lineage_priming`.
    early_cells
        Names, indices or a mask of the early cells, or a dictionary of one column of ``adata.obs`` and its values;
        all cells by default.

    Raises
    ------
    KeyError
        If a name or a column is not there.
    ValueError
        If the method is unknown, no early cell is chosen, the early cells have no probability of some fate, or fates
        are not finite.
    """
    if method not in (known := ("kl_divergence", "entropy")):
        raise ValueError(f"Expected `method` to be one of {listed(known)}, found `{method!r}`.")
    early = chosen_cells(adata, early_cells, "early_cells")
    fates = np.asarray(fates, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(fates).all(axis=1))
    if len(bad):
        raise ValueError(
            f"Expected finite fate probabilities, found {len(bad)} cells without, such as {adata.obs_names[bad[0]]!r}. "
            "Compute them anew, or remove these cells."
        )
    unreached = np.flatnonzero(fates[early].mean(axis=0) <= 0)
    if method == "kl_divergence" and len(unreached):
        raise ValueError(
            f"Expected early cells that may end in each lineage, found none for the lineages {listed(unreached)}, "
            "counted from 0. Choose other `early_cells`, or pass `method='entropy'`."
        )
    return lineage_priming(fates, method, early)


def lineage_priming(
    fates: Float[np.ndarray, "cells lineages"],
    method: Literal["kl_divergence", "entropy"] = "kl_divergence",
    early_cells: Bool[np.ndarray, " cells"] | None = None,
) -> Float[np.ndarray, " cells"]:
    r"""Degree of priming of each cell, 0 for the least and 1 for the most committed one.

    With ``"kl_divergence"`` (Velten et al. 2017), in bits, of the fates :math:`F_i` of a cell from the mean
    :math:`\bar F` over the early cells,

    .. math:: d_i = \sum_k F_{ik} \log_2 \frac{F_{ik}}{\bar F_k},

    and with ``"entropy"`` (Setty et al. 2019) :math:`d_i = \max_j H(F_j) - H(F_i)`; then scaled from its smallest to
    its largest value.

    As in CellRank, a cell without probability of some fate counts as one bit in ``"kl_divergence"``, whatever
    its other fates are. These are the terminal cells; with ``"entropy"`` they are the most committed ones.

    Parameters
    ----------
    fates
        Fate probabilities; finite, and some of each fate in the early cells. What is below zero counts as zero.
    method
        See above.
    early_cells
        Which cells are early, at least one; all by default. They matter for ``"kl_divergence"`` alone.

    Returns
    -------
    The degrees; zero if all cells are equally committed but for errors of the fates, as with a single lineage.

    Examples
    --------
    >>> jv.estimators.lineage_priming(np.array([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]])).round(2)
    array([0.21, 0.  , 1.  ])
    """
    if method == "kl_divergence":
        mean = fates.mean(axis=0) if early_cells is None else fates[early_cells].mean(axis=0)
        degree = np.where((fates <= 0).any(axis=1), 1.0, rel_entr(fates, mean[None]).sum(axis=1) / np.log(2))
    else:
        fates = np.maximum(fates, 0)
        entropy = entr(fates / fates.sum(axis=1, keepdims=True)).sum(axis=1)
        degree = entropy.max() - entropy
    spread = degree.max() - degree.min()
    if fates.shape[1] == 1 or spread <= SPREAD:
        return np.zeros_like(degree)
    return (degree - degree.min()) / spread
