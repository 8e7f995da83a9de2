"""Moments of the counts, and the genes in which they show splicing dynamics."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.counts import check_non_negative, readable
from jaxvelo.annotated.entries import require_key
from jaxvelo.annotated.genes import highly_variable_genes
from jaxvelo.configuration import logger
from jaxvelo.dynamics import Percentiles, SteadyState, steady_state


def read_counts(adata: AnnData, name: str) -> np.ndarray:
    """Return a layer as a dense array of finite numbers of at least zero, or say what is wrong with it."""
    layer = checked_counts(find_counts(adata, name), name)
    return layer.toarray() if sp.issparse(layer) else np.asarray(layer)


def find_counts(adata: AnnData, name: str) -> Any:
    """Return a layer of moments or counts as it stands there, or say where it comes from."""
    return require_key(adata.layers, name, "adata.layers", _origin(name))


def checked_counts(matrix: Any, name: str) -> Any:
    """Values of a layer, as they can be calculated with, or an error that says what is wrong with them."""
    where = f"adata.layers[{name!r}]"
    matrix = readable(where, matrix)
    remedy = f"{_origin(name)} Leave out the genes or cells that are not finite or negative."
    check_non_negative(where, matrix, remedy)
    return matrix


def _origin(name: str) -> str:
    return "Compute it with `jaxvelo.pp.moments(adata)`." if name in ("Ms", "Mu") else "Store the counts there."


def highly_variable(adata: AnnData) -> np.ndarray:
    """Mask of the highly variable genes; all, if there is no such mask."""
    remedy = "Convert the column, delete it, or pass `use_highly_variable=False` to `jaxvelo.tl.velocity`."
    mask = highly_variable_genes(adata, remedy)
    if mask is None:
        return np.ones(adata.n_vars, dtype=bool)
    if not mask.any():
        raise ValueError(
            f"Expected `adata.var['highly_variable']` to mark some of the {adata.n_vars} genes, found none. {remedy}"
        )
    return mask


def fit_steady_state(
    spliced: np.ndarray,
    unspliced: np.ndarray,
    percentiles: Percentiles = (5, 95),
    fit_offset: bool = False,
    r2_adjusted: bool = False,
) -> SteadyState:
    """Fit the deterministic model in the default floating type: float32, or float64 if the user has enabled it."""
    s, u = default_floats(spliced), default_floats(unspliced)
    return steady_state(s, u, percentiles=percentiles, fit_offset=fit_offset, r2_of_all_cells=r2_adjusted)


def default_floats(values: np.ndarray) -> np.ndarray:
    """On the host: of JAX's default floating type, for which no program is compiled for each shape."""
    return np.asarray(values, dtype=jnp.result_type(float))


def find_velocity_genes(
    fit: SteadyState,
    spliced: np.ndarray,
    unspliced: np.ndarray,
    allowed: np.ndarray,
    min_r2: float = 0.01,
    min_ratio: float = 0.01,
) -> np.ndarray:
    """Mask of the genes in which there is enough splicing dynamics to see."""
    r2, ratio = np.asarray(fit.r2), np.asarray(fit.gamma)
    genes = (r2 > min_r2) & (ratio > min_ratio) & (spliced.max(axis=0) > 0) & (unspliced.max(axis=0) > 0) & allowed
    if genes.sum() >= 2:
        return genes
    threshold = np.percentile(r2, 80)
    logger.warning(
        "Found fewer than two velocity genes: there is little signal of splicing dynamics. Lowered `min_r2` from %g to "
        "%.4g, to the fifth of the genes that fit best. Take care with the results.",
        min_r2,
        threshold,
    )
    return r2 > threshold
