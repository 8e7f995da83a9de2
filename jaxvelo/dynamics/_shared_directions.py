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

    Examples
    --------
    >>> s = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    >>> weights = jv.dynamics.neighborhood_weights(sp.csr_matrix([[0, 1, 0], [1, 0, 1], [0, 1, 0]]))
    >>> directions = jv.dynamics.shared_directions(np.ones((3, 2)), s, weights)
    >>> (directions @ s).round(2).tolist()  # with the velocities, in both genes
    [[0.5, 0.5], [0.67, 0.67], [0.5, 0.5]]
    """
    sums = DirectionSums(weights)
    sums.add(velocity, spliced)
    return sums.directions()


class DirectionSums:
    """Sums over genes that shared directions are made of: added up some genes at a time, in double precision.

    Which genes come together changes no more than the last bit of that.

    Parameters
    ----------
    weights
        As of :func:`shared_directions`.
    """

    def __init__(self, weights: sp.csr_matrix):
        self._starts, self._neighbors = weights.indptr, weights.indices
        self._along, self._length = (np.zeros(len(weights.indices)) for _ in range(2))
        self._speed = np.zeros(weights.shape[0])

    def add(self, velocity: Float[np.ndarray, "cells genes"], spliced: Float[np.ndarray, "cells genes"]) -> None:
        """Add some genes."""
        n_cells, n_genes = spliced.shape
        starts = self._starts
        n_edges = max(1, BLOCK_BYTES // (n_genes * 8))
        first = 0
        while first < n_cells:
            # As many rows as have that many neighbours, at least one.
            last = max(first + 1, int(np.searchsorted(starts, starts[first] + n_edges, side="right")) - 1)
            block = slice(starts[first], starts[last])
            own = np.repeat(np.arange(first, last), np.diff(starts[first : last + 1]))
            displacement = (spliced[self._neighbors[block]] - spliced[own]).astype(float)
            self._along[block] += np.einsum("eg,eg->e", displacement, velocity[own].astype(float))
            self._length[block] += np.einsum("eg,eg->e", displacement, displacement)
            self._speed[first:last] += np.square(velocity[first:last], dtype=float).sum(axis=1)
            first = last

    def directions(self) -> sp.csr_matrix:
        """Matrix of the genes that have been added; the sums are of no use any more."""
        counts = np.diff(self._starts)
        length = np.sqrt(self._length, out=self._length)
        length *= np.repeat(np.sqrt(self._speed), counts)
        cosines = np.divide(self._along, length, out=np.zeros_like(length), where=length > 0)
        cosines /= np.repeat(np.maximum(counts, 1), counts)
        n_cells = len(counts)
        directions = sp.csr_matrix((cosines, self._neighbors, self._starts), shape=(n_cells, n_cells))
        return sp.csr_matrix(directions - sp.diags(np.asarray(directions.sum(axis=1)).ravel()))
