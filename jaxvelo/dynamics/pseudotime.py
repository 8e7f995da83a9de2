r"""Diffusion distance from a root cell on a weighted graph.

Eigenvectors of a sparse matrix, with no parameter to fit on the way: this runs on the host, in double precision.
"""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import eigsh

STATIONARY = 0.9994
"""From this eigenvalue on, a component counts as the stationary one, where :math:`\\lambda / (1 - \\lambda)` would be
rounding error (as scanpy)."""


def diffusion_pseudotime(
    weights: sp.csr_matrix, root: int, end: int | None = None, n_components: int = 10
) -> Float[np.ndarray, " cells"]:
    r"""Distance from a root cell that a random walk sees, over all numbers of steps.

    From symmetric weights :math:`W`, made independent of the density of cells by :math:`K = Q^{-1} W Q^{-1}`,
    :math:`Q_{ii} = \sum_j W_{ij}`, the symmetric transition matrix :math:`S = Z^{-1} K Z^{-1}`,
    :math:`Z_{ii} = (\sum_j K_{ij})^{1/2}`, and its largest eigenvalues :math:`\lambda_k` with eigenvectors
    :math:`\psi_k`,

    .. math:: d_{ri}^2 = \sum_k \Big(\frac{\lambda_k}{1 - \lambda_k}\Big)^2 (\psi_{rk} - \psi_{ik})^2, \qquad
              t_i = \frac{d_{ri}}{\max_j d_{rj}},

    where the stationary component counts with factor 1 (*as scanpy*). With an end point :math:`e`, the pseudotime is
    the mean of :math:`t_i` and :math:`1 - d_{ei} / \max_j d_{ej}`, scaled to the range from 0 to 1.

    Parameters
    ----------
    weights
        Symmetric, non-negative weights of shape (cells, cells).
    root
        Index of the root cell.
    end
        Index of the end point; None for none.
    n_components
        Number of eigenvectors, the stationary one included; those of the largest magnitude.

    Returns
    -------
    numpy.ndarray
        Pseudotime of shape (cells,), from 0 to 1; no unit. NaN for cells connected to neither root nor end; cells
        connected to one of them have their pseudotime from that one.

    References
    ----------
    Haghverdi et al. (2016), eq. 15 of the supplement, in the form of Wolf et al. (2019); on the velocity graph, Bergen
    et al. (2020).
    """
    _, label = connected_components(weights, directed=False)
    # On the whole of a disconnected graph the stationary eigenvectors would be any mixture of those of its parts.
    components = {part: _components_of(weights, np.flatnonzero(label == part), n_components)
                  for part in {label[cell] for cell in (root, end) if cell is not None}}  # fmt: skip
    from_root = _distance(components[label[root]], root, weights.shape[0])
    if end is None:
        return from_root
    towards_end = 1 - _distance(components[label[end]], end, weights.shape[0])
    mean = (from_root + towards_end) / 2
    mean = np.where(np.isnan(from_root), towards_end, np.where(np.isnan(towards_end), from_root, mean))
    mean = mean - np.nanmin(mean)
    largest = np.nanmax(mean)
    return mean / largest if largest > 0 else mean


Components = tuple[np.ndarray, np.ndarray, np.ndarray]


def _components_of(weights: sp.csr_matrix, cells: np.ndarray, n_components: int) -> Components:
    """Cells of a connected part, its eigenvalues and eigenvectors."""
    part = sp.csr_matrix(weights, dtype=np.float64)[cells][:, cells]
    return cells, *_diffusion_components(part, n_components)


def _distance(components: Components, cell: int, n_cells: int) -> np.ndarray:
    """Diffusion distance to a cell, over its maximum; NaN for cells of another part."""
    cells, values, vectors = components
    moving = values < STATIONARY
    factor = np.where(moving, values / np.where(moving, 1 - values, 1), 1)
    difference = vectors - vectors[np.searchsorted(cells, cell)]
    distance = np.sqrt(np.sum(np.square(factor * difference), axis=1))
    largest = distance.max()
    result = np.full(n_cells, np.nan)
    result[cells] = distance / largest if largest > 0 else distance
    return result


def _diffusion_components(weights: sp.csr_matrix, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of largest magnitude and eigenvectors of the symmetric transition matrix of a connected graph."""
    symmetric = _scaled(weights, 1 / _positive(np.asarray(weights.sum(axis=0)).ravel()))
    symmetric = _scaled(symmetric, 1 / np.sqrt(_positive(np.asarray(symmetric.sum(axis=0)).ravel())))
    n_cells = weights.shape[0]
    count = max(min(n_cells - 1, n_components), 1)
    if n_cells <= 2 * count + 2:
        # ARPACK wants room to work in.
        values, vectors = np.linalg.eigh(symmetric.toarray())
        largest = np.argsort(-np.abs(values), kind="stable")[:count]
        return values[largest], vectors[:, largest]
    # A start vector of one's own makes the result repeatable; an even one might have no part of what is looked for.
    start = np.random.default_rng(0).uniform(0.5, 1.5, n_cells)
    return eigsh(symmetric, k=count, which="LM", v0=start)


def _scaled(matrix: sp.csr_matrix, factor: np.ndarray) -> sp.csr_matrix:
    """Multiply rows and columns by a factor for each cell."""
    diagonal = sp.diags_array(factor)
    return sp.csr_matrix(diagonal @ matrix @ diagonal)


def _positive(x: np.ndarray) -> np.ndarray:
    """Ones for zeros."""
    return np.where(x == 0, 1.0, x)
