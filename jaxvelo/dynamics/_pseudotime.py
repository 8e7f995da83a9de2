r"""Diffusion distance from a root cell on a weighted graph, and its derivatives by the weights.

Eigenvectors of a sparse matrix have no good solver in JAX, and differences to one of eigenvalues want double precision:
both are computed on the host, and so are the linear systems of their derivatives.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Float, Int
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, cg

from jaxvelo.dynamics._largest import largest
from jaxvelo.graph import EdgeMatrix, NeighborGraph
from jaxvelo.graph._host import call_on_host
from jaxvelo.graph._precision import full_precision
from jaxvelo.leading_eigenvectors import leading_eigenvectors

STATIONARY = 0.9994
"""From this eigenvalue on, a component counts as the stationary one, where :math:`\\lambda / (1 - \\lambda)` would be
rounding error (as scanpy)."""
ROUNDING = 1e-8
"""An eigenvalue that is smaller counts as zero."""
TOLERANCE, MOST_STEPS = 1e-10, 5000
"""Of the solver of the derivative."""


def diffusion_pseudotime(
    graph: NeighborGraph,
    weights: tuple[Float[Array, "rows width"], ...],
    root: Int[Array, ""] | int,
    end: Int[Array, ""] | int | None = None,
    n_components: int = 10,
) -> Float[Array, " cells"]:
    r"""Distance from a root cell that a random walk sees, over all numbers of steps.

    From weights of both directions :math:`W_{ij} = w_{ij} + w_{ji}`, made independent of the density of cells by
    :math:`K = Q^{-1} W Q^{-1}`, :math:`Q_{ii} = \sum_j W_{ij}`, the symmetric transition matrix
    :math:`S = Z^{-1} K Z^{-1}`, :math:`Z_{ii} = (\sum_j K_{ij})^{1/2}`, and its largest eigenvalues :math:`\lambda_k`
    with eigenvectors :math:`\psi_k`,

    .. math:: d_{ri}^2 = \sum_k f_k^2 (\psi_{rk} - \psi_{ik})^2, \qquad f_k = \frac{\lambda_k}{1 - \lambda_k}, \qquad
              t_i = \frac{d_{ri}}{\max_j d_{rj}},

    where the stationary component counts with the factor :math:`f = 1` (*as scanpy*). With an end point :math:`e`, the
    pseudotime is the mean of :math:`t_i` and :math:`1 - d_{ei} / \max_j d_{ej}`, scaled to the range from 0 to 1.

    Differentiable in the weights; of a distance of zero the derivative is taken as zero, and a weight of zero is no
    edge. With :math:`M = \sum_k f_k^2 \psi_k \psi_k^\top`, so that :math:`d_{ri}^2 = M_{rr} + M_{ii} - 2 M_{ri}`,

    .. math:: \dot M = \sum_{kl} \psi_k \frac{f_k^2 - f_l^2}{\lambda_k - \lambda_l} (\psi_k^\top \dot S \psi_l)
              \psi_l^\top + \sum_k f_k^2 (y_k \psi_k^\top + \psi_k y_k^\top), \qquad
              (\lambda_k - S) y_k = P \dot S \psi_k,

    with :math:`P` the projection onto what is orthogonal to all :math:`\psi_k` that count. Equal eigenvalues among
    these do no harm (the quotient becomes a derivative). Where the first eigenvalue left out has the same magnitude as
    the last that counts, and it is not zero, the distance itself is not defined: its derivative then says nothing, and
    may be NaN. There is no second derivative (JAX raises an error).

    Parameters
    ----------
    graph
        Graph of the edges.
    weights
        Weight of each slot of the graph, not negative, one array for each bucket; the sum of both directions counts.
    root
        Index of the root cell.
    end
        Index of the end point; None for none.
    n_components
        Number of eigenvectors, the stationary one included; those of the largest magnitude. Static.

    Returns
    -------
    jax.Array
        Pseudotime of shape (cells,), from 0 to 1; no unit. NaN for cells connected to neither root nor end; cells
        connected to one of them have their pseudotime from that one.

    Notes
    -----
    The eigenvectors are computed on the host. For double precision on an accelerator, enable it for the whole process
    and not as a context.

    References
    ----------
    Haghverdi et al. (2016), eq. 15 of the supplement, in the form of Wolf et al. (2019); on the velocity graph, Bergen
    et al. (2020). The derivative of a function of a matrix: Daleckii & Krein (1965).

    Examples
    --------
    >>> root = int(jnp.argmin(time))  # the earliest cell
    >>> pseudotime = jv.dynamics.diffusion_pseudotime(graph, graph.edges["connectivities"].values, root)
    >>> pseudotime.shape, float(pseudotime[root]), bool(jnp.corrcoef(pseudotime, time)[0, 1] > 0.5)
    ((150,), 0.0, True)
    """
    return _diffusion_pseudotime(graph.bare, weights, root, end, n_components)


@partial(jax.jit, static_argnames=("n_components",))
def _diffusion_pseudotime(graph, weights, root, end, n_components):
    masked = tuple(jnp.where(mask, w, 0) for w, mask in zip(weights, graph.mask, strict=True))
    points = jnp.asarray([root]) if end is None else jnp.asarray([root, end])
    squared = _squared_distances(masked, graph, points, n_components)
    connected = ~jnp.isnan(squared)
    apart = squared > 0
    distance = jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1)), 0)
    from_root = _over_largest(distance[0])
    if end is None:
        return jnp.where(connected[0], from_root, jnp.nan)
    towards_end = 1 - _over_largest(distance[1])
    mean = (from_root + towards_end) / 2
    mean = jnp.where(connected[0], jnp.where(connected[1], mean, from_root), towards_end)
    known = connected[0] | connected[1]
    mean = jnp.where(known, mean + largest(jnp.where(known, -mean, -jnp.inf)), 0)
    # Root and end may be one: then all are alike, but for rounding.
    mean = jnp.where(mean > 16 * jnp.finfo(mean.dtype).eps, mean, 0)
    return jnp.where(known, _over_largest(mean), jnp.nan)


class _Components(NamedTuple):
    r"""Diffusion components of the parts of the graph that some cells belong to.

    Attributes
    ----------
    squared
        Squared distances from the points, of shape (points, cells); NaN for cells of other parts.
    vectors
        Eigenvectors, of shape (points, cells, components); zeros for cells of other parts, and for the components
        that a small part lacks.
    values
        Eigenvalues, of shape (points, components).
    factors
        Squares of the factors :math:`f`, of shape (points, components).
    quotients
        :math:`(f_k^2 - f_l^2) / (\lambda_k - \lambda_l)`, of shape (points, components, components).
    """

    squared: Float[Any, "points cells"]
    vectors: Float[Any, "points cells components"]
    values: Float[Any, "points components"]
    factors: Float[Any, "points components"]
    quotients: Float[Any, "points components components"]


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _squared_distances(
    weights: tuple[Float[Array, "rows width"], ...],
    graph: NeighborGraph,
    points: Int[Array, " points"],
    n_components: int,
) -> Float[Array, "points cells"]:
    """Squared diffusion distances from some cells; NaN for cells of other parts."""
    return _components(weights, graph, points, n_components).squared


@_squared_distances.defjvp
@full_precision
def _squared_distances_jvp(n_components: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    weights, graph, points = primals
    squared, all_vectors, *rest = _components(weights, graph, points, n_components)
    inside = ~jnp.isnan(squared)

    def walk(weights):
        # All points at once, so that this is compiled once.
        matrix = EdgeMatrix(graph, weights)
        return _walk(matrix, _scale(matrix), jnp.concatenate(all_vectors, axis=1))

    _, changes = jax.jvp(walk, (weights,), tangents[:1])
    moved = []
    for i, (vectors, values, factors, quotients) in enumerate(zip(all_vectors, *rest, strict=True)):
        change = jnp.where(inside[i][:, None], changes[:, i * n_components : (i + 1) * n_components], 0)
        within = vectors.T @ change
        outside = _resolvent(graph, weights, vectors, values, factors[None] * change)
        difference = vectors - vectors[points[i]][None]
        by_cell = jnp.sum(difference * (difference @ (quotients * within)), axis=1)
        by_cell += 2 * jnp.sum((outside - outside[points[i]][None]) * difference, axis=1)
        moved.append(jnp.where(inside[i], by_cell, 0))
    return squared, jnp.stack(moved)


def _resolvent(
    graph: NeighborGraph,
    weights: tuple[Float[Array, "rows width"], ...],
    vectors: Float[Array, "cells components"],
    values: Float[Array, " components"],
    right_side: Float[Array, "cells components"],
) -> Float[Array, "cells components"]:
    r"""Solve :math:`(\lambda_k - S) y_k = P b_k` for all components, with :math:`P y_k = y_k`."""
    matrix = EdgeMatrix(graph, weights)

    def project(y: Array) -> Array:
        return y - vectors @ (vectors.T @ y)

    def left_side(y: Array) -> Array:
        return project(values[None] * y - _walk(matrix, _scale(matrix), y))

    def solve(_, right_side: Array) -> Array:
        result = jax.ShapeDtypeStruct(right_side.shape, right_side.dtype)
        return call_on_host(_host_resolvent, result, graph.rows, graph.columns, weights, vectors, values, right_side)

    return jax.lax.custom_linear_solve(left_side, right_side, solve, symmetric=True)


def _host_resolvent(
    rows: tuple[Int[np.ndarray, " rows"], ...],
    columns: tuple[Int[np.ndarray, "rows width"], ...],
    weights: tuple[Float[np.ndarray, "rows width"], ...],
    vectors: Float[np.ndarray, "cells components"],
    values: Float[np.ndarray, " components"],
    right_side: Float[np.ndarray, "cells components"],
) -> Float[np.ndarray, "cells components"]:
    r"""Conjugate gradients in double precision; NaN where they do not converge.

    The magnitude of :math:`\lambda_k` is larger than that of all eigenvalues that are left, so that the matrix is
    definite there, with the sign of :math:`\lambda_k`.
    """
    walk = _walk_matrix(rows, columns, weights, len(vectors))
    there = np.any(vectors != 0, axis=0)
    basis = np.linalg.qr(vectors[:, there].astype(np.float64))[0]

    def project(y: np.ndarray) -> np.ndarray:
        return y - basis @ (basis.T @ y)

    solutions = np.zeros(right_side.shape)
    for component in np.flatnonzero(there & np.any(right_side != 0, axis=0)):
        sign = -1.0 if values[component] < 0 else 1.0

        def left_side(y: np.ndarray, sign=sign, value=float(values[component])) -> np.ndarray:
            # Of full rank: what rounding leaves outside of the projection must not grow.
            outside = project(y)
            return sign * project(value * outside - walk @ outside) + (y - outside)

        operator = LinearOperator(walk.shape, left_side, dtype=np.float64)
        known = sign * right_side[:, component].astype(np.float64)
        solution, failed = cg(operator, known, rtol=TOLERANCE, maxiter=MOST_STEPS)
        solutions[:, component] = np.nan if failed else project(solution)
    return solutions


def _components(
    weights: tuple[Float[Array, "rows width"], ...],
    graph: NeighborGraph,
    points: Int[Array, " points"],
    n_components: int,
) -> _Components:
    n_points, dtype = points.shape[0], weights[0].dtype

    shapes = _shapes(n_points, graph.n_cells, n_components)
    results = _Components(*(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes))
    on_host = partial(_host_components, n_cells=graph.n_cells, n_components=n_components)
    return call_on_host(on_host, results, graph.rows, graph.columns, weights, points)


def _shapes(n_points: int, n_cells: int, n_components: int) -> tuple[tuple[int, ...], ...]:
    return (
        (n_points, n_cells),
        (n_points, n_cells, n_components),
        (n_points, n_components),
        (n_points, n_components),
        (n_points, n_components, n_components),
    )


def _host_components(
    rows: tuple[Int[np.ndarray, " rows"], ...],
    columns: tuple[Int[np.ndarray, "rows width"], ...],
    weights: tuple[Float[np.ndarray, "rows width"], ...],
    points: Int[np.ndarray, " points"],
    n_cells: int,
    n_components: int,
) -> _Components:
    """Components of the parts of the points, with NumPy and SciPy, in double precision; NaN if weights are."""
    if not all(np.isfinite(w).all() for w in weights):
        return _Components(*(np.full(shape, np.nan) for shape in _shapes(len(points), n_cells, n_components)))
    walk = _walk_matrix(rows, columns, weights, n_cells)
    _, label = connected_components(walk, directed=False)
    # On the whole of a disconnected graph the stationary eigenvectors would be any mixture of those of its parts.
    of_part = {part: _components_of_part(walk, label == part, n_components) for part in set(label[points])}
    found = []
    for point in points:
        vectors, values, factors, quotients = of_part[label[point]]
        squared = np.square(vectors - vectors[point]) @ np.square(factors)
        squared[label != label[point]] = np.nan
        found.append((squared, vectors, values, np.square(factors), quotients))
    return _Components(*(np.stack(x) for x in zip(*found, strict=True)))


def _walk_matrix(
    rows: tuple[Int[np.ndarray, " rows"], ...],
    columns: tuple[Int[np.ndarray, "rows width"], ...],
    weights: tuple[Float[np.ndarray, "rows width"], ...],
    n_cells: int,
) -> sp.csr_matrix:
    r"""Symmetric transition matrix :math:`S`, with the edges of positive weight only."""
    row = np.concatenate([np.repeat(r, c.shape[1]) for r, c in zip(rows, columns, strict=True)])
    column, weight = (np.concatenate([x.ravel() for x in arrays]) for arrays in (columns, weights))
    one_way = sp.csr_matrix((weight.astype(np.float64), (row, column)), (n_cells, n_cells))
    one_way.eliminate_zeros()
    symmetric = _scaled(sp.csr_matrix(one_way + one_way.T), lambda total: 1 / total)
    return _scaled(symmetric, lambda total: 1 / np.sqrt(total))


def _components_of_part(walk: sp.csr_matrix, member: np.ndarray, n_components: int) -> tuple[np.ndarray, ...]:
    cells = np.flatnonzero(member)
    values, vectors = np.zeros(n_components), np.zeros((len(member), n_components))
    count = max(min(len(cells) - 1, n_components), 1)
    part = walk[cells][:, cells]
    values[:count], vectors[cells, :count] = leading_eigenvectors(part, count, "magnitude", symmetric=True)
    # Components that do not count must not be divided by what is left of their eigenvalues.
    values[np.abs(values) < ROUNDING] = 0
    moving = values < STATIONARY
    rest = np.where(moving, 1 - values, 1)
    factors = np.where(moving, values / rest, 1)
    # Of two that move, without the difference of nearly equal numbers.
    quotients = (factors[:, None] + factors) / (rest[:, None] * rest)
    mixed = moving[:, None] != moving
    gap = np.where(mixed, values[:, None] - values, 1)
    quotients = np.where(mixed, (np.square(factors)[:, None] - np.square(factors)) / gap, quotients)
    quotients[~moving[:, None] & ~moving] = 0
    return vectors, values, factors, quotients


def _scaled(matrix: sp.csr_matrix, factor_of: Callable[[np.ndarray], np.ndarray]) -> sp.csr_matrix:
    """Multiply rows and columns by a function of their sums."""
    total = np.asarray(matrix.sum(axis=0)).ravel()
    diagonal = sp.diags_array(factor_of(np.where(total == 0, 1, total)))
    return sp.csr_matrix(diagonal @ matrix @ diagonal)


def _symmetric(matrix: EdgeMatrix, y: Float[Array, "cells k"]) -> Float[Array, "cells k"]:
    r"""Apply the weights of both directions, :math:`W y`."""
    return matrix @ y + (y.T @ matrix).T


def _scale(matrix: EdgeMatrix) -> Float[Array, "cells 1"]:
    r"""Factors of the cells for which :math:`S_{ij} = c_i W_{ij} c_j`."""
    density = 1 / _positive(_symmetric(matrix, jnp.ones((matrix.shape[0], 1), matrix.values[0].dtype)))
    return density / jnp.sqrt(_positive(density * _symmetric(matrix, density)))


def _walk(matrix: EdgeMatrix, scale: Float[Array, "cells 1"], y: Float[Array, "cells k"]) -> Float[Array, "cells k"]:
    r"""Apply the symmetric transition matrix, :math:`S y`."""
    return scale * _symmetric(matrix, scale * y)


def _positive(x: Array) -> Array:
    """Ones for zeros."""
    return jnp.where(x == 0, 1, x)


def _over_largest(x: Float[Array, " cells"]) -> Float[Array, " cells"]:
    """Divide by the maximum; as it is if that is zero."""
    maximum = largest(x)
    return x / jnp.where(maximum > 0, maximum, 1)
