r"""Where the genes of a cell go together: its velocity, seen in the cells around it.

A gene's own counts say little about its velocity; all genes together say well to which of its neighbours a cell moves,
and these say what each gene does on the way.
"""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

# Of the differences to neighbours that are held at a time: they stay in the cache of a processor core.
BLOCK_BYTES = 2**20


def shared_directions(
    velocity: Float[np.ndarray, "cells genes"], spliced: Float[np.ndarray, "cells genes"], weights: sp.csr_matrix
) -> sp.csr_matrix:
    r"""Matrix that turns values of cells into their changes along the velocities.

    With the neighbourhood :math:`N_i`, velocities :math:`v_i` and displacements :math:`\delta_{ij} = s_j - s_i`,

    .. math:: (D x)_i = \frac{1}{|N_i|} \sum_{j \in N_i} \cos(v_i, \delta_{ij})\, (x_j - x_i).

    Applied to spliced counts, that is the velocity in the space that neighbouring cells span, up to one factor for all
    genes. A cosine is linear in the direction of the velocity, so that no scale has to be chosen.

    Parameters
    ----------
    velocity, spliced
        Arrays of shape (cells, genes), finite.
    weights
        Result of :func:`neighborhood_weights`, whose entries say which cells are neighbours.

    Returns
    -------
    scipy.sparse.csr_matrix
        Of shape (cells, cells); its rows sum to zero. A cell without velocity has zeros.
    """
    n_cells, n_genes = spliced.shape
    starts, neighbors = weights.indptr, weights.indices
    cosines = np.zeros(len(neighbors), dtype=np.float64)
    speed = np.linalg.norm(velocity, axis=1)
    n_edges = max(1, BLOCK_BYTES // (n_genes * spliced.dtype.itemsize))
    first = 0
    while first < n_cells:
        # As many rows as have that many neighbours, at least one.
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + n_edges, side="right")) - 1)
        block = slice(starts[first], starts[last])
        own = np.repeat(np.arange(first, last), np.diff(starts[first : last + 1]))
        displacement = spliced[neighbors[block]] - spliced[own]
        along = np.einsum("eg,eg->e", displacement, velocity[own])
        length = np.sqrt(np.einsum("eg,eg->e", displacement, displacement)) * speed[own]
        cosines[block] = np.where(length > 0, along / np.where(length > 0, length, 1), 0)
        first = last
    cosines /= np.repeat(np.maximum(np.diff(starts), 1), np.diff(starts))
    directions = sp.csr_matrix((cosines, neighbors, starts), shape=(n_cells, n_cells))
    return sp.csr_matrix(directions - sp.diags(np.asarray(directions.sum(axis=1)).ravel()))
