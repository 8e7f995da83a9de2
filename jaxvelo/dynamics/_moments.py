r"""Moments of the counts over each cell's neighbourhood.

The counts are sparse and this step has no parameters to fit, so it is one product of SciPy matrices on the host. All
results are float32, as scVelo stores them; half a ulp of a weight is far below the noise of counts.
"""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Int

from jaxvelo.graph._aligned import empty_aligned
from jaxvelo.graph._row_blocks import near_order
from jaxvelo.graph._threads import n_workers, worker_threads

# Numbers of dense counts at a time: half a gigabyte.
MOST_NUMBERS = 1 << 27
# Rows at a time: their neighbours' counts stay in the cache. Where there are less, all of them do. The results of more
# rows are so large that the system gives and takes their memory each time.
ROWS = 256

Matrix = np.ndarray | sp.spmatrix | sp.sparray


def neighborhood_weights(connectivities: sp.spmatrix | sp.sparray) -> sp.csr_matrix:
    r"""Weights of the plain mean over a cell and its neighbours.

    With :math:`N_i = \{j : C_{ij} > 0\} \cup \{i\}`, :math:`W_{ij} = 1 / |N_i|` for :math:`j \in N_i`, otherwise 0.
    The strength of a connection does not matter; stored zeros are no connections; a cell without neighbours keeps
    weight one on itself.

    Parameters
    ----------
    connectivities
        Non-negative graph of shape (cells, cells), symmetric or not.

    Returns
    -------
    scipy.sparse.csr_matrix
        Weights of shape (cells, cells), float32; rows sum to one.

    References
    ----------
    La Manno et al. (2018), kNN pooling, in the form in which scVelo (Bergen et al., 2020) computes its moments.

    Examples
    --------
    >>> jv.dynamics.neighborhood_weights(sp.csr_matrix([[0, 7, 0], [7, 0, 0], [0, 0, 0]])).toarray().tolist()
    [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    """
    n_cells = connectivities.shape[0]
    # A sum of booleans is their union, so a stored diagonal is not counted twice.
    pattern = sp.csr_matrix(connectivities > 0) + sp.identity(n_cells, dtype=bool, format="csr")
    degrees = np.diff(pattern.indptr)
    values = np.repeat((1.0 / degrees).astype(np.float32), degrees)
    return sp.csr_matrix((values, pattern.indices, pattern.indptr), shape=(n_cells, n_cells))


def first_moments(weights: sp.csr_matrix, counts: Matrix, order: Int[np.ndarray, " cells"] | None = None) -> np.ndarray:
    r"""Mean of the counts over each neighbourhood, :math:`M = W X`.

    Parameters
    ----------
    weights
        Result of :func:`neighborhood_weights`; or, with their order, some of its rows and columns.
    counts
        Normalised counts of shape (cells, genes), dense or sparse.
    order
        Order of the rows in which neighbours are near, without influence on the result: it is computed in a fraction
        of the time if it is not given and there are many rows.

    Returns
    -------
    numpy.ndarray
        Dense array of shape (cells, genes), float32, in the units of the counts.

    Examples
    --------
    >>> weights = jv.dynamics.neighborhood_weights(sp.csr_matrix([[0, 1, 0], [1, 0, 1], [0, 1, 0]]))
    >>> jv.dynamics.first_moments(weights, np.array([[0.0], [3.0], [6.0]])).round(3).tolist()
    [[1.5], [3.0], [4.5]]
    """
    # The result is dense in any case, and sparse times dense is several times faster than sparse times sparse.
    n_rows, (n_cells, n_genes) = weights.shape[0], counts.shape  # type: ignore[attr-defined] # of SciPy's bases
    n_at_once = max(64, MOST_NUMBERS // max(n_cells, 1))
    means = empty_aligned((n_rows, n_genes), np.float32)
    if order is None:
        order = near_order(weights) if n_rows > ROWS else np.arange(n_rows)
    for first in range(0, n_genes, n_at_once):
        genes = slice(first, first + n_at_once)
        _multiply(weights, _dense(counts if n_genes <= n_at_once else counts[:, genes]), order, means[:, genes])  # type: ignore[index] # of SciPy's bases
    return means


def _multiply(weights: sp.csr_matrix, dense: np.ndarray, order: np.ndarray, into: np.ndarray) -> None:
    """Write the product, some rows at a time, each of which is the same whatever the others are."""

    def multiply(rows: np.ndarray) -> None:
        into[rows] = weights[rows] @ dense

    with worker_threads(max(min(n_workers(), -(-len(order) // ROWS)), 1)) as submit:
        for start in range(0, len(order), ROWS):
            submit(multiply, order[start : start + ROWS])


def second_moments(
    weights: sp.csr_matrix, spliced: Matrix, unspliced: Matrix, order: Int[np.ndarray, " cells"] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    r"""Mean of :math:`s^2` and of :math:`u s` over each neighbourhood (uncentred).

    Parameters
    ----------
    weights
        Result of :func:`neighborhood_weights`.
    spliced, unspliced
        Normalised counts of shape (cells, genes), dense or sparse.
    order
        As of :func:`first_moments`.

    Returns
    -------
    tuple of numpy.ndarray
        :math:`\langle s^2 \rangle` and :math:`\langle u s \rangle`, dense, of shape (cells, genes), float32.

    References
    ----------
    Bergen et al. (2020), the second-order moments of the stochastic model.

    Examples
    --------
    >>> weights = jv.dynamics.neighborhood_weights(sp.csr_matrix([[0, 1], [1, 0]]))
    >>> ss, us = jv.dynamics.second_moments(weights, np.array([[1.0], [3.0]]), np.array([[2.0], [0.0]]))
    >>> ss.tolist(), us.tolist()
    ([[5.0], [5.0]], [[1.0], [1.0]])
    """
    spliced, unspliced = _dense(spliced), _dense(unspliced)
    if order is None and weights.shape[0] > ROWS:
        order = near_order(weights)  # once for both
    return first_moments(weights, spliced * spliced, order), first_moments(weights, spliced * unspliced, order)


def _dense(counts: Matrix) -> np.ndarray:
    """Return a dense array of floating type, not of half precision: products of small types would overflow.

    Its rows are one after another: of others, SciPy makes a copy for each product.
    """
    dense: np.ndarray = np.asarray(counts) if isinstance(counts, np.ndarray) else counts.toarray()
    is_wide = dense.dtype.kind == "f" and dense.dtype.itemsize > 2
    return np.ascontiguousarray(dense, dtype=None if is_wide else np.float32)
