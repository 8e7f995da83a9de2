"""The leading eigenvectors of a sparse matrix, on the host and in double precision."""

from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float
from scipy.sparse.linalg import ArpackNoConvergence, eigs, eigsh

DENSE_ROWS = 200
"""Up to this size a dense solver is as fast, and has no iteration that might fail."""


class Eigenvectors(NamedTuple):
    """Eigenvalues in falling order, and their eigenvectors.

    Attributes
    ----------
    values
        Eigenvalues, of shape (count,); complex ones only if the matrix is not symmetric.
    vectors
        Eigenvectors of norm one, of shape (rows, count).
    """

    values: Any
    vectors: Any


def leading_eigenvectors(
    matrix: sp.csr_matrix, count: int, largest: Literal["real", "magnitude"], *, symmetric: bool
) -> Eigenvectors:
    r"""Right eigenvectors :math:`A x = \lambda x` of the largest eigenvalues; those of the transpose are the left ones.

    The same each time: the iteration (ARPACK) starts from a vector of its own.

    Parameters
    ----------
    matrix
        Real matrix of shape (rows, rows).
    count
        Number of eigenvectors, no more than rows.
    largest
        What is to be large: ``"real"``, the real part, or ``"magnitude"``.
    symmetric
        Whether the matrix is symmetric, which is not checked.

    Returns
    -------
    Eigenvectors
        Where eigenvalues are equal, any basis of their space; signs and phases are any. Of a conjugate pair at the end
        one may be left out.

    Raises
    ------
    scipy.sparse.linalg.ArpackNoConvergence
        If not all of them are found; it holds those that are, in the same order.

    References
    ----------
    Lehoucq, Sorensen & Yang (1998), ARPACK users' guide.
    """
    n_rows = matrix.shape[0]
    if n_rows <= max(DENSE_ROWS, 2 * count + 2):  # ARPACK wants room to work in
        dense = np.asarray(matrix.toarray(), dtype=np.float64)
        values, vectors = np.linalg.eigh(dense) if symmetric else np.linalg.eig(dense)
        return _falling(values, vectors, count, largest)
    which = {"real": "LA" if symmetric else "LR", "magnitude": "LM"}[largest]
    # An even start might have no part of what is looked for.
    start = np.random.default_rng(0).uniform(0.5, 1.5, n_rows)
    try:
        values, vectors = (eigsh if symmetric else eigs)(matrix.astype(np.float64), k=count, which=which, v0=start)
    except ArpackNoConvergence as error:
        error.eigenvalues, error.eigenvectors = _falling(error.eigenvalues, error.eigenvectors, count, largest)
        raise
    return _falling(values, vectors, count, largest)


def _falling(
    values: Float[np.ndarray, " found"], vectors: Float[np.ndarray, "rows found"], count: int, largest: str
) -> Eigenvectors:
    size = np.abs(values) if largest == "magnitude" else values.real
    order = np.argsort(-size, kind="stable")[:count]
    return Eigenvectors(values[order], vectors[:, order])
