"""Whether a stored velocity graph is that of the velocities beside it."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import Float, Int

from jaxvelo.annotated.disk_arrays import read_any_rows
from jaxvelo.annotated.entries import stored_parameters
from jaxvelo.annotated.genes import velocity_genes
from jaxvelo.configuration import logger

N_CELLS, N_EDGES = 50, 100
SAME, UNRELATED = 0.999, 0.3
"""Agreement with the correlations of these velocities of those that were computed from them, and that of others."""


def check_origin(adata: AnnData, vkey: str, graph: sp.csr_matrix, where: str, remedy: str) -> None:
    """Compare a stored velocity graph, in a sample of its cells, with correlations computed from the layers.

    AnnData leaves the graph as it is when cells are put in another order, and tools when they compute the velocities
    anew. A graph may also be of other genes than the velocity genes; these give similar correlations.

    Raises
    ------
    ValueError
        If the graph is that of other cells, or older than the velocities and another than theirs.

    Warns
    -----
    If it is another than theirs, but related.
    """
    if "Ms" not in adata.layers or vkey not in adata.layers:
        return
    agreement = _agreement(adata, vkey, graph)
    if not agreement < SAME:  # NaN, where all are the same, is no sign of anything
        return
    parameters = stored_parameters(adata, f"{vkey}_params")
    # Velocities leave their parameters, to which their graph adds its own.
    is_older = bool(parameters) and "mode_neighbors" not in parameters
    found = (
        f"correlations that agree by {agreement:.3f} with those of `adata.layers[{vkey!r}]` and `adata.layers['Ms']`"
    )
    if is_older or agreement < UNRELATED:
        why = "it was computed before these velocities" if is_older else "of other cells, or in another order, it seems"
        raise ValueError(f"Expected `{where}` to be the graph of these velocities, found {found}: {why}. {remedy}")
    logger.warning("`%s` has %s: it may be older, or of other genes. %s", where, found, remedy)


def _agreement(adata: AnnData, vkey: str, graph: sp.csr_matrix) -> float:
    """Pearson correlation of stored correlations with those of the layers, plain or of roots."""
    chosen = velocity_genes(adata, vkey, "Compute velocities and their graph anew.")
    genes = np.ones(adata.n_vars, dtype=bool) if chosen is None else chosen
    stored, plain, of_roots = [], [], []
    for cell in _spread(np.flatnonzero(np.diff(graph.indptr)), N_CELLS):
        edges = _spread(np.arange(graph.indptr[cell], graph.indptr[cell + 1]), N_EDGES)
        v, x = (
            read_any_rows(adata.layers[key], np.array(cells), f"adata.layers[{key!r}]").astype(np.float64)
            for key, cells in ((vkey, [cell]), ("Ms", [cell, *graph.indices[edges]]))
        )
        v = v[0]
        used = genes & np.isfinite(v)
        v, displacements = v[used], x[1:, used] - x[0, used]
        stored.append(graph.data[edges])
        plain.append(_correlations(displacements, v))
        of_roots.append(_correlations(_roots(displacements), _roots(v)))
    known = np.concatenate(stored)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = [np.corrcoef(known, np.concatenate(values))[0, 1] for values in (plain, of_roots)]
    return max(found)


def _spread(values: Int[np.ndarray, " n"], most: int) -> Int[np.ndarray, " some"]:
    """Evenly spaced values."""
    return values[np.linspace(0, len(values) - 1, min(most, len(values))).astype(int)]


def _correlations(a: Float[np.ndarray, "n genes"], b: Float[np.ndarray, " genes"]) -> Float[np.ndarray, " n"]:
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean()
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b)
    return np.divide(a @ b, norms, out=np.zeros(len(a)), where=norms > 0)


def _roots(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.sqrt(np.abs(values))
