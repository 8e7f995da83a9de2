"""Transition functions: pytrees of parameters that compute a transition matrix from graph and features."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxvelo.graph import Edges, NeighborGraph, Pattern, TransitionMatrix
from jaxvelo.graph._normalized_rows import normalize_or_fall_back, uniform
from jaxvelo.transitions._algebra import PositiveSums, Role, factors_of_product, terms_of_sum, with_weight
from jaxvelo.transitions._features import Features

Probabilities = tuple[Float[Array, "rows width"], ...]


class TransitionFunction(PositiveSums, eqx.Module):
    """A kernel: a pytree of parameters that computes a transition matrix.

    Transition functions are added (``0.8 * a + 0.2 * b``; weights are normalised to sum to one) and multiplied
    (``a * b``; element by element, rows normalised). The result is a transition function again. A weight may be an
    array with one value for each cell. ``a / 2`` is ``0.5 * a``, and ``sum`` adds a list of transition functions. There
    is no difference of them: weights are positive.

    Attributes
    ----------
    free
        Names of the leaves that a fit may move freely, each a number or ``None``; a name that starts with ``log_`` or
        ``logit_`` says what it is the logarithm or the logit of.

    Examples
    --------
    >>> kernel = 0.8 * jv.transitions.Velocity(softmax_scale=4.0) + 0.2 * jv.transitions.Connectivity()
    >>> T = kernel(graph, x, v)
    >>> T.shape, bool(jnp.allclose(T.row_sums(), 1))
    ((150, 150), True)
    """

    free: ClassVar[tuple[str, ...]] = ()

    # NumPy's arrays must leave `weights * transition_function` to this class.
    __array_ufunc__ = None

    _plural: ClassVar[str] = "transition functions"

    def __call__(
        self,
        graph: NeighborGraph,
        x: Float[Array, "cells genes"] | Mapping[str, Any] | None = None,
        v: Float[Array, "cells genes"] | None = None,
        *,
        key: Array | None = None,
    ) -> TransitionMatrix:
        """Compute the transition matrix; compiled once for each structure of the function and shapes of the graph.

        Parameters
        ----------
        graph
            Neighbour graph with the edges that the transition function names.
        x, v
            Gene expression and velocity of the cells; or, as ``x``, data by name: :class:`Features` for velocity terms,
            and whatever other terms read, such as a time for each cell. Not needed without a term that reads any.
        key
            Random key, for Monte Carlo models.

        Returns
        -------
        TransitionMatrix
            On the edges of the graph.

        Raises
        ------
        ValueError
            If ``x`` are arrays and there is no ``v``, or if a Monte Carlo model gets no key.
        """
        return TransitionMatrix(graph, evaluate(self, graph, _by_name(graph, x, v), key))

    @abc.abstractmethod
    def probabilities(
        self, pattern: Pattern, edges: Mapping[str, Edges], data: Mapping[str, Any], key: Array | None
    ) -> Probabilities:
        """Transition probabilities of all slots, bucket by bucket.

        Parameters
        ----------
        pattern
            Pattern of the graph.
        edges
            Values on its edges, by name.
        data
            Data by name.
        key
            Random key, or ``None``.

        Returns
        -------
        tuple of jax.Array
            One array of shape ``(rows, width)`` for each bucket, as the values of a
            :class:`~jaxvelo.graph.TransitionMatrix`.
        """

    def reads(self) -> frozenset[str] | None:
        """Names of the edges and data that are read: compiled programs depend on these alone. ``None`` for all."""
        return None

    def fix(self, graph: NeighborGraph, data: Mapping[str, Any], name: str) -> tuple[TransitionFunction, Edges] | None:
        """Compute what depends neither on softmax scales nor on weights.

        Parameters
        ----------
        graph, data
            What the transition function is evaluated on.
        name
            Of the edges that the result will stand on.

        Returns
        -------
        tuple or None
            What is left to compute, a transition function that reads the edges ``name``, and these edges; ``None`` if
            nothing can be fixed.
        """
        return None

    @property
    def parts(self) -> tuple[TransitionFunction, ...]:
        """The transition functions that this one combines, in the order of the leaves; none of a single term."""
        return ()

    @property
    def role(self) -> Role:
        """What the transition function is to the rules of adding and multiplying."""
        return Role.BASIC

    @property
    def terms(self) -> tuple[TransitionFunction, ...]:
        """The transition function as the only term of a sum."""
        return (self,)

    @property
    def unweighted(self) -> TransitionFunction:
        """The transition function without a weight in front."""
        return self

    def __add__(self, other: TransitionFunction) -> Sum:
        if not isinstance(other, TransitionFunction):
            return NotImplemented
        return _sum(terms_of_sum(self, other, lambda term: Scaled(jnp.asarray(1.0), term)))

    def __mul__(self, other: TransitionFunction | ArrayLike) -> TransitionFunction:
        if isinstance(other, TransitionFunction):
            return Product(factors_of_product(self, other))
        return _scale(self, other)

    def __rmul__(self, other: ArrayLike) -> TransitionFunction:
        return _scale(self, other)

    def __truediv__(self, other: ArrayLike) -> TransitionFunction:
        is_number = isinstance(other, int | float | np.number | np.ndarray | Array) and not isinstance(other, bool)
        if not is_number:
            return NotImplemented
        # A traced divisor has no value yet.
        if not isinstance(other, jax.core.Tracer) and not np.all(other):
            raise ValueError(
                "Expected a transition function to be divided by positive numbers, found 0: its weight would be "
                "infinite. Divide by a larger number, or multiply by the weight."
            )
        return _scale(self, 1 / jnp.asarray(other, dtype=float))


def _by_name(graph, x, v) -> Mapping[str, Any]:
    if x is None:
        return {}
    if isinstance(x, Mapping):
        return x
    if v is None:
        raise ValueError("Expected gene expression and velocity, found expression `x` only. Pass the velocity as `v`.")
    return {"velocity": Features.on_devices(x, v, graph.halo)}


def evaluate(
    transition_function: TransitionFunction, graph: NeighborGraph, data: Mapping[str, Any], key
) -> Probabilities:
    """Compute the probabilities, compiled: one program for similar graphs, whatever else they hold."""
    names = transition_function.reads()
    return _evaluate(transition_function, graph.pattern, _named(graph.edges, names), _named(data, names), key)


def _named(values: Mapping[str, Any], names: frozenset[str] | None) -> dict[str, Any]:
    return {name: value for name, value in values.items() if names is None or name in names}


@eqx.filter_jit
def _evaluate(transition_function, pattern, edges, data, key):
    return transition_function.probabilities(pattern, edges, data, key)


class Scaled(TransitionFunction):
    """A transition function with a weight, on its way into a :class:`Sum`; alone, its rows are those without it.

    Attributes
    ----------
    weight
        The weight, positive: a number, or one for each cell, shape ``(cells,)``.
    child
        The transition function.

    Examples
    --------
    >>> term = 0.8 * jv.transitions.Connectivity()
    >>> type(term).__name__, round(float(term.weight), 6), type(term + jv.transitions.Velocity()).__name__
    ('Scaled', 0.8, 'Sum')
    """

    weight: Float[Array, ""] | Float[Array, " cells"]
    child: TransitionFunction

    @property
    def parts(self) -> tuple[TransitionFunction, ...]:
        """The transition function without its weight."""
        return (self.child,)

    @property
    def role(self) -> Role:
        """A term with a weight."""
        return Role.WEIGHTED

    @property
    def unweighted(self) -> TransitionFunction:
        """The transition function without its weight."""
        return self.child

    def probabilities(self, pattern, edges, data, key):
        """Probabilities of the transition function: a common factor of all rows is normalised away."""
        return self.child.probabilities(pattern, edges, data, key)

    def reads(self):
        """Names that the transition function reads."""
        return self.child.reads()


class Product(TransitionFunction):
    r"""Element-wise product, :math:`T_{ij} \propto \prod_m T^{(m)}_{ij}`.

    Attributes
    ----------
    children
        The factors.
    normalized
        Whether rows are normalised. As in CellRank, a product that is added without a weight of its own to others that
        have one is not.

    Examples
    --------
    >>> matrices = {"a": sp.csr_matrix([[0.25, 0.75]] * 2), "b": sp.csr_matrix([[0.5, 0.5]] * 2)}
    >>> pair = jv.graph.NeighborGraph.from_csr(matrices)
    >>> product = jv.transitions.Precomputed("a") * jv.transitions.Precomputed("b")
    >>> len(product.children), product(pair).rows(0).tolist()
    (2, [[0.25, 0.75]])
    """

    children: tuple[TransitionFunction, ...]
    normalized: bool = eqx.field(static=True, default=True)

    @property
    def parts(self) -> tuple[TransitionFunction, ...]:
        """The factors."""
        return self.children

    @property
    def role(self) -> Role:
        """A product."""
        return Role.PRODUCT

    def probabilities(self, pattern, edges, data, key):
        """Product of the factors; rows without a common edge become uniform over the graph's edges."""
        keys = _split(key, len(self.children))
        factors = [c.probabilities(pattern, edges, data, k) for c, k in zip(self.children, keys, strict=True)]
        product = factors[0]
        for factor in factors[1:]:
            product = tuple(a * b for a, b in zip(product, factor, strict=True))
        return normalized(pattern, product) if self.normalized else product

    def reads(self):
        """Names that the factors read."""
        return _read_by(self.children)


class Sum(TransitionFunction):
    r"""Weighted mean, :math:`T = \sum_m w_m T^{(m)} / \sum_m w_m`, rows normalised.

    Attributes
    ----------
    weights
        One positive weight for each child, shape ``(terms,)``, or for each child and cell, ``(terms, cells)``; those of
        children that are products without a weight are ignored, see :class:`Product`.
    children
        The terms.
    joinable
        Whether a further weighted term joins this sum, and is not added to it as a whole. As in CellRank, that takes a
        weight for each term: ``a * b + a * c`` has none, and counts as one term in whatever it is added to.

    Examples
    --------
    >>> mixture = 3 * jv.transitions.Velocity() + jv.transitions.Connectivity()
    >>> mixture.normalized_weights().tolist()
    [0.75, 0.25]
    """

    weights: Float[Array, " terms"] | Float[Array, "terms cells"]
    children: tuple[TransitionFunction, ...]
    joinable: bool = eqx.field(static=True, default=True)

    @property
    def parts(self) -> tuple[TransitionFunction, ...]:
        """The terms."""
        return self.children

    @property
    def role(self) -> Role:
        """A sum; one of weighted terms, if all have a weight."""
        is_open = self.joinable and not any(map(_is_bare, self.children))
        return Role.SUM_OF_WEIGHTED if is_open else Role.SUM

    @property
    def terms(self) -> tuple[TransitionFunction, ...]:
        """The terms with their weights."""
        return tuple(Scaled(w, c) for w, c in zip(self.weights, self.children, strict=True))

    def probabilities(self, pattern, edges, data, key):
        """Weighted mean of the terms."""
        normalized_weights = self.normalized_weights()
        keys = _split(key, len(self.children))
        terms = [c.probabilities(pattern, edges, data, k) for c, k in zip(self.children, keys, strict=True)]
        mixed = tuple(
            sum(w.astype(b.dtype) * b for w, b in zip(_weights_of_rows(normalized_weights, rows), bucket, strict=True))
            for rows, bucket in zip(pattern.rows, zip(*terms, strict=True), strict=True)
        )
        # The rows of all other terms sum to one, and so do those of their weighted mean.
        return normalized(pattern, mixed) if any(map(_is_bare, self.children)) else mixed

    def reads(self):
        """Names that the terms read."""
        return _read_by(self.children)

    def normalized_weights(self) -> Array:
        """Weights that sum to one, for each cell where they differ among cells; one for a product without a weight."""
        weighted = [not _is_bare(child) for child in self.children]
        total = sum((w for w, counts in zip(self.weights, weighted, strict=True) if counts), 0 * self.weights[0])
        total = jnp.where(total > 0, total, 1)
        shares = [w / total if counts else 0 * w + 1 for w, counts in zip(self.weights, weighted, strict=True)]
        return jnp.stack(shares)


def _read_by(children: tuple[TransitionFunction, ...]) -> frozenset[str] | None:
    names = [child.reads() for child in children]
    known = [some for some in names if some is not None]
    return frozenset().union(*known) if len(known) == len(names) else None


def _weights_of_rows(weights: Array, rows: Array) -> list[Array]:
    return list(weights) if weights.ndim == 1 else [w[rows][:, None] for w in weights]


def normalized(pattern: Pattern, values: Probabilities, mask=None) -> Probabilities:
    """Normalise rows; rows of zeros become uniform over ``mask`` (all edges of the graph if ``None``)."""
    mask = pattern.mask if mask is None else mask
    return tuple(
        normalize_or_fall_back(t, uniform(r, c, m, t.dtype))
        for t, r, c, m in zip(values, pattern.rows, pattern.columns, mask, strict=True)
    )


def map_terms(
    function: Callable[[TransitionFunction], TransitionFunction], transition_function: TransitionFunction
) -> TransitionFunction:
    """Replace each term, all that has no parts, by what a function makes of it."""
    return jax.tree.map(lambda node: function(node) if _is_term(node) else node, transition_function, is_leaf=_is_term)


def _is_term(node: Any) -> bool:
    return isinstance(node, TransitionFunction) and not node.parts


def _is_bare(child: TransitionFunction) -> bool:
    return isinstance(child, Product) and not child.normalized


def _split(key: Array | None, n: int) -> list[Array | None]:
    return [None] * n if key is None else list(jax.random.split(key, n))


def _scale(transition_function: TransitionFunction, weight) -> TransitionFunction:
    weight, child = with_weight(transition_function, weight)
    return Scaled(jnp.asarray(weight, dtype=float), child)


def _sum(terms: tuple[TransitionFunction, ...]) -> Sum:
    any_weight = any(isinstance(t, Scaled) for t in terms)
    weights, children = [], []
    for term in terms:
        if isinstance(term, Scaled):
            weights.append(term.weight)
            children.append(term.child)
        else:
            assert isinstance(term, Product)
            weights.append(jnp.asarray(1.0))
            children.append(Product(term.children, normalized=not any_weight))
    n_cells = {w.shape for w in weights if w.ndim}
    if n_cells:
        weights = [jnp.broadcast_to(w, *n_cells) if w.ndim == 0 else w for w in weights]
    return Sum(jnp.stack(weights), tuple(children), joinable=all(isinstance(t, Scaled) for t in terms))
