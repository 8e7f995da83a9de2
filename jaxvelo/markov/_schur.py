"""The slow part of a Markov chain: its leading real Schur vectors."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from jaxvelo.markov._krylov_schur import LeadingSchur, NotConverged, eigenvalues_of, leading_schur, size_of


class Schur(NamedTuple):
    r"""Leading real Schur vectors, :math:`T X = X R` with :math:`X^\top \mathrm{diag}(\eta) X = 1`.

    Attributes
    ----------
    matrix
        :math:`R`, shape ``(components, components)``: upper triangular but for a block of two for each pair of
        conjugate eigenvalues.
    vectors
        :math:`X`, shape ``(cells, components)``; the first column is one everywhere. Of each column, the entry that is
        largest in magnitude is positive.
    eigenvalues
        Of :math:`R`, in the order of its diagonal, shape ``(components,)``: the largest first, pairs side by side.
    initial_distribution
        :math:`\eta`, shape ``(cells,)``.
    residual
        Largest norm of a column of :math:`T X - X R`, where all columns of :math:`X` have norm one.
    gap
        How much larger the last eigenvalue is than the next one that is left out; infinite if none is. The subspace is
        the less certain, the smaller its gap is.
    """

    matrix: Any
    vectors: Any
    eigenvalues: Any
    initial_distribution: Any
    residual: Any
    gap: Any


def schur(
    transitions: sp.csr_matrix,
    n_components: int,
    *,
    which: Literal["LR", "LM"] = "LR",
    initial_distribution: Float[np.ndarray, " cells"] | None = None,
) -> Schur:
    r"""Real Schur vectors of the largest eigenvalues of a chain, by products with its matrix alone.

    .. math:: T X = X R, \qquad X^\top \mathrm{diag}(\eta) X = 1, \qquad X_{i1} = 1

    In double precision, whatever the type of the probabilities. The chain is the one whose probabilities to move are
    given: that to stay is what is left to one.

    Parameters
    ----------
    transitions
        Transition matrix.
    n_components
        Number of vectors, at most the number of cells. Where the last one would be half of a pair of conjugate
        eigenvalues, there is one more.
    which
        Which eigenvalues are the largest: those with the largest real part, ``"LR"``, or with the largest magnitude,
        ``"LM"``, which also finds what comes back periodically.
    initial_distribution
        :math:`\eta`, positive for each cell; uniform if ``None``.

    Raises
    ------
    ValueError
        If the initial distribution is not positive.
    ArithmeticError
        If the iteration does not find so many vectors.

    References
    ----------
    Reuter et al. (2018), Generalized Markov state modeling method for nonequilibrium processes, J. Chem. Theory
    Comput. 14:3579. Stewart (2001), see :mod:`~jaxvelo.markov`'s iteration.
    """
    n_cells = transitions.shape[0]
    eta = _initial_distribution(initial_distribution, n_cells)
    root = np.sqrt(eta)
    largest: Literal["real", "magnitude"] = "real" if which == "LR" else "magnitude"
    stays = 1 - transitions @ np.ones(n_cells)

    def apply(x: np.ndarray) -> np.ndarray:
        return transitions @ x + stays * x

    try:
        found = leading_schur(lambda y: root * apply(y / root), root, n_components, largest)
    except NotConverged as error:
        raise ArithmeticError(
            f"Expected {n_components} Schur vectors of {n_cells} cells, found {error.found} that converged. The next "
            f"eigenvalues may lie too close to each other: ask for another number of components (for example "
            f"{max(error.found, 1)}), or use more neighbours."
        ) from error
    vectors, form = _signed(found, root)
    last = size_of(found.eigenvalues[-1:], largest)[0]
    following = size_of(np.array([found.next_eigenvalue]), largest)[0]
    residual = max(
        float(np.sqrt(eta @ (apply(vectors[:, j]) - vectors @ form[:, j]) ** 2)) for j in range(vectors.shape[1])
    )
    gap = np.inf if np.isnan(following) else max(float(last - following), 0.0)
    return Schur(form, vectors, eigenvalues_of(form), eta, residual, gap)


def _initial_distribution(given: np.ndarray | None, n_cells: int) -> Float[np.ndarray, " cells"]:
    if given is None:
        return np.full(n_cells, 1 / n_cells)
    eta = np.asarray(given, dtype=np.float64)
    if not (eta > 0).all():
        raise ValueError(
            "Expected an initial distribution that is positive for each cell, found "
            f"{int(np.count_nonzero(~(eta > 0)))} cells where it is not. Mix it with a uniform one."
        )
    return eta / eta.sum()


def _signed(found: LeadingSchur, root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    vectors = np.empty((len(root), len(found.vectors)))
    signs = np.ones(len(found.vectors))
    for j, row in enumerate(found.vectors):
        column = row / root if j else np.ones(len(root))
        signs[j] = np.sign(column[np.argmax(np.abs(column))])
        vectors[:, j] = signs[j] * column
    return vectors, signs[:, None] * found.schur_form * signs


def eigengap(eigenvalues: np.ndarray, alpha: float = 1.0) -> int:
    r"""Number of leading eigenvalues in front of the widest gap that is still close to one.

    With the real parts in falling order,

    .. math:: \arg\max_m \; (\lambda_m - \lambda_{m+1}) - \alpha (1 - \lambda_m).

    CellRank's ``eigengap`` counts from zero: it is one less.

    Parameters
    ----------
    eigenvalues
        At least two, in any order.
    alpha
        Weight of the distance from one.
    """
    falling = np.sort(np.real(eigenvalues))[::-1]
    return int(np.argmax(falling[:-1] - falling[1:] - alpha * (1 - falling[:-1]))) + 1
