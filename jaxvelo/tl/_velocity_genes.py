"""The steady-state model in the default floating type, and the genes in which it shows splicing dynamics."""

import jax.numpy as jnp
import numpy as np
from anndata import AnnData

from jaxvelo.annotated.genes import highly_variable_genes
from jaxvelo.configuration import logger
from jaxvelo.dynamics import Percentiles, SteadyState, steady_state


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
