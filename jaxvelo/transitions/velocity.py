r"""Transition probabilities from RNA velocity.

What differs from CellRank 2.0, on purpose, as for kernels on AnnData (this is the only list of it):

1. CellRank's ``monte_carlo`` passes the variance of the velocity where a standard deviation belongs. Here samples have
   the variance of the velocities.
2. There, ``seed`` does not make this model repeatable. Here the same key, or seed, gives the same result.
3. There, ``backward_mode="negate"`` with the automatic scale returns the forward matrix: velocities are negated in
   place on a view, once for the scale and once more for the matrix. Here they are negated once.
4. There, softmax scale, weights and random state live in caches. Here they are leaves of the transition function.
5. There, the stochastic and Monte Carlo models fall back to the deterministic one for all backward processes. Here they
   do so for ``"transpose"`` only, with a warning by the kernel, and work for ``"negate"``.
6. A cell without neighbours, a cell all of whose neighbours are its duplicates, or one whose neighbours' velocities are
   all zero under ``"transpose"`` makes CellRank fail. Here the first stays where it is, and the others move to each
   neighbour with equal probability.
7. A similarity is a function ``(v, displacements) -> logits``, and its second derivatives are taken automatically;
   CellRank's also takes the scale and returns probabilities.

Everything else equals CellRank: in float64 to 1e-10, in float32 to 1e-6 (for the dot product, to 1e-6 of the largest
scaled logit).
"""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxvelo.graph import Edges, NeighborGraph, Pattern, neighborhood_moments
from jaxvelo.graph._precision import full_precision
from jaxvelo.transitions._features import Features
from jaxvelo.transitions._fixed_logits import FixedLogits
from jaxvelo.transitions._monte_carlo import monte_carlo_probabilities
from jaxvelo.transitions._similarity import SIMILARITIES, Similarity, similarity_logits
from jaxvelo.transitions._softmax import softmax_of_rows
from jaxvelo.transitions._softmax_scale import automatic_softmax_scale
from jaxvelo.transitions._stochastic import stochastic_probabilities
from jaxvelo.transitions._transition_function import Probabilities, TransitionFunction

MODELS = ("deterministic", "stochastic", "monte_carlo")
"""Names of the models of :class:`Velocity`."""
BACKWARD_MODES = ("transpose", "negate")
"""Names of the backward modes of :class:`Velocity`."""


class Velocity(TransitionFunction):
    r"""Softmax of the similarity of velocity and displacement.

    .. math:: T_{ij} = \frac{\exp(\sigma \ell_{ij})}{\sum_k \exp(\sigma \ell_{ik})}

    with :math:`\ell_{ij}` the correlation, cosine or dot product of the velocity :math:`v_i` and the displacement
    :math:`x_j - x_i`, for the neighbours :math:`j` of :math:`i` (Bergen et al. 2020, eq. 9; Li et al. 2020, eqs. 4.7
    to 4.9; Lange et al. 2022).

    Parameters
    ----------
    softmax_scale
        :math:`\sigma`, one for all cells or one for each, shape ``(cells,)``; derived from the deterministic logits if
        ``None``.
    gene_weights
        Non-negative weight of each gene in the similarity, shape ``(genes,)``; ones if ``None``.
    model
        ``"deterministic"``: the velocities as they are. ``"stochastic"``: their means over neighbours, and their
        variances to second order. ``"monte_carlo"``: the same by sampling.
    similarity
        ``"correlation"``, ``"cosine"``, ``"dot_product"`` or a JAX function ``(v, displacements) -> logits`` with
        shapes ``(genes,), (neighbors, genes) -> (neighbors,)``.
    backward_mode
        ``None``: forward. ``"transpose"``: the neighbours' velocities against the displacement from them; always
        deterministic. ``"negate"``: velocities change sign.
    n_samples
        Number of samples of the Monte Carlo model.
    features
        Name of the features to use; the attribute is :attr:`features_name`.
    edges
        Name of the graph's edges to use; the attribute is :attr:`edges_name`.

    Attributes
    ----------
    log_scale
        :math:`\log \sigma`, a leaf.
    gene_weights
        The gene weights, a leaf.

    Raises
    ------
    ValueError
        If ``model``, ``similarity`` or ``backward_mode`` is a name that is not known.

    Examples
    --------
    >>> line = jv.graph.NeighborGraph.from_csr(sp.csr_matrix([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]))
    >>> x, v = jnp.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]]), jnp.array([[1.0, -1.0]] * 3)
    >>> jv.transitions.Velocity(softmax_scale=1.0)(line, x, v).rows(1).round(2).tolist()
    [[0.12, 0.0, 0.88]]
    """

    log_scale: Float[Array, ""] | Float[Array, " cells"] | None
    gene_weights: Float[Array, " genes"] | None
    model: str = eqx.field(static=True)
    similarity: Similarity = eqx.field(static=True)
    backward_mode: str | None = eqx.field(static=True)
    n_samples: int = eqx.field(static=True)
    features_name: str = eqx.field(static=True)
    edges_name: str = eqx.field(static=True)

    def __init__(
        self,
        softmax_scale: ArrayLike | None = None,
        gene_weights: ArrayLike | None = None,
        *,
        model: str = "deterministic",
        similarity: Similarity = "correlation",
        backward_mode: str | None = None,
        n_samples: int = 1000,
        features: str = "velocity",
        edges: str = "connectivities",
    ):
        if model not in MODELS:
            raise ValueError(f"Expected `model` to be one of {MODELS}, found `{model!r}`.")
        if isinstance(similarity, str) and similarity not in SIMILARITIES:
            raise ValueError(
                f"Expected `similarity` to be one of {tuple(SIMILARITIES)} or a function "
                f"`(v, displacements) -> logits`, found `{similarity!r}`."
            )
        if backward_mode not in (None, *BACKWARD_MODES):
            raise ValueError(
                f"Expected `backward_mode` to be one of {BACKWARD_MODES} or None, found `{backward_mode!r}`."
            )
        self.log_scale = None if softmax_scale is None else jnp.log(jnp.asarray(softmax_scale, dtype=float))
        self.gene_weights = None if gene_weights is None else jnp.asarray(gene_weights, dtype=float)
        self.model = "deterministic" if backward_mode == "transpose" else model
        self.similarity = similarity
        self.backward_mode = backward_mode
        self.n_samples = n_samples
        self.features_name = features
        self.edges_name = edges

    @property
    def softmax_scale(self) -> Array | None:
        r""":math:`\sigma`, or ``None`` if it is derived from the logits."""
        return None if self.log_scale is None else jnp.exp(self.log_scale)

    def probabilities(self, pattern, edges, data, key):
        """Transition probabilities; see :meth:`details` for the logits and the scale as well."""
        return self.details(pattern, edges[self.edges_name], data[self.features_name], key)[0]

    def reads(self):
        """The edges and the features."""
        return frozenset((self.edges_name, self.features_name))

    def fix(self, graph, data, name):
        """The logits of the deterministic model; in the others, the scale enters all that takes long."""
        if self.model != "deterministic":
            return None
        logits, support, scale = evaluate_logits(self, graph, data[self.features_name])
        return FixedLogits(jnp.log(scale), name), Edges(logits, support)

    @full_precision
    def details(
        self,
        pattern: Pattern,
        edges: Edges,
        features: Features,
        key: Array | None = None,
        scale: Array | None = None,
    ) -> tuple[Probabilities, Probabilities, Array]:
        """Probabilities, logits and softmax scale.

        Parameters
        ----------
        pattern
            Pattern of the graph.
        edges
            Connectivities: where there are edges, and whose neighbours the moments of velocities are of.
        features
            Gene expression and velocity.
        key
            Random key, for the Monte Carlo model.
        scale
            Another softmax scale than that of the transition function.

        Returns
        -------
        probabilities, logits : tuple of jax.Array
            One array of shape ``(rows, width)`` for each bucket.
        scale : jax.Array
            The softmax scale.

        Raises
        ------
        ValueError
            If the Monte Carlo model gets no key.
        """
        scale = self.softmax_scale if scale is None else scale
        if self.model == "deterministic" or scale is None:
            logits, support, scale = self.logits(pattern, edges.mask, features)
        scale = scale.astype(features.x.dtype)
        features = self._directed(features)
        if self.model == "deterministic":
            return softmax_of_rows(logits, support, scale, pattern.rows), logits, scale
        moments = neighborhood_moments(pattern, edges.values, features.v, features.halo)
        arguments = self.similarity, features, self.gene_weights, scale, pattern, edges.mask, *moments
        if self.model == "stochastic":
            return *stochastic_probabilities(*arguments), scale
        if key is None:
            raise ValueError("The Monte Carlo model needs a random key: pass `key=jax.random.key(0)`.")
        noise = jax.random.normal(key, (self.n_samples, features.v.shape[1]), features.v.dtype)
        return *monte_carlo_probabilities(*arguments, noise), scale

    @full_precision
    def logits(
        self, pattern: Pattern, mask: tuple[Bool[Array, "rows width"], ...], features: Features
    ) -> tuple[Probabilities, tuple[Array, ...], Array]:
        """Deterministic logits, where a step may go, and the softmax scale.

        A step may go where a logit is defined; from a cell without any, to all its neighbours (``mask``), as if of
        equal logits; from a cell without neighbours, to itself.

        Parameters
        ----------
        pattern
            Pattern of the graph.
        mask
            Which slots are edges.
        features
            Gene expression and velocity.

        Returns
        -------
        logits, support : tuple of jax.Array
            One array of shape ``(rows, width)`` for each bucket.
        scale : jax.Array
            The softmax scale, see :func:`~jaxvelo.transitions.automatic_softmax_scale`.
        """
        logits, defined = self.similarities(pattern, mask, features)
        return logits, *self.support_and_scale(pattern, mask, logits, defined)

    @full_precision
    def similarities(
        self, pattern: Pattern, mask: tuple[Bool[Array, "rows width"], ...], features: Features
    ) -> tuple[Probabilities, tuple[Array, ...]]:
        """Deterministic logits, and where they are defined: of each row by itself.

        Parameters
        ----------
        pattern, mask, features
            As of :meth:`logits`.

        Returns
        -------
        logits, defined : tuple of jax.Array
            One array of shape ``(rows, width)`` for each bucket.
        """
        transpose = self.backward_mode == "transpose"
        return similarity_logits(self.similarity, self._directed(features), self.gene_weights, pattern, mask, transpose)

    def support_and_scale(
        self,
        pattern: Pattern,
        mask: tuple[Bool[Array, "rows width"], ...],
        logits: Probabilities,
        defined: tuple[Bool[Array, "rows width"], ...],
    ) -> tuple[tuple[Array, ...], Array]:
        """Where a step may go, and the softmax scale, by the logits of all rows.

        Parameters
        ----------
        pattern, mask
            As of :meth:`logits`.
        logits, defined
            Result of :meth:`similarities`.

        Returns
        -------
        support : tuple of jax.Array
            One array of shape ``(rows, width)`` for each bucket.
        scale : jax.Array
            The softmax scale.
        """
        support = tuple(map(_support, pattern.rows, pattern.columns, mask, defined))
        scale = self.softmax_scale
        if scale is None:
            scale = automatic_softmax_scale(logits, mask, shared=pattern.mesh is not None)
        return support, scale

    def _directed(self, features: Features) -> Features:
        return dataclasses.replace(features, v=-features.v) if self.backward_mode == "negate" else features


def _support(
    row: Int[Array, " rows"],
    column: Int[Array, "rows width"],
    edge: Bool[Array, "rows width"],
    defined: Bool[Array, "rows width"],
) -> Bool[Array, "rows width"]:
    width = column.shape[1]
    slot = jnp.arange(width, dtype=jnp.int32)[None]
    # One reduction for three questions, as reductions are what takes long to compile: is anything defined (-2), is
    # there an edge (-1), and which is the first slot of the row's own cell?
    code = jnp.where(defined, -2, jnp.where(edge, -1, jnp.where(column == row[:, None], slot, width)))
    lowest = jnp.min(code, axis=1, keepdims=True)
    return jnp.where(lowest == -2, defined, jnp.where(lowest == -1, edge, slot == lowest))


def evaluate_velocity(
    velocity: Velocity, graph: NeighborGraph, features: Features, key: Array | None = None
) -> tuple[Probabilities, Probabilities, Array]:
    """Probabilities, logits and softmax scale of a :class:`~jaxvelo.transitions.Velocity`, compiled.

    The deterministic logits are a program of their own, which does not know the scale: kernels that differ in nothing
    else share it.

    Parameters
    ----------
    velocity
        The transition function.
    graph
        Neighbour graph with the edges that it names.
    features
        Gene expression and velocity.
    key
        Random key, for the Monte Carlo model.

    Returns
    -------
    probabilities, logits : tuple of jax.Array
        One array of shape ``(rows, width)`` for each bucket of the graph.
    scale : jax.Array
        The softmax scale, a scalar or of shape ``(cells,)``.

    Raises
    ------
    ValueError
        If the Monte Carlo model gets no key.

    References
    ----------
    Li et al. (2020), eqs. 4.7 to 4.9; Lange et al. (2022).

    Examples
    --------
    >>> features = jv.transitions.Features(x, v)
    >>> probabilities, logits, scale = jv.transitions.evaluate_velocity(jv.transitions.Velocity(4.0), graph, features)
    >>> round(float(scale), 4), probabilities[0].shape == logits[0].shape == graph.columns[0].shape
    (4.0, True)
    """
    if velocity.model != "deterministic":
        return velocity_details(velocity, graph.pattern, graph.edges[velocity.edges_name], features, key)
    logits, support, scale = evaluate_logits(velocity, graph, features)
    return softmax_with_scale(logits, support, scale, graph.rows), logits, scale


def evaluate_logits(
    velocity: Velocity, graph: NeighborGraph, features: Features
) -> tuple[Probabilities, tuple[Array, ...], Array]:
    """Deterministic logits, where a step may go, and the softmax scale, compiled.

    Parameters
    ----------
    velocity
        The transition function, see :class:`~jaxvelo.transitions.Velocity`; its model does not matter.
    graph
        Neighbour graph with the edges that it names.
    features
        Gene expression and velocity.

    Returns
    -------
    logits, support : tuple of jax.Array
        One array of shape ``(rows, width)`` for each bucket of the graph: the similarities, zero where there is no
        edge, and which slots a step may go to, see :meth:`Velocity.logits`.
    scale : jax.Array
        The transition function's softmax scale, or the automatic one if it has none: see
        :func:`~jaxvelo.transitions.automatic_softmax_scale`.

    References
    ----------
    Li et al. (2020), eqs. 4.7 to 4.9; Lange et al. (2022).

    Examples
    --------
    >>> features = jv.transitions.Features(x, v)
    >>> logits, support, scale = jv.transitions.evaluate_logits(jv.transitions.Velocity(), graph, features)
    >>> len(logits) == len(graph.rows), max(float(abs(bucket).max()) for bucket in logits) <= 1.001, scale.shape
    (True, True, ())
    """
    scale = velocity.softmax_scale
    logits, support, automatic = _evaluate_logits(
        without_scale(velocity), graph.pattern, graph.edges[velocity.edges_name].mask, features
    )
    return logits, support, automatic if scale is None else scale


def without_scale(velocity: Velocity) -> Velocity:
    """The same with the automatic scale: for programs that do not know the scale, and are shared."""
    return eqx.tree_at(lambda v: v.log_scale, velocity, None, is_leaf=lambda leaf: leaf is None)


@eqx.filter_jit
def velocity_details(
    velocity: Velocity,
    pattern: Pattern,
    edges: Edges,
    features: Features,
    key: Array | None,
    scale: Array | None = None,
) -> tuple[Probabilities, Probabilities, Array]:
    """Results of :meth:`Velocity.details`, compiled."""
    return velocity.details(pattern, edges, features, key, scale)


@eqx.filter_jit
def _evaluate_logits(velocity, pattern, mask, features):
    return velocity.logits(pattern, mask, features)


softmax_with_scale = jax.jit(softmax_of_rows)
