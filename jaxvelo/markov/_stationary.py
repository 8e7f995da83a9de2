"""Where a Markov chain is found in the long run: its stationary and almost stationary distributions."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence

from jaxvelo.leading_eigenvectors import leading_eigenvectors


def closed_classes(transitions: sp.csr_matrix) -> list[Int[np.ndarray, " members"]]:
    """Classes of cells that lead to each other, and nowhere else; every chain has at least one.

    Parameters
    ----------
    transitions
        Transition matrix of shape (cells, cells), without stored zeros.

    Returns
    -------
    list of numpy.ndarray
        The cells of each class, in ascending order.
    """
    n_classes, label = connected_components(transitions, directed=True, connection="strong")
    row = np.repeat(label, np.diff(transitions.indptr))
    leaves = row != label[transitions.indices]
    is_closed = np.ones(n_classes, dtype=bool)
    is_closed[row[leaves]] = False
    return [np.flatnonzero(label == c) for c in np.flatnonzero(is_closed)]


def stationary_distributions(
    transitions: sp.csr_matrix, tolerance: float = 1e-3, n_eigenvalues: int = 10
) -> Float[np.ndarray, "cells distributions"]:
    r"""Stationary distributions of a chain, and what is almost stationary.

    Left eigenvectors :math:`\mu T = \lambda \mu` with :math:`\operatorname{Re} \lambda \geq 1 - \epsilon`. The
    eigenvalue 1 has as many as there are closed classes of cells. With several classes its eigenvectors are any
    mixtures, so the distribution of each class is computed by itself.

    Parameters
    ----------
    transitions
        Transition matrix of shape (cells, cells); every row sums to one.
    tolerance
        :math:`\epsilon`.
    n_eigenvalues
        How many of the largest eigenvalues to look at.

    Returns
    -------
    numpy.ndarray
        Non-negative, each column with sum one, of shape (cells, distributions): first those of the closed classes,
        then the magnitudes of the further eigenvectors, with falling eigenvalue.

    Raises
    ------
    ArithmeticError
        If the iteration finds no eigenvector.

    References
    ----------
    Bergen et al. (2020), Methods: root cells and end points as stationary states.
    """
    transitions = sp.csr_matrix(transitions, dtype=np.float64, copy=True)
    transitions.eliminate_zeros()
    transitions.sort_indices()
    classes = closed_classes(transitions)
    values, vectors = _leading_left_eigenvectors(transitions, n_eigenvalues)
    columns = []
    if len(classes) > 1:
        for members in classes:
            column = np.zeros(transitions.shape[0])
            _, leading = _leading_left_eigenvectors(transitions[members][:, members], 1)
            column[members] = leading[:, 0]
            columns.append(column)
    further = vectors[:, len(columns) :][:, values[len(columns) :] >= 1 - tolerance]
    distributions = np.abs(np.column_stack([*columns, further]))
    return distributions / distributions.sum(axis=0)


def _leading_left_eigenvectors(transitions: sp.csr_matrix, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Real parts of the eigenvalues with the largest real part, falling, and of their left eigenvectors."""
    try:
        values, vectors = leading_eigenvectors(sp.csr_matrix(transitions.T), count, "real", symmetric=False)
    except ArpackNoConvergence as error:
        if not len(error.eigenvalues) or error.eigenvalues.real.max() < 1 - 1e-6:
            raise ArithmeticError(
                f"Expected the stationary distribution of a transition matrix of {transitions.shape[0]} cells, found "
                "no convergence. The graph may hang together by a few edges only: use more neighbours, or take its "
                "parts by themselves."
            ) from error
        values, vectors = error.eigenvalues, error.eigenvectors
    return values.real, vectors.real
