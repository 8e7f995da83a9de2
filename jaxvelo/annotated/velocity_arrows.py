"""Arrows of velocities in an embedding, from the correlations of the velocity graph."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import Float

from jaxvelo.annotated.embeddings import read_embedding
from jaxvelo.annotated.order import square_in_order
from jaxvelo.annotated.quiver_scale import automatic_quiver_scale
from jaxvelo.annotated.velocity_graph import read_velocity_graph, stored_velocity_graph
from jaxvelo.configuration import is_positive, logger
from jaxvelo.graph import EdgeMatrix, NeighborGraph
from jaxvelo.markov import project

SELF_TRANSITION_PERCENTILE = 98
N_COMPARED, LEAST_COMPARED, UNRELATED = 100, 10, 0.3
"""Of how many cells arrows are compared with those of the graph, how many can tell, and the least mean cosine."""


def velocity_arrows(
    adata: AnnData,
    basis: str,
    vkey: str,
    *,
    scale: float = 10.0,
    self_transitions: bool = True,
    use_negative_cosines: bool = True,
    autoscale: bool = True,
    all_comps: bool = True,
    T: Any = None,
) -> Float[np.ndarray, "cells dims"]:
    """Compute what :func:`jaxvelo.tl.velocity_embedding` stores; arguments and errors as there."""
    basis = basis.removeprefix("X_")
    embedding = read_embedding(adata, basis)
    embedding = embedding if all_comps else embedding[:, :2]
    warn_about_places(embedding, basis)
    if T is None:
        if not is_positive(scale):
            raise ValueError(f"Expected `scale` to be a positive number, found `{scale!r}`.")
        positive, negative = read_velocity_graph(adata, vkey)
        matrix = signed_transitions(positive, negative, scale, self_transitions, use_negative_cosines)
    else:
        matrix = sp.csr_matrix(square_in_order(T, adata.obs_names, "T")).astype(np.float64)
        if not np.isfinite(matrix.data).all():
            raise ValueError("Expected finite probabilities in `T`, found some that are not.")
    arrows = expected_displacements(matrix, embedding.astype(float))
    if autoscale:
        arrows = arrows / (3 * automatic_quiver_scale(embedding, arrows))
    return arrows.astype(embedding.dtype if embedding.dtype.kind == "f" else float)


def warn_about_places(embedding: Float[np.ndarray, "cells dims"], basis: str) -> None:
    """Log how many cells have no place in an embedding: a mean over directions needs those of all neighbours."""
    missing = int(np.count_nonzero(~np.isfinite(embedding).all(axis=1)))
    if missing:
        logger.warning(
            "%d cells have no finite coordinates in the embedding %r: they and their neighbours get no arrows",
            missing,
            basis,
        )


def belong_to(adata: AnnData, arrows: Float[np.ndarray, "cells dims"], basis: str, vkey: str) -> bool:
    """Whether stored arrows point, by and large, where those of the velocity graph do in the embedding as it is now.

    Compared are some cells, by the mean of the cosines: arrows are perhaps of another scale or made with other
    arguments. Where there is no velocity graph of these cells, there is nothing to compare with.
    """
    embedding = read_embedding(adata, basis)[:, : arrows.shape[1]].astype(float)
    stored = stored_velocity_graph(adata, vkey)
    if stored is None:
        return True
    positive, negative = stored
    cosines = []
    for cell in np.linspace(0, adata.n_obs - 1, min(N_COMPARED, adata.n_obs)).astype(int):
        row = sp.csr_matrix(np.expm1(10.0 * positive[cell]) - np.expm1(-10.0 * negative[cell]))
        directions = embedding[row.indices] - embedding[cell]
        lengths = np.linalg.norm(directions, axis=1)
        used = lengths > 0  # which no missing number is
        if not used.any():
            continue
        now = (row.data[used] - row.data[used].mean()) @ (directions[used] / lengths[used, None])
        size = np.linalg.norm(now) * np.linalg.norm(arrows[cell])
        if size > 0:
            cosines.append(now @ arrows[cell] / size)
    return len(cosines) < LEAST_COMPARED or bool(np.mean(cosines) > UNRELATED)


def signed_transitions(
    positive: sp.csr_matrix,
    negative: sp.csr_matrix,
    scale: float,
    self_transitions: bool,
    use_negative_cosines: bool,
) -> sp.csr_matrix:
    r"""Transitions from positive and negative correlations; see :func:`jaxvelo.tl.velocity_embedding`.

    Rows sum to one in absolute value; those of cells without correlations are empty.
    """
    graph = positive.tolil() if self_transitions else positive
    if self_transitions:
        largest = positive.max(axis=1).toarray().ravel()
        graph.setdiag(np.clip(np.percentile(largest, SELF_TRANSITION_PERCENTILE) - largest, 0, 1))
    forward = np.expm1(sp.csr_matrix(graph).astype(np.float64) * scale)
    if use_negative_cosines:
        matrix = sp.csr_matrix(forward - np.expm1(-negative.astype(np.float64) * scale))
    else:
        matrix = sp.csr_matrix(forward + np.expm1(negative.astype(np.float64) * scale))
        matrix.data += 1  # so that no transition is negative
    total = np.asarray(abs(matrix).sum(axis=1)).ravel()
    return sp.csr_matrix(sp.diags_array(np.divide(1, total, out=np.zeros_like(total), where=total > 0)) @ matrix)


def expected_displacements(
    matrix: sp.csr_matrix, embedding: Float[np.ndarray, "cells dims"]
) -> Float[np.ndarray, "cells dims"]:
    r"""Sum of the directions to other cells, weighted by how much likelier each is than the mean of its row.

    .. math:: a_i = \sum_{j \in N_i} (T_{ij} - \bar T_i) \frac{z_j - z_i}{|z_j - z_i|}, \qquad
              \bar T_i = \frac{1}{|N_i|} \sum_{j \in N_i} T_{ij},

    with :math:`N_i` the entries of row :math:`i` that are not zero, without that of the cell itself.
    """
    matrix = sp.csr_matrix(matrix - sp.diags_array(matrix.diagonal()))
    matrix.eliminate_zeros()
    degree = np.diff(matrix.indptr)
    mean = np.asarray(matrix.sum(axis=1)).ravel() / np.maximum(degree, 1)
    # `project` subtracts 1 / degree, the mean of probabilities: these may be signed, and leave out the cell itself.
    matrix.data += np.repeat(1 / np.maximum(degree, 1) - mean, degree)
    graph = NeighborGraph.from_csr(matrix)
    return np.asarray(
        project(EdgeMatrix(graph, graph.edges["connectivities"].values), jnp.asarray(embedding, dtype=float))
    )
