"""How well a transition matrix agrees with transitions that are known."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxvelo.graph import AbstractEdgeMatrix, EdgeMatrix, NeighborGraph, map_rows
from jaxvelo.graph._precision import full_precision


def cross_boundary_correctness(
    transitions: AbstractEdgeMatrix,
    features: Float[Array | np.ndarray, "cells features"],
    source: Bool[Array | np.ndarray, " cells"],
    target: Bool[Array | np.ndarray, " cells"],
    neighbors: NeighborGraph,
    edges: str = "distances",
) -> tuple[Float[Array, " cells"], Bool[Array, " cells"]]:
    r"""Whether cells at the boundary of one cluster are about to step towards another.

    The boundary are the cells of the source with a neighbour in the target. For these, the score is the Pearson
    correlation, over features, of the expected step and the displacement to the neighbours in the target,

    .. math::
        \operatorname{cor}\Big( \sum_j T_{ij} (x_j - x_i), \sum_{j \in \text{target}} w_{ij} (x_j - x_i) \Big)

    (Qiao & Huang 2021, there with cosines and the mean over neighbours; this form and its weights are CellRank's).

    Parameters
    ----------
    transitions
        The transition matrix.
    features
        Coordinates :math:`x`, shape ``(cells, features)``, for example principal components. Displacements to the
        neighbours are taken in their precision.
    source, target
        Masks of the cells of the two clusters, shape ``(cells,)``.
    neighbors
        Graph with the weights :math:`w`. An edge of weight zero makes no neighbour.
    edges
        Which of this graph's edges to use.

    Returns
    -------
    scores : jax.Array
        Between -1 and 1, shape ``(cells,)``. NaN off the boundary, and where a displacement is the same in all
        features, so that there is no correlation; the gradient is zero there.
    boundary : jax.Array
        Which cells form the boundary, shape ``(cells,)``.

    Examples
    --------
    >>> labels = (time > jnp.median(time)).astype(int)  # early and late cells
    >>> scores, boundary = jv.markov.cross_boundary_correctness(T, x, labels == 0, labels == 1, graph, "connectivities")
    >>> scores.shape, bool(jnp.nanmean(scores) > 0), bool(jnp.isnan(scores[~boundary]).all())
    ((150,), True, True)
    """
    return _cross_boundary_correctness(
        transitions.bare, jnp.asarray(features), jnp.asarray(source), jnp.asarray(target), _weights(neighbors, edges)
    )


@jax.jit
def _cross_boundary_correctness(transitions, features, source, target, weights):
    observed, boundary = _boundary_directions(features, source, target, weights)
    expected = expected_displacement(transitions, features)
    score, defined = row_correlation(expected, observed.astype(expected.dtype))
    return jnp.where(boundary & defined, score, jnp.nan), boundary


def boundary_directions(
    features: Float[Array, "cells features"],
    source: Bool[Array, " cells"],
    target: Bool[Array, " cells"],
    neighbors: NeighborGraph,
    edges: str = "distances",
) -> tuple[Float[Array, "cells features"], Bool[Array, " cells"]]:
    r"""Direction from each cell towards a cluster, and which cells of another are at the boundary to it.

    .. math:: d_i = \sum_{j \in \text{target}} w_{ij} (x_j - x_i)

    Parameters
    ----------
    features, source, target, neighbors, edges
        As of :func:`cross_boundary_correctness`.

    Returns
    -------
    directions : jax.Array
        :math:`d`, shape ``(cells, features)``, in the units of weights and features; zero for a cell without neighbours
        in the target.
    boundary : jax.Array
        Which cells of the source have such neighbours, shape ``(cells,)``.

    Examples
    --------
    >>> line = sp.csr_matrix([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    >>> graph = jv.graph.NeighborGraph.from_csr({"distances": line})
    >>> source, target = jnp.array([True, True, False]), jnp.array([False, False, True])
    >>> towards, boundary = jv.markov.boundary_directions(jnp.array([[0.0], [1.0], [3.0]]), source, target, graph)
    >>> towards[1].tolist(), boundary.tolist()
    ([2.0], [False, True, False])
    """
    return _boundary_directions(features, source, target, _weights(neighbors, edges))


def _weights(neighbors: NeighborGraph, edges: str) -> EdgeMatrix:
    return EdgeMatrix(neighbors.bare, neighbors.edges[edges].values)


@jax.jit
def _boundary_directions(features, source, target, weights):
    graph = weights.graph
    towards = tuple(
        jnp.where(target[column], weight, 0) for column, weight in zip(graph.columns, weights.values, strict=True)
    )
    boundary = source & graph.gather_rows(tuple(jnp.any(weight != 0, axis=1) for weight in towards))
    return _sum_displacements(graph, towards, features), boundary


def expected_displacement(
    transitions: AbstractEdgeMatrix, features: Float[Array, "cells features"]
) -> Float[Array, "cells features"]:
    r"""Expected step of each cell, :math:`\sum_j T_{ij} (x_j - x_i)`, from explicit differences.

    Parameters
    ----------
    transitions
        The transition matrix.
    features
        Coordinates :math:`x`, shape ``(cells, features)``; taken in the precision of the probabilities.

    Returns
    -------
    jax.Array
        Shape ``(cells, features)``, in the units of the features.

    Examples
    --------
    >>> chain = jv.graph.NeighborGraph.from_csr(sp.csr_matrix([[0.0, 1.0, 0.0], [0.25, 0.0, 0.75], [0.0, 0.0, 1.0]]))
    >>> transitions = jv.graph.TransitionMatrix(chain, chain.edges["connectivities"].values)
    >>> jv.markov.expected_displacement(transitions, jnp.array([[0.0], [1.0], [3.0]])).tolist()
    [[1.0], [1.25], [0.0]]
    """
    return _sum_displacements(transitions.graph.bare, transitions.values, features.astype(transitions.values[0].dtype))


@jax.jit
@full_precision
def _sum_displacements(graph: NeighborGraph, weights, features: Array) -> Float[Array, "cells features"]:
    r"""Weighted sum of displacements, :math:`\sum_j w_{ij} (x_j - x_i)`."""

    def total(own, others, weight):
        return jnp.einsum("k,kf->f", weight, (others - own[None]).astype(weight.dtype))

    return graph.gather_rows(map_rows(total, graph.pattern, features, weights))


def row_correlation(
    x: Float[Array, "cells features"], y: Float[Array, "cells features"]
) -> tuple[Float[Array, " cells"], Bool[Array, " cells"]]:
    r"""Pearson correlation of rows, and where it is defined.

    .. math:: r_i = \frac{(x_i - \bar x_i) \cdot (y_i - \bar y_i)}{|x_i - \bar x_i| \, |y_i - \bar y_i|}

    Parameters
    ----------
    x, y
        Shape ``(cells, features)``.

    Returns
    -------
    correlations : jax.Array
        Shape ``(cells,)``; zero, with gradient zero, where one of the rows does not vary.
    defined : jax.Array
        Where both do, shape ``(cells,)``.

    Examples
    --------
    >>> a, b = jnp.array([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]]), jnp.array([[2.0, 4.0, 6.0], [1.0, 2.0, 3.0]])
    >>> correlation, defined = jv.markov.row_correlation(a, b)
    >>> correlation.round(6).tolist(), defined.tolist()
    ([1.0, 0.0], [True, False])
    """
    x, y = (z - jnp.mean(z, axis=1, keepdims=True) for z in (x, y))
    x_squared, y_squared = jnp.sum(x**2, axis=1), jnp.sum(y**2, axis=1)
    defined = (x_squared > 0) & (y_squared > 0)
    norms = jnp.sqrt(jnp.where(defined, x_squared, 1)) * jnp.sqrt(jnp.where(defined, y_squared, 1))
    return jnp.where(defined, jnp.sum(x * y, axis=1) / norms, 0), defined
