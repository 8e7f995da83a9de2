"""A function of the transition matrix of the cells of an AnnData object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anndata import AnnData

from jaxvelo import fit
from jaxvelo.annotated.entries import require_anndata


def FunctionOf(adata: AnnData, function: Callable[[Any], Any]) -> fit.FunctionOf:
    """Any JAX function of the transition matrix.

    Parameters
    ----------
    adata
        Annotated data.
    function
        Takes the transition matrix, a :class:`jaxvelo.graph.TransitionMatrix`, and returns one loss for each cell,
        shape ``(cells,)``; for example ``lambda T: (T @ time - target) ** 2``.

    Returns
    -------
    The objective, see :class:`jaxvelo.fit.FunctionOf`.

    Raises
    ------
    TypeError
        If ``function`` cannot be called.

    Examples
    --------
    >>> hours = jnp.asarray(adata.obs["true_time"].to_numpy(), float)
    >>> objective = jv.objectives.FunctionOf(adata, lambda T: -(T @ hours))
    >>> objective.n_cells
    150
    """
    require_anndata(adata)
    if not callable(function):
        raise TypeError(f"Expected a function of the transition matrix, found `{type(function).__name__}`.")
    return fit.FunctionOf(function, adata.n_obs)
