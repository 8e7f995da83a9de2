"""From expression and a time to a transition matrix, without velocities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from jaxvelo import pp
from jaxvelo.annotated.arrays import dense
from jaxvelo.annotated.graphs import read_graph
from jaxvelo.cli import _workflow as workflow
from jaxvelo.cli._errors import step
from jaxvelo.cli._plan import Graph, Options, Plan
from jaxvelo.cli._plan_along_time import CYTOTRACE, DAYS
from jaxvelo.cli._stale import forget_kernel
from jaxvelo.configuration import logger
from jaxvelo.dynamics import first_moments, neighborhood_weights
from jaxvelo.kernels import CytoTRACEKernel, KernelExpression, PseudotimeKernel, RealTimeKernel

if TYPE_CHECKING:
    from anndata import AnnData

MEANS = "means_of_neighbors"


def normalize_expression(adata: AnnData, plan: Plan, options: Options) -> None:
    """Normalise and logarithmise X, unless it looks as if it were, and find highly variable genes."""
    if options.spliced is not None:
        adata.X = adata.layers["spliced"].copy()
        adata.uns.pop("log1p", None)
    with step("Normalising cells"):
        pp.filter_and_normalize(
            adata, n_top_genes=plan.n_top_genes, subset_highly_variable=False, enforce=options.enforce
        )


def compute_kernel_along_time(adata: AnnData, plan: Plan, options: Options) -> tuple[KernelExpression, str]:
    """Compute the transition matrix; return the kernel, and the column of ``obs`` with the time as numbers."""
    forget_kernel(adata, options.kernel_key)
    with step("Computing the transition matrix"):
        if plan.time == DAYS:
            return _along_days(adata, plan.graph, options)
        if plan.time == CYTOTRACE:
            kernel: PseudotimeKernel = _cytotrace(adata, plan.graph, options.backward)
            kernel.compute_transition_matrix("soft")
        else:
            assert options.time_key is not None
            kernel = PseudotimeKernel(adata, options.time_key, options.backward, plan.graph.connectivities)
            kernel.compute_transition_matrix()
        return workflow.combine(kernel, options.weight, plan.graph), kernel.init["time_key"]


def _along_days(adata: AnnData, graph: Graph, options: Options) -> tuple[KernelExpression, str]:
    """Couplings lead to later days only, and similarity to cells of the same day."""
    key = options.time_key
    assert key is not None
    kernel = RealTimeKernel(adata, key).compute_couplings(options.use_rep or "X_pca")
    within, weight = ("connectivities", None) if options.weight == 1 else ("all", round(1 - options.weight, 9))
    kernel.compute_transition_matrix("auto", within, weight, {"conn_key": graph.connectivities})
    logger.info("%s", kernel)
    try:
        kernel.time.astype(float)
    except (TypeError, ValueError):
        number = f"{key}_number"
        adata.obs[number] = kernel.time.cat.codes.to_numpy()
        logger.info("Numbers of the time points are in `obs[%r]`", number)
        return kernel, number
    return kernel, key


def _cytotrace(adata: AnnData, graph: Graph, backward: bool) -> CytoTRACEKernel:
    """Compute the pseudotime of CytoTRACE, of means over neighbours.

    Means of all genes are dense, and may not fit into memory: which genes count is known without them.
    """
    kernel = CytoTRACEKernel(adata, backward, graph.connectivities)
    with workflow.only("error"):  # it is computed once more
        genes = np.flatnonzero(kernel.compute_cytotrace("X").adata.var["ct_correlates"])
    means = first_moments(neighborhood_weights(read_graph(adata, graph.connectivities)), adata.X[:, genes])
    adata.layers[MEANS] = sp.csr_matrix(means) @ sp.identity(adata.n_vars, np.float32, "csr")[genes]
    try:
        return kernel.compute_cytotrace(MEANS)
    finally:
        del adata.layers[MEANS]


def expression_of_variable_genes(adata: AnnData) -> np.ndarray:
    """Dense expression of the highly variable genes, shape ``(cells, genes)``."""
    chosen = adata.var["highly_variable"].to_numpy() if "highly_variable" in adata.var else slice(None)
    return dense(adata.X[:, chosen])
