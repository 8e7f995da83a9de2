"""The slow part of a Markov chain: its leading real Schur vectors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax.custom_derivatives import linear_call
from jaxtyping import Array, Float

from jaxvelo.graph import NeighborGraph, TransitionMatrix
from jaxvelo.graph._host import call_on_host
from jaxvelo.markov._closed_classes import chances_of_closed_classes
from jaxvelo.markov._krylov_schur import LeadingSchur, NotConverged, eigenvalues_of, leading_schur, norm_of, size_of
from jaxvelo.markov._long_run_means import LongRunMeans
from jaxvelo.markov._metrics import expected_displacement
from jaxvelo.markov._row_ranges import RowRanges
from jaxvelo.markov._subspace_change import SubspaceChange

UNCHANGED = 1e-10
"""What a step may change of a vector of norm one that counts as unchanged."""


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
    long_run
        Mean of each vector where the chain is found in the long run, :math:`\eta^\top T^\infty X = e_1^\top R^\infty`,
        shape ``(components,)``. Its error is about the residual over the distance of the next eigenvalue from one;
        eigenvalues within 1e-9 of one count as one, as if what takes a billion steps never happened.

    Examples
    --------
    >>> chain = sp.csr_matrix([[0.5, 0.49, 0.01, 0], [0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0.01, 0, 0.49, 0.5]])
    >>> found = jv.markov.schur(chain, 2)
    >>> found.vectors.shape, found.vectors[:, 0].round(6).tolist(), found.residual < 1e-9
    ((4, 2), [1.0, 1.0, 1.0, 1.0], True)
    """

    matrix: Any
    vectors: Any
    eigenvalues: Any
    initial_distribution: Any
    residual: Any
    gap: Any
    long_run: Any


def schur(
    transitions: sp.csr_matrix | TransitionMatrix,
    n_components: int,
    *,
    which: Literal["LR", "LM"] = "LR",
    initial_distribution: Any = None,
    report: Callable[[int], object] | None = None,
) -> Schur:
    r"""Real Schur vectors of the largest eigenvalues of a chain, by products with its matrix alone.

    .. math:: T X = X R, \qquad X^\top \mathrm{diag}(\eta) X = 1, \qquad X_{i1} = 1

    In double precision on the host, whatever the type of the probabilities. The chain is the one whose probabilities to
    move are given: that to stay is what is left to one.

    Gradients, first derivatives alone, are implicit, by a Sylvester equation. The vectors turn in their subspace in
    such a way that each leading part of them goes on to span an invariant subspace, but they do not turn within the
    block of a pair. So gradients are those of all that depends on the subspaces alone: eigenvalues, memberships, coarse
    transition matrices. They are NaN where the equation is not solved within 1e-9, which is where the gap is too small.

    Parameters
    ----------
    transitions
        Transition matrix, shape ``(cells, cells)``: of SciPy, for results of NumPy in double precision; or on a graph,
        for results of its type that have derivatives.
    n_components
        Number of vectors, at most the number of cells. Where the last one would be half of a pair of conjugate
        eigenvalues, there is one more for a matrix of SciPy. On a graph, shapes do not depend on numbers: all is NaN
        and the gap zero then; ask for one more.
    which
        Which eigenvalues are the largest: those with the largest real part, ``"LR"``, or with the largest magnitude,
        ``"LM"``, which also finds what comes back periodically.
    initial_distribution
        :math:`\eta`, positive for each cell; uniform if ``None``. It has no derivative.
    report
        Called with 1 after each product with a matrix of SciPy.

    Returns
    -------
    Schur
        Vectors, their matrix and eigenvalues, with residual and gap.

    Raises
    ------
    ValueError
        If the initial distribution is not positive, for a matrix of SciPy.
    ArithmeticError
        If the iteration does not find so many vectors, for a matrix of SciPy; on a graph, all is NaN then.

    References
    ----------
    Reuter et al. (2018), Generalized Markov state modeling method for nonequilibrium processes, J. Chem. Theory
    Comput. 14:3579. Stewart (2001), A Krylov-Schur algorithm for large eigenproblems, SIAM J. Matrix Anal. Appl.
    23:601.

    Examples
    --------
    >>> chain = sp.csr_matrix([[0.5, 0.49, 0.01, 0], [0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0.01, 0, 0.49, 0.5]])
    >>> jv.markov.schur(chain, 2).eigenvalues.real.round(3).tolist()
    [1.0, 0.99]
    """
    n_cells = transitions.shape[0]
    if isinstance(transitions, TransitionMatrix):
        start = initial_distribution_on_graph(transitions, initial_distribution)
        found = _schur(transitions.values, transitions.graph.bare, start, n_components, which)
        values = _eigenvalues(found.matrix)
        return Schur(found.matrix, found.vectors, values, start, found.residual, found.gap, found.long_run)
    eta = np.ones(n_cells) if initial_distribution is None else np.asarray(initial_distribution, dtype=np.float64)
    if not (eta > 0).all():
        raise ValueError(
            "Expected an initial distribution that is positive for each cell, found "
            f"{int(np.count_nonzero(~(eta > 0)))} cells where it is not. Mix it with a uniform one."
        )
    chain = ScaledChain(transitions, eta / eta.sum(), report)
    try:
        return chain.schur(n_components, which)
    except NotConverged as error:
        n_found = len(error.found.vectors)
        raise ArithmeticError(
            f"Expected {n_components} Schur vectors of {n_cells} cells, found {n_found} that converged. The next "
            "eigenvalues may lie too close to each other: ask for another number of components (for example "
            f"{n_found}), or use more neighbours."
        ) from error


def initial_distribution_on_graph(transitions: TransitionMatrix, given: Any) -> Float[Array, " cells"]:
    """Of sum one, of the type of the transitions, without derivative; uniform if ``None``."""
    eta = jnp.ones(transitions.shape[0]) if given is None else jnp.asarray(given)
    eta = jax.lax.stop_gradient(eta.astype(transitions.values[0].dtype))
    return eta / jnp.sum(eta)


class ScaledChain:
    r"""A chain in coordinates in which its inner product is the usual one, :math:`\eta^{1/2} T \eta^{-1/2}`."""

    def __init__(
        self,
        matrix: sp.csr_matrix,
        eta: Float[np.ndarray, " cells"],
        report: Callable[[int], object] | None = None,
    ):
        self.report = report
        self.matrix, self.eta, self.root = matrix, eta, np.sqrt(eta)
        self.rows = RowRanges(matrix)
        self.stays = 1 - matrix @ np.ones(len(eta))

    def product(self, y: np.ndarray) -> np.ndarray:
        """Multiply a vector, or the columns of a matrix."""
        root, stays = (x.reshape(-1, *[1] * (y.ndim - 1)) for x in (self.root, self.stays))
        x = y / root
        if self.report is not None:
            self.report(1)
        return root * (self.rows.product(x) + stays * x)

    def transposed_product(self, y: np.ndarray) -> np.ndarray:
        """Multiply by the transpose."""
        root, stays = (x.reshape(-1, *[1] * (y.ndim - 1)) for x in (self.root, self.stays))
        x = y * root
        return (self.matrix.T @ x + stays * x) / root

    def schur(self, n_components: int, which: Literal["LR", "LM"]) -> Schur:
        """See :func:`schur`."""
        largest: Literal["real", "magnitude"] = "real" if which == "LR" else "magnitude"
        return self.scaled(leading_schur(self.product, self.unchanged(n_components), n_components, largest), largest)

    def unchanged(self, most: int) -> Float[np.ndarray, "found cells"]:
        """What no step changes, orthonormal: a constant, and how likely each closed class is to be the end."""
        chances = chances_of_closed_classes(self.matrix, most - 1)
        if not chances.shape[1]:
            return self.root[None]
        scaled = self.root[:, None] * np.column_stack([np.ones(len(self.root)), chances])
        vectors = np.linalg.qr(scaled / np.linalg.norm(scaled, axis=0))[0].T
        vectors[0] = self.root
        is_good = [norm_of(self.product(row) - row) <= UNCHANGED for row in vectors]
        return vectors[: len(vectors) if all(is_good) else is_good.index(False)]

    def slow_part(self, most: int, max_restarts: int) -> Schur:
        """Find as many vectors as converge soon, at most so many."""
        try:
            found = leading_schur(self.product, self.unchanged(most), most, "magnitude", max_restarts)
        except NotConverged as error:
            found = error.found
        return self.scaled(found, "magnitude")

    def scaled(self, found: LeadingSchur, largest: Literal["real", "magnitude"]) -> Schur:
        """Write what was found in the coordinates of the cells."""
        rows, form = found.vectors, found.schur_form
        residual = max(norm_of(self.product(row) - form[:, j] @ rows) for j, row in enumerate(rows))
        last, following = size_of(np.append(found.eigenvalues[-1], found.next_eigenvalue), largest)
        gap = np.inf if np.isnan(following) else max(float(last - following), 0.0)
        vectors, signs = np.empty((len(self.root), len(rows))), np.empty(len(rows))
        for j, row in enumerate(rows):
            column = row / self.root
            signs[j] = np.sign(column[np.argmax(np.abs(column))])
            vectors[:, j] = signs[j] * column
        vectors[:, 0] = 1
        form = signs[:, None] * form * signs
        return Schur(form, vectors, eigenvalues_of(form), self.eta, residual, gap, LongRunMeans(form).means)

    def change(self, vectors: np.ndarray, form: np.ndarray) -> SubspaceChange:
        """How the Schur vectors, given unscaled, change."""
        return SubspaceChange(self.product, self.transposed_product, self.root[:, None] * vectors, form)


class _Found(NamedTuple):
    matrix: Any
    vectors: Any
    residual: Any
    gap: Any
    long_run: Any


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
@partial(jax.jit, static_argnums=(3, 4))
def _schur(values, graph: NeighborGraph, eta: Array, n_components: int, which: Literal["LR", "LM"]) -> _Found:
    def solve(transitions, eta) -> _Found:
        try:
            found = ScaledChain(transitions.to_csr(), eta.astype(np.float64)).schur(n_components, which)
        except NotConverged:
            found = None
        if found is None or found.vectors.shape[1] != n_components:
            unknown = np.full((len(eta) + n_components, n_components), np.nan)
            return _Found(unknown[:n_components], unknown[n_components:], np.nan, 0, unknown[0])
        return _Found(found.matrix, found.vectors, found.residual, found.gap, found.long_run)

    dtype = values[0].dtype
    number: Any = jax.ShapeDtypeStruct((), dtype)
    matrix: Any = jax.ShapeDtypeStruct((n_components, n_components), dtype)
    vectors: Any = jax.ShapeDtypeStruct((eta.shape[0], n_components), dtype)
    means: Any = jax.ShapeDtypeStruct((n_components,), dtype)
    return call_on_host(solve, _Found(matrix, vectors, number, number, means), TransitionMatrix(graph, values), eta)


@_schur.defjvp
def _schur_jvp(n_components, which, primals, tangents):
    values, graph, eta = primals
    found = _schur(values, graph, eta, n_components, which)
    cause = expected_displacement(TransitionMatrix(graph, tangents[0]), found.vectors)
    changing = (found.vectors, found.matrix, found.long_run)
    shapes: Any = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), changing)
    known = (TransitionMatrix(graph, values), eta, found.vectors, found.matrix)

    def prepared(transitions, eta, vectors, form) -> tuple[SubspaceChange | None, np.ndarray]:
        eta, vectors, form = (x.astype(np.float64) for x in (eta, vectors, form))
        is_known = np.isfinite(form).all()
        chain = ScaledChain(transitions.to_csr(), eta)
        return (chain.change(vectors, form) if is_known else None), chain.root[:, None]

    def change(known, cause):
        def on_host(known, cause):
            subspace, root = prepared(*known)
            if subspace is None:
                return tuple(np.full(shape.shape, np.nan) for shape in shapes)
            of_vectors, of_form = subspace.change(root * cause.astype(np.float64))
            return of_vectors / root, of_form, LongRunMeans(subspace.form).change(of_form)

        return call_on_host(on_host, shapes, known, cause)

    def transposed(known, gradients):
        def on_host(known, gradients):
            subspace, root = prepared(*known)
            if subspace is None:
                return np.full(shapes[0].shape, np.nan)
            of_vectors, of_form, of_means = (gradient.astype(np.float64) for gradient in gradients)
            of_form = of_form + LongRunMeans(subspace.form).transposed(of_means)
            return root * subspace.transposed(of_vectors / root, of_form)

        return call_on_host(on_host, shapes[0], known, gradients)

    vectors, matrix, long_run = linear_call(change, transposed, known, cause)
    still = jax.tree.map(jnp.zeros_like, found)
    return found, still._replace(vectors=vectors, matrix=matrix, long_run=long_run)


def _eigenvalues(form: Float[Array, "k k"]) -> Any:
    """Those of the diagonal blocks, differentiable."""
    diagonal, product = jnp.diagonal(form), jnp.diagonal(form, -1) * jnp.diagonal(form, 1)
    half = (diagonal[:-1] - diagonal[1:]) / 2
    square = -(half**2 + product)
    is_pair = (jax.lax.stop_gradient(jnp.diagonal(form, -1)) != 0) & (square > 0)
    height = jnp.where(is_pair, jnp.sqrt(jnp.where(is_pair, square, 1)), 0)
    # The first of a pair has the mean real part and the positive imaginary part.
    shift = jnp.where(is_pair, half, 0)
    real = diagonal - jnp.append(shift, 0) + jnp.append(jnp.zeros(1, shift.dtype), shift)
    imaginary = jnp.append(height, 0) - jnp.append(jnp.zeros(1, height.dtype), height)
    return jax.lax.complex(real, imaginary)


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
        Weight :math:`\alpha` of the distance from one.

    Returns
    -------
    int
        :math:`m`, at least 1.

    Examples
    --------
    >>> jv.markov.eigengap(np.array([1.0, 0.98, 0.95, 0.6, 0.5]))
    3
    """
    falling = np.sort(np.real(eigenvalues))[::-1]
    return int(np.argmax(falling[:-1] - falling[1:] - alpha * (1 - falling[:-1]))) + 1
