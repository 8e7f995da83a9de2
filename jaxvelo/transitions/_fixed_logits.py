"""Transition functions whose logits are known: what is left to compute when only scale and weights change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvelo.graph import Edges, NeighborGraph
from jaxvelo.transitions._softmax import softmax_of_rows
from jaxvelo.transitions._transition_function import TransitionFunction, map_terms


class FixedLogits(TransitionFunction):
    r"""Softmax of logits that stand on the graph's edges already.

    .. math:: T_{ij} = \exp(\sigma \ell_{ij}) / \sum_k \exp(\sigma \ell_{ik})

    Attributes
    ----------
    log_scale
        :math:`\log \sigma`, one for all cells or one for each, shape ``(cells,)``.
    edges_name
        Name of the graph's edges that hold the logits, in at least one slot of each row.

    Examples
    --------
    >>> pair = jv.graph.NeighborGraph.from_csr({"logits": sp.csr_matrix([[1.0, 2.0], [1.0, 1.0]])})
    >>> T = jv.transitions.FixedLogits(jnp.log(2.0), "logits")(pair)
    >>> T.to_csr().toarray().round(2).tolist()
    [[0.12, 0.88], [0.5, 0.5]]
    """

    log_scale: Float[Array, ""] | Float[Array, " cells"]
    edges_name: str = eqx.field(static=True)

    def probabilities(self, pattern, edges, data, key):
        """Softmax of the stored logits."""
        stored: Edges = edges[self.edges_name]
        return softmax_of_rows(stored.values, stored.mask, jnp.exp(self.log_scale), pattern.rows)

    def reads(self):
        """The logits."""
        return frozenset((self.edges_name,))


class FixedProbabilities(TransitionFunction):
    """Transition probabilities that stand on the graph's edges already, rows normalised.

    Attributes
    ----------
    edges_name
        Name of the graph's edges that hold the probabilities.

    Examples
    --------
    >>> pair = jv.graph.NeighborGraph.from_csr({"known": sp.csr_matrix([[0.25, 0.75], [1.0, 0.0]])})
    >>> jv.transitions.FixedProbabilities("known")(pair).to_csr().toarray().tolist()
    [[0.25, 0.75], [1.0, 0.0]]
    """

    edges_name: str = eqx.field(static=True)

    def probabilities(self, pattern, edges, data, key):
        """The stored values."""
        return edges[self.edges_name].values

    def reads(self):
        """The probabilities."""
        return frozenset((self.edges_name,))


def fix_logits(
    transition_function: TransitionFunction, graph: NeighborGraph, data: Mapping[str, Any], prefix: str = ""
) -> tuple[TransitionFunction, NeighborGraph]:
    r"""Compute once what depends neither on softmax scales nor on weights, and put it on the graph's edges.

    Of a deterministic velocity term, :math:`T_{ij} \propto \exp(\sigma \ell_{ij})`, that are the logits :math:`\ell`:
    what is left is a softmax with another :math:`\sigma`, at a small part of the cost. Each term says what of it that
    is, see :meth:`TransitionFunction.fix`: deterministic velocity terms become :class:`FixedLogits` (with their scale,
    the automatic one if they have none), connectivities and precomputed matrices become :class:`FixedProbabilities`.
    Stochastic and Monte Carlo terms stay: there, the scale enters the propagation of uncertainty too.

    Parameters
    ----------
    transition_function
        The transition function.
    graph, data
        The data that it is evaluated on.
    prefix
        Of the names of the new edges, to fix several transition functions on one graph.

    Returns
    -------
    transition_function : TransitionFunction
        With the same leaves for scales and weights.
    graph : NeighborGraph
        With the further edges, which the transition function reads.

    Examples
    --------
    >>> data = {"velocity": jv.transitions.Features(x, v)}
    >>> kernel, extended = jv.transitions.fix_logits(jv.transitions.Velocity(4.0), graph, data)
    >>> type(kernel).__name__, sorted(extended.edges)
    ('FixedLogits', ['connectivities', 'fixed 0'])
    """
    further: dict[str, Edges] = {}

    def fix(term: TransitionFunction) -> TransitionFunction:
        name = f"{prefix}fixed {len(further)}"
        fixed = term.fix(graph, data, name)
        if fixed is None:
            return term
        rest, further[name] = fixed
        return rest

    return map_terms(fix, transition_function), graph.with_edges(further)
