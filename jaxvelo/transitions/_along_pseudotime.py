"""Transition probabilities along a pseudotime: connectivities, less of them to earlier cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from jaxvelo.graph import Edges
from jaxvelo.graph._normalized_rows import uniform
from jaxvelo.transitions._fixed_logits import FixedProbabilities
from jaxvelo.transitions._softmax import softmax
from jaxvelo.transitions._transition_function import TransitionFunction, normalized

SCHEMES = ("hard", "soft")
"""Names of the schemes of :class:`Pseudotime`."""
MOST_KEPT = 30
"""So many of the closest neighbours are kept whatever their time, at most."""

Scheme = str | Callable[[Array, Array, Array], Array]


class Pseudotime(TransitionFunction):
    r"""Connectivities :math:`C_{ij}`, biased towards cells that are later in a pseudotime :math:`t`.

    ``"hard"`` (after Palantir, Setty et al. 2019): an edge to an earlier cell is left out, unless it is one of the
    :math:`\min(30, \lfloor f d_i \rfloor)` strongest of the :math:`d_i` edges of cell :math:`i`; of equally strong
    ones, those to cells of larger numbers, or as ``order`` says.

    ``"soft"`` (after VIA, Stassen et al. 2021): an edge to an earlier cell loses weight,

    .. math:: T_{ij} \propto C_{ij} \, 2 \, (1 + e^{b (t_i - t_j)})^{-1 / \nu}, \qquad t_j < t_i.

    A row without any weight is uniform over the cell's edges.

    Parameters
    ----------
    scheme
        ``"hard"``, ``"soft"`` or a JAX function ``(time, neighbor_times, connectivities) -> weights`` of one cell, with
        shapes ``(), (neighbors,), (neighbors,) -> (neighbors,)``. It also gets padding, with the cell's own time and
        the connectivity zero; what it returns there is not used.
    frac_to_keep
        :math:`f`, from 0 to 1. No leaf: what is kept does not change smoothly with it.
    b, nu
        :math:`b` and :math:`\nu`, positive.
    backward
        Whether cells go towards earlier times.
    time
        Name of the times in the data, see :func:`in_parts`; the attribute is :attr:`time_name`.
    edges
        Name of the graph's edges to use; the attribute is :attr:`edges_name`.
    order
        Name of edges with the places of :func:`strength_order`; the attribute is :attr:`order_name`.

    Attributes
    ----------
    log_b, log_nu
        Their logarithms, leaves; ``None`` unless the scheme is ``"soft"``.

    Raises
    ------
    ValueError
        If ``scheme`` is a name that is not known.

    Examples
    --------
    >>> line = jv.graph.NeighborGraph.from_csr(sp.csr_matrix([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]))
    >>> data = {"time": jnp.array([0.0, 0.1, 0.2])}
    >>> jv.transitions.Pseudotime("hard")(line, data).rows(1).tolist()
    [[0.0, 0.0, 1.0]]
    >>> jv.transitions.Pseudotime("soft")(line, data).rows(1).round(2).tolist()
    [[0.13, 0.0, 0.87]]
    """

    free: ClassVar[tuple[str, ...]] = ("log_b", "log_nu")

    log_b: Float[Array, ""] | None
    log_nu: Float[Array, ""] | None
    scheme: Scheme = eqx.field(static=True)
    frac_to_keep: float = eqx.field(static=True)
    backward: bool = eqx.field(static=True)
    time_name: str = eqx.field(static=True)
    edges_name: str = eqx.field(static=True)
    order_name: str | None = eqx.field(static=True)

    def __init__(
        self,
        scheme: Scheme = "hard",
        frac_to_keep: float = 0.3,
        b: ArrayLike = 10.0,
        nu: ArrayLike = 0.5,
        *,
        backward: bool = False,
        time: str = "time",
        edges: str = "connectivities",
        order: str | None = None,
    ):
        if isinstance(scheme, str) and scheme not in SCHEMES:
            raise ValueError(
                f"Expected `scheme` to be one of {SCHEMES} or a function "
                f"`(time, neighbor_times, connectivities) -> weights`, found `{scheme!r}`."
            )
        is_soft = isinstance(scheme, str) and scheme == "soft"
        self.log_b = jnp.log(jnp.asarray(b, dtype=float)) if is_soft else None
        self.log_nu = jnp.log(jnp.asarray(nu, dtype=float)) if is_soft else None
        self.scheme = scheme
        self.frac_to_keep = float(frac_to_keep)
        self.backward = backward
        self.time_name = time
        self.edges_name = edges
        self.order_name = order

    def probabilities(self, pattern, edges, data, key):
        """Biased connectivities, rows normalised."""
        own: Edges = edges[self.edges_name]
        time = data[self.time_name]
        parts = time[:, None] if time.ndim == 1 else time
        if self.backward:
            parts = -parts
        buckets = pattern.rows, pattern.columns, own.values, own.mask
        if callable(self.scheme):
            whole = jnp.sum(parts, axis=1)
            whole = whole - jnp.min(whole) if self.backward else whole
            of_function = jax.vmap(self.scheme)
            biased = [
                jnp.where(mask, of_function(whole[rows].astype(w.dtype), whole[columns].astype(w.dtype), w), 0)
                for rows, columns, w, mask in zip(*buckets, strict=True)
            ]
            return normalized(pattern, tuple(biased), own.mask)
        places: Any = [None] * len(pattern.rows) if self.order_name is None else edges[self.order_name].values
        biased = []
        for rows, columns, weights, mask, place in zip(*buckets, places, strict=True):
            later = jnp.sum((parts[columns] - parts[rows][:, None]).astype(weights.dtype), axis=-1)
            if self.scheme == "hard":
                biased.append(jnp.where((later >= 0) | self._closest(weights, mask, place), weights, 0))
            else:
                fallback = uniform(rows, columns, mask, weights.dtype)
                biased.append(self._softly(later, weights, mask & (weights > 0), fallback))
        return normalized(pattern, tuple(biased), own.mask) if self.scheme == "hard" else tuple(biased)

    def reads(self):
        """The edges and the times."""
        names = (self.edges_name, self.time_name)
        return frozenset(names if self.order_name is None else (*names, self.order_name))

    def fix(self, graph, data, name):
        """All of it, unless there are numbers that may be fitted."""
        if self.log_b is not None:
            return None
        return FixedProbabilities(name), Edges(self(graph, data).values, graph.edges[self.edges_name].mask)

    def _closest(
        self,
        weights: Float[Array, "rows width"],
        mask: Bool[Array, "rows width"],
        place: Float[Array, "rows width"] | None,
    ) -> Bool[Array, "rows width"]:
        """Which neighbours are kept whatever their time."""
        width = weights.shape[1]
        # Counted in double precision for each number of neighbours: a product just below a whole number counts less.
        counts = np.minimum(np.floor(np.arange(width + 1) * self.frac_to_keep), MOST_KEPT).astype(np.int32)
        n_kept = jnp.asarray(counts)[jnp.sum(mask, axis=1)][:, None]
        if place is not None:
            return place <= n_kept.astype(place.dtype)
        weights = jnp.where(mask, weights, -jnp.inf)
        least = jnp.take_along_axis(jnp.sort(weights, axis=1), jnp.minimum(width - n_kept, width - 1), axis=1)
        stronger, equal = weights > least, weights == least
        n_left = n_kept - jnp.sum(stronger, axis=1, keepdims=True, dtype=jnp.int32)
        place = jnp.cumsum(equal[:, ::-1], axis=1, dtype=jnp.int32)[:, ::-1]
        return (stronger | (equal & (place <= n_left))) & (n_kept > 0)

    def _softly(
        self,
        later: Float[Array, "rows width"],
        weights: Float[Array, "rows width"],
        support: Bool[Array, "rows width"],
        fallback: Float[Array, "rows width"],
    ) -> Float[Array, "rows width"]:
        # In logarithms: with a small nu, weights of earlier cells are too small for single precision, though a row may
        # have no others.
        assert self.log_b is not None
        assert self.log_nu is not None
        b, nu = (jnp.exp(log).astype(weights.dtype) for log in (self.log_b, self.log_nu))
        earlier = later < 0
        z = jnp.where(earlier, -b * later, 0)
        # The logarithm of (1 + exp(z)) / 2, of which small ones keep their digits.
        growth = z + jnp.log1p(jnp.expm1(-z) / 2)
        # What all earlier cells lose would only cost digits in a row without others.
        has_others = jnp.any(support & ~earlier, axis=1, keepdims=True)
        loss = jnp.where(has_others, (1 / nu - 1) * jnp.log(jnp.asarray(2, weights.dtype)), 0)
        logits = jnp.log(jnp.where(support, weights, 1)) - jnp.where(earlier, loss + growth / nu, 0)
        return softmax(logits, support, jnp.ones((), weights.dtype), fallback)


def in_parts(time: Any) -> Float[Array, "cells 2"]:
    r"""Times as sums of two numbers in JAX's default precision, whose differences keep the digits of double precision.

    .. math:: t_i = a_i + b_i, \qquad t_j - t_i \approx (a_j - a_i) + (b_j - b_i),

    with :math:`a_i` the time in that precision, and :math:`b_i` what rounding took from it (Dekker 1971). Which of two
    cells is later decides about an edge: times that differ in double precision must do so in single precision too.

    Parameters
    ----------
    time
        Time of each cell, float64, on the host, in any unit.

    Returns
    -------
    jax.Array
        :math:`a` and :math:`b`, shape ``(cells, 2)``.

    Examples
    --------
    >>> parts = jv.transitions.in_parts([1.0, 1.0 + 1e-12])
    >>> parts.shape, bool(jnp.sum(parts[1] - parts[0]) > 0)
    ((2, 2), True)
    """
    dtype = jnp.result_type(float)
    time = np.asarray(time, dtype=np.float64)
    first = time.astype(dtype)
    return jnp.asarray(np.stack([first, (time - first).astype(dtype)], axis=1))


def strength_order(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Place of each stored weight among those of its row, the largest first, from 1.

    The ``order`` of :class:`~jaxvelo.transitions.Pseudotime`. Weights of nearest neighbours are often equal, namely
    one. Which of them come first is up to NumPy's sort, as in CellRank, and may differ among machines.

    Parameters
    ----------
    matrix
        Weights, shape ``(cells, cells)``.

    Returns
    -------
    scipy.sparse.csr_matrix
        Places, with the same stored entries.

    References
    ----------
    CellRank's hard threshold scheme, after Palantir (Setty et al. 2019).

    Examples
    --------
    >>> weights = sp.csr_matrix([[0.0, 2.0, 5.0], [1.0, 0.0, 0.5], [0.0, 3.0, 0.0]])
    >>> jv.transitions.strength_order(weights).toarray().tolist()
    [[0.0, 2.0, 1.0], [1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]
    """
    degree = np.diff(matrix.indptr)
    places = np.empty(matrix.nnz)
    for d in np.unique(degree[degree > 0]):
        entries = matrix.indptr[:-1][degree == d][:, None] + np.arange(d)[None]
        order = np.argsort(matrix.data[entries], axis=1)
        np.put_along_axis(ranks := np.empty(order.shape), order, np.arange(d, 0, -1.0)[None], axis=1)
        places[entries] = ranks
    return sp.csr_matrix((places, matrix.indices, matrix.indptr), shape=matrix.shape)
